"""How far a project is, counted at one moment."""

from __future__ import annotations

from django.db import models


class ProgressReport(models.Model):
    """The numbers of `labelhub.progress`, of a project too large to count in a page."""

    project = models.OneToOneField(
        "labelhub.Project", models.CASCADE, related_name="progress_report"
    )
    numbers = models.JSONField(default=dict)
    counted_at = models.DateTimeField(null=True)
    asked_at = models.DateTimeField(null=True)
    """When a process was last asked to count; nobody asks again for some minutes."""

    def __str__(self) -> str:
        return f"progress of {self.project_id}"
