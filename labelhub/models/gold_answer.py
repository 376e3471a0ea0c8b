"""What is known about a task beforehand. Apart from Task, so that it cannot leak."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models.functions import Now

from labelhub.models.judgment import Judgment


class GoldAnswer(models.Model):
    """The right verdict on a task that people are shown to see how they judge.

    The task itself leaves the queue: what people get is a copy each, a probe.
    """

    task = models.OneToOneField("labelhub.Task", models.PROTECT, related_name="gold")
    verdict = models.CharField(max_length=10, choices=Judgment.Verdict)
    explanation = models.TextField(blank=True)
    """Shown to whoever has answered, where the project gives feedback."""
    is_active = models.BooleanField(default=True)
    """Withdrawn ones are shown to nobody else and count for nothing."""
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+"
    )
    created_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return f"{self.task_id}: {self.verdict}"
