"""One noun a file."""

from __future__ import annotations

from labelhub.models.api_token import ApiToken, IdempotentAnswer
from labelhub.models.event import Event
from labelhub.models.gold_answer import GoldAnswer
from labelhub.models.judgment import Judgment
from labelhub.models.progress_report import ProgressReport
from labelhub.models.project import Guideline, ImportBatch, Membership, Project
from labelhub.models.prompt import Prompt, Response
from labelhub.models.quality_report import QualityReport
from labelhub.models.task import Assignment, Task
from labelhub.models.user import User

__all__ = [
    "ApiToken",
    "Assignment",
    "Event",
    "GoldAnswer",
    "Guideline",
    "IdempotentAnswer",
    "ImportBatch",
    "Judgment",
    "Membership",
    "ProgressReport",
    "Project",
    "Prompt",
    "QualityReport",
    "Response",
    "Task",
    "User",
]
