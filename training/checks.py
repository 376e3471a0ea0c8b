"""What tells the operator before it hurts. Registered by the app's configuration."""

from __future__ import annotations

import math
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register


@register()
def queue_is_a_doorbell(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """A task must not be handed out again while its first run still waits or works.

    django-q2's `retry` counts from when a task is fetched, not from when it starts,
    and a cluster fetches `queue_limit` tasks ahead.
    """
    queue: dict[str, Any] = settings.Q_CLUSTER
    timeout, workers = queue.get("timeout"), queue.get("workers") or 1
    ahead = queue.get("queue_limit", workers**2) + 1
    rounds = 1 + math.ceil(ahead / workers)
    if timeout and queue.get("retry", 60) > timeout * rounds:
        return []
    return [
        Error(
            "Q_CLUSTER would run slow tasks a second time.",
            hint=f"Set a timeout, and a retry of more than {rounds} times as much.",
            id="training.E001",
        )
    ]


@register()
def failed_tasks_are_not_repeated(
    app_configs: Any, **kwargs: Any
) -> list[CheckMessage]:
    """Runs are retried by their own rules; the queue's would go on for ever."""
    queue = settings.Q_CLUSTER
    if queue.get("ack_failures") and queue.get("max_attempts") == 1:
        return []
    return [
        Error(
            "Q_CLUSTER would repeat failed tasks.",
            hint="Set ack_failures to True and max_attempts to 1.",
            id="training.E002",
        )
    ]


@register()
def queue_is_in_the_database(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Other brokers lose what a killed worker held, and are not in our transactions."""
    if settings.Q_CLUSTER.get("orm") == "default":
        return []
    return [
        Error(
            "Q_CLUSTER does not use the database as its broker.",
            hint='Set "orm": "default".',
            id="training.E003",
        )
    ]
