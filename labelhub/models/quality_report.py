"""What a project's judgments were found to be worth, at one moment."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


class QualityReport(models.Model):
    """The numbers of `labelhub.measuring`, made by a process of its own."""

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        MEASURING = "measuring", "Measuring"
        COMPLETE = "complete", "Complete"
        FAILED = "failed", "Failed"

    project = models.ForeignKey(
        "labelhub.Project", models.PROTECT, related_name="quality_reports"
    )
    state = models.CharField(max_length=10, choices=State, default=State.WAITING)
    numbers = models.JSONField(default=dict)
    """{source: {what: estimate, …}}"""
    newest_judgment = models.BigIntegerField(default=0)
    """The id of the last judgment that was there when it began."""
    error = models.TextField(blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+"
    )
    created_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["project"],
                condition=Q(state__in=("waiting", "measuring")),
                name="qualityreport_one_at_a_time",
            ),
        ]
        indexes = [models.Index(fields=["project", "-id"], name="quality_newest")]

    def __str__(self) -> str:
        return f"{self.project_id}: {self.state}"

    @property
    def is_final(self) -> bool:
        return self.state in (self.State.COMPLETE, self.State.FAILED)
