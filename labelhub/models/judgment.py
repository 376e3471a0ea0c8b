"""What was judged. Rows are added, never changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

if TYPE_CHECKING:
    from collections.abc import Iterable


class JudgmentQuerySet(models.QuerySet["Judgment"]):
    def standing(self) -> JudgmentQuerySet:
        """The newest revision of each."""
        return self.filter(superseded_by__isnull=True)

    def from_sources(self, sources: Iterable[str]) -> JudgmentQuerySet:
        return self.filter(source__in=list(sources))


class Judgment(models.Model):
    """One verdict on one task.

    A revision is a new row; the old one then names it in `superseded_by`, the one
    column that is ever written later. Verdicts speak of a and b; what the annotator
    saw is `shown_left`.
    """

    class Source(models.TextChoices):
        HUMAN = "human", "A person, in this project's queue"
        IMPORTED = "imported", "A person, elsewhere"
        FEEDBACK = "feedback", "An end user of an application"
        MODEL = "model", "A judge model"

    class Verdict(models.TextChoices):
        A = "a", "A is better"
        B = "b", "B is better"
        TIE = "tie", "Tie"
        BOTH_BAD = "both_bad", "Both bad"
        GOOD = "good", "Good"
        BAD = "bad", "Bad"

    class Side(models.TextChoices):
        A = "a", "A was on the left"
        B = "b", "B was on the left"
        NONE = "", "Not known, or no sides"

    project = models.ForeignKey(
        "labelhub.Project", models.PROTECT, related_name="judgments"
    )
    task = models.ForeignKey("labelhub.Task", models.PROTECT, related_name="judgments")
    source = models.CharField(max_length=10, choices=Source)
    verdict = models.CharField(max_length=10, choices=Verdict)
    strength = models.PositiveSmallIntegerField(default=0)
    """How much better the winner is, from 1; 0 if nobody asked, or nobody won. The
    side is in the verdict, so there is no sign that swapped sides could turn."""
    assignment = models.ForeignKey(
        "labelhub.Assignment", models.PROTECT, null=True, related_name="judgments"
    )
    annotator = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="judgments"
    )
    judge_name = models.CharField(max_length=200, blank=True)
    """Who judged, where it was not one of our annotators."""
    external_id = models.CharField(max_length=200, blank=True)
    revision = models.PositiveSmallIntegerField(default=1)
    superseded_by = models.OneToOneField(
        "self", models.PROTECT, null=True, related_name="supersedes"
    )
    surplus = models.BooleanField(default=False)
    """Arrived when the task needed no more: kept, but not counted towards N."""
    shown_left = models.CharField(max_length=1, choices=Side, blank=True)
    note = models.TextField(blank=True)
    seconds = models.FloatField(null=True)
    """From the item's being shown to its being judged, by the server's clock."""
    batch = models.ForeignKey(
        "labelhub.ImportBatch", models.PROTECT, null=True, related_name="judgments"
    )
    created_at = models.DateTimeField(db_default=Now())

    objects = JudgmentQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=(
                    Q(source="human", assignment__isnull=False, annotator__isnull=False)
                    | (~Q(source="human") & Q(assignment__isnull=True))
                ),
                name="judgment_human_has_assignment",
            ),
            models.UniqueConstraint(
                fields=["assignment", "revision"], name="judgment_revision_once"
            ),
            models.UniqueConstraint(
                fields=["assignment"],
                condition=Q(superseded_by__isnull=True, assignment__isnull=False),
                name="judgment_one_standing",
            ),
            models.UniqueConstraint(
                fields=["task", "source", "judge_name", "external_id"],
                condition=Q(assignment__isnull=True),
                name="judgment_imported_once",
            ),
        ]
        indexes = [
            models.Index(fields=["project", "id"], name="judgment_in_order"),
        ]

    def __str__(self) -> str:
        return f"{self.task_id}: {self.verdict}"
