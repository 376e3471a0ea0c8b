"""A frozen dataset."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.urls import reverse


class FrozenError(Exception):
    """A snapshot that is ready was about to be changed."""


class Snapshot(models.Model):
    """Judgments of a project, turned into rows by a recipe, once and for all.

    Only the state moves, from freezing to ready or failed; everything else is
    written once. The database refuses to change a row that is ready (a trigger, see
    the migration snapshot_frozen). The files are in the artefact store under `uri`.
    """

    class State(models.TextChoices):
        FREEZING = "freezing", "Freezing"
        READY = "ready", "Ready"
        FAILED = "failed", "Failed"

    project = models.ForeignKey(
        "labelhub.Project", models.PROTECT, related_name="snapshots"
    )
    state = models.CharField(max_length=10, choices=State, default=State.FREEZING)
    recipe = models.JSONField()
    """A `training.recipes.Recipe` as a dict; `for` names the algorithm."""
    n_judgments = models.PositiveIntegerField(default=0)
    n_train = models.PositiveIntegerField(default=0)
    n_eval = models.PositiveIntegerField(default=0)
    ledger = models.JSONField(default=dict)
    """{"judged", "exported", "left_out": {reason: n}, "rows", "demonstrations"}"""
    statistics = models.JSONField(default=dict)
    sha256 = models.CharField(max_length=64, blank=True)
    """Over the canonical rows, in order: the same content has the same hash."""
    files = models.JSONField(default=list)
    """[{"name", "bytes", "sha256"}]"""
    uri = models.CharField(max_length=500, blank=True)
    error = models.TextField(blank=True)
    progress = models.CharField(max_length=200, blank=True)
    """What the process that freezes it is doing, while it does."""
    beat_at = models.DateTimeField(null=True)
    """When that process last said so."""
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+"
    )
    created_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=~Q(state="ready") | ~Q(sha256=""),
                name="snapshot_ready_has_hash",
            ),
        ]
        indexes = [models.Index(fields=["project", "-id"], name="snapshot_newest")]

    def __str__(self) -> str:
        return f"snapshot {self.pk} for {self.recipe.get('for', '?')}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding and self.State.READY in (
            Snapshot.objects.filter(pk=self.pk).values_list("state", flat=True)
        ):
            raise FrozenError(
                f"Snapshot {self.pk} is frozen; freeze a new one instead."
            )
        super().save(*args, **kwargs)

    def get_absolute_url(self) -> str:
        return reverse("training:snapshot", args=[self.project.slug, self.pk])
