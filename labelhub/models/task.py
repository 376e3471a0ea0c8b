"""What is to be judged, and who holds it."""

from __future__ import annotations

import json
import re
import uuid
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import connection, models
from django.db.models import F, Q
from django.db.models.functions import Now

if TYPE_CHECKING:
    from labelhub.models.prompt import Response

if TYPE_CHECKING:
    from labelhub.models.project import Project
    from labelhub.models.user import User


class Task(models.Model):
    """One pair (or one response) of one prompt, to be judged by n_required people.

    Large text stays out of this table: the queue scans it. `n_done` counts the
    human judgments that count towards n_required, `n_leased` the live leases; both
    are changed by `labelhub.queue` alone, in the transaction that makes them true.
    """

    class Status(models.TextChoices):
        LOADING = "loading", "Loading: its import is not complete"
        OPEN = "open", "Open"
        DONE = "done", "Done"
        RETIRED = "retired", "Retired"
        GOLD = "gold", "Gold: its answer is known"
        PROBE = "probe", "Probe: a copy for one person"

    project = models.ForeignKey(
        "labelhub.Project", models.PROTECT, related_name="tasks"
    )
    prompt = models.ForeignKey("labelhub.Prompt", models.PROTECT, related_name="tasks")
    response_a = models.ForeignKey(
        "labelhub.Response", models.PROTECT, related_name="+"
    )
    response_b = models.ForeignKey(
        "labelhub.Response", models.PROTECT, null=True, related_name="+"
    )
    priority = models.SmallIntegerField(default=0)
    """Bands: a higher one is served first, at random within."""
    shuffle_key = models.FloatField()
    """Uniform in [0, 1) for random order; rising for the order of import."""
    n_required = models.PositiveSmallIntegerField(default=1)
    n_done = models.PositiveSmallIntegerField(default=0)
    n_leased = models.PositiveSmallIntegerField(default=0)
    status = models.CharField(max_length=10, choices=Status, default=Status.LOADING)
    repeat_of = models.ForeignKey(
        "self", models.PROTECT, null=True, related_name="repeats"
    )
    """Set on probes, and on nothing else: see labelhub.probes."""
    batch = models.ForeignKey(
        "labelhub.ImportBatch", models.PROTECT, null=True, related_name="tasks"
    )
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(response_b__isnull=True)
                | Q(response_a__lt=F("response_b")),
                name="task_a_before_b",
            ),
            models.CheckConstraint(
                condition=Q(n_required__gte=F("n_done") + F("n_leased")),
                name="task_exactly_n",
            ),
            models.UniqueConstraint(
                fields=["response_a", "response_b"],
                condition=Q(repeat_of__isnull=True, response_b__isnull=False),
                name="task_pair_once",
            ),
            models.UniqueConstraint(
                fields=["response_a"],
                condition=Q(repeat_of__isnull=True, response_b__isnull=True),
                name="task_response_once",
            ),
        ]
        indexes = [
            # What the queue walks. Its query must repeat this condition in literals.
            models.Index(
                F("project"),
                F("priority").desc(),
                F("shuffle_key"),
                name="task_claimable",
                condition=Q(status="open")
                & Q(n_required__gt=F("n_done") + F("n_leased")),
            ),
            models.Index(fields=["project", "status", "id"], name="task_by_status"),
            models.Index(fields=["project", "id"], name="task_in_order"),
        ]

    def __str__(self) -> str:
        return f"task {self.pk}"

    @property
    def responses(self) -> list[Response]:
        """Both, or the only one."""
        return [r for r in (self.response_a, self.response_b) if r is not None]


class AssignmentManager(models.Manager["Assignment"]):
    def for_display(
        self, pk: uuid.UUID | str, project: Project, annotator: User
    ) -> Assignment:
        """A person's item with all that the judging page shows of it, in one query.

        In SQL, for it is asked for at every answer: see labelhub.queue.
        """
        key = self.model._meta.pk.get_db_prep_value(pk, connection)
        for item in self.raw(_SHOWN, [key, project.pk, annotator.pk]):
            item.project = project
            item.turns = json.loads(item.messages)
            item.language = _language(json.loads(item.metadata))
            return item
        raise self.model.DoesNotExist


def _language(metadata: dict[str, object]) -> str:
    """What the import named as the language, if it looks like a tag (BCP 47)."""
    named = metadata.get("language") or metadata.get("lang") or ""
    return named if isinstance(named, str) and _LANGUAGE_TAG.fullmatch(named) else ""


_LANGUAGE_TAG = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")

_SHOWN = """
    SELECT assignment.*, prompt.messages, prompt.metadata,
        a.text AS text_a, b.text AS text_b
    FROM labelhub_assignment assignment
    JOIN labelhub_task task ON task.id = assignment.task_id
    JOIN labelhub_prompt prompt ON prompt.id = task.prompt_id
    JOIN labelhub_response a ON a.id = task.response_a_id
    LEFT JOIN labelhub_response b ON b.id = task.response_b_id
    WHERE assignment.id = %s AND assignment.project_id = %s
    AND assignment.annotator_id = %s
"""


class Assignment(models.Model):
    """The lease: one task in the hands of one annotator.

    Unique for the two together, so somebody who comes back to a task takes up the
    row they had. `swapped` says that response_b was shown on the left.
    """

    class State(models.TextChoices):
        LEASED = "leased", "Leased"
        SUBMITTED = "submitted", "Submitted"
        SKIPPED = "skipped", "Skipped"
        EXPIRED = "expired", "Expired"
        RELEASED = "released", "Released"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(
        "labelhub.Project", models.PROTECT, related_name="assignments"
    )
    task = models.ForeignKey(Task, models.PROTECT, related_name="assignments")
    annotator = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, related_name="assignments"
    )
    guideline = models.ForeignKey(
        "labelhub.Guideline", models.PROTECT, null=True, related_name="+"
    )
    state = models.CharField(max_length=10, choices=State, default=State.LEASED)
    swapped = models.BooleanField(default=False)
    lease_expires_at = models.DateTimeField()
    leased_at = models.DateTimeField(db_default=Now())
    """When it was handed out, the last time."""
    skip_reason = models.TextField(blank=True)
    ended_at = models.DateTimeField(null=True)
    """When it was submitted, skipped, released or reaped."""

    seconds_held: float
    """From leased_at to now; set by `labelhub.queue`, not stored."""
    messages: str
    metadata: str
    turns: list[dict[str, str]]
    language: str
    text_a: str
    text_b: str | None
    """What is shown; set by `for_display`, not stored."""

    objects = AssignmentManager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["task", "annotator"], name="assignment_once_per_person"
            ),
        ]
        indexes = [
            models.Index(
                fields=["annotator", "project", "state", "ended_at"],
                name="assignment_history",
            ),
            models.Index(
                fields=["lease_expires_at"],
                name="assignment_expiring",
                condition=Q(state="leased"),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.task_id} with {self.annotator_id}: {self.state}"
