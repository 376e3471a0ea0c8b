"""The audit trail. Rows are added, never changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Cast, Now


class EventQuerySet(models.QuerySet["Event"]):
    def containing(self, text: str) -> EventQuerySet:
        """Those whose subject, verb, actor or details hold the text."""
        return self.annotate(details=Cast("data", models.TextField())).filter(
            Q(subject__icontains=text)
            | Q(verb__icontains=text)
            | Q(actor__username__icontains=text)
            | Q(details__icontains=text)
        )


class Event(models.Model):
    """Somebody did something: `project.paused`, `membership.added` …"""

    project = models.ForeignKey(
        "labelhub.Project", models.PROTECT, null=True, related_name="events"
    )
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+"
    )
    verb = models.CharField(max_length=60)
    subject = models.CharField(max_length=100, blank=True)
    """What it was done to, as `task:12`."""
    data = models.JSONField(default=dict)
    at = models.DateTimeField(db_default=Now())

    objects = EventQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["project", "-id"], name="event_newest")]

    def __str__(self) -> str:
        return f"{self.verb} {self.subject}"

    @property
    def what(self) -> str:
        """`member.role_changed` as people say it: Member role changed."""
        return self.verb.replace(".", " ").replace("_", " ").capitalize()

    @property
    def facts(self) -> list[tuple[str, str]]:
        """The details, flat, without what is empty: ("recipe for", "dpo")."""
        return list(_flat(self.data))


def _flat(data: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in data.items():
        name = f"{prefix}{key.replace('_', ' ')}"
        if isinstance(value, dict):
            yield from _flat(value, f"{name} ")
        elif isinstance(value, list):
            yield name, ", ".join(map(str, value))
        elif value not in ("", None):
            yield name, str(value)
