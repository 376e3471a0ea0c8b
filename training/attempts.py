"""The life of an attempt after it is claimed: beat, then one of four ends.

Each end moves the run through `runs.transition`, which compares the fence: of all who
think that an attempt is theirs, one is believed, and once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from training.models import Attempt, GpuSlot, Run
from training.runs import LEASE, ring, transition

State = Run.State

MAX_LOST = 3
"""So many attempts may be lost before the run is given up."""


def beat(attempt: Attempt) -> bool:
    """Renew the lease; False tells a supervisor that the run is no longer its own."""
    renewed = Attempt.objects.filter(pk=attempt.pk, state=Attempt.State.RUNNING).update(
        lease_until=Now() + LEASE
    )
    return bool(renewed)


def finish(
    attempt: Attempt,
    to: str,
    *,
    message: str,
    result: Mapping[str, Any] | None = None,
    error: Mapping[str, Any] | None = None,
    uri: str = "",
    **facts: Any,
) -> bool:
    """Accept what an attempt came to, once; False where the fence rejects it.

    `facts` are fields of the attempt. Its processes must be gone: its slot is freed.
    """
    with transaction.atomic():
        moved = transition(
            attempt.run,
            Run.ACTIVE,
            to,
            kind=to,
            message=message,
            attempt=attempt,
            finished_at=Now(),
            result=result,
            error=error,
            uri=uri,
            phase="",
        )
        if moved:
            _close(attempt, Attempt.State(to), error=error, **facts)
            free_slot(attempt)
    if moved:
        ring()
    return moved


def interrupt(attempt: Attempt, **facts: Any) -> bool:
    """Queue a run again whose host is going down; its checkpoint stays."""
    with transaction.atomic():
        moved = transition(
            attempt.run,
            {State.RUNNING},
            State.QUEUED,
            kind="interrupted",
            message=f"{attempt.worker.host} is going down. Queued again.",
            attempt=attempt,
            phase="",
        )
        if moved:
            _close(attempt, Attempt.State.INTERRUPTED, **facts)
            free_slot(attempt)
    if moved:
        ring()
    return moved


def lose(attempt: Attempt, reason: str) -> bool:
    """Declare an attempt lost. Its run is queued again, or given up after the third.

    The slot stays taken: only its own host knows when no process holds it any more.
    """
    run = Run.objects.get(pk=attempt.run_id)
    to, message, error = _after_loss(run, reason)
    with transaction.atomic():
        moved = transition(
            run,
            Run.ACTIVE if to != State.QUEUED else {State.RUNNING},
            to,
            kind="lost",
            message=message,
            attempt=attempt,
            phase="",
            error=error,
            finished_at=None if to == State.QUEUED else Now(),
        )
        if moved:
            _close(attempt, Attempt.State.LOST, error=_lost_error(reason))
    if moved:
        ring()
    return moved


def free_slot(attempt: Attempt) -> bool:
    return bool(GpuSlot.objects.filter(attempt=attempt).update(attempt=None))


def _close(attempt: Attempt, state: Attempt.State, **facts: Any) -> None:
    Attempt.objects.filter(pk=attempt.pk).update(
        state=state, finished_at=Now(), lease_until=None, **facts
    )


def _after_loss(run: Run, reason: str) -> tuple[str, str, dict[str, Any] | None]:
    if run.wish == Run.Wish.CANCEL:
        return State.CANCELED, f"{reason} It was being canceled.", None
    if run.wish == Run.Wish.STOP:
        message = f"{reason} It was being stopped and has saved no model."
        return State.FAILED, message, _lost_error(message)
    lost = 1 + _lost_since_retry(run)
    if lost >= MAX_LOST:
        message = f"{reason} {lost} attempts have been lost: given up."
        return State.FAILED, message, _lost_error(message)
    return State.QUEUED, f"{reason} Queued again.", None


def _lost_since_retry(run: Run) -> int:
    retried = run.events.filter(kind="retried").order_by("pk").last()
    since = retried.data["fence"] if retried else 0
    return run.attempts.filter(state=Attempt.State.LOST, fence__gt=since).count()


def _lost_error(message: str) -> dict[str, Any]:
    return {
        "code": "",
        "class": "Lost",
        "message": message,
        "where": "",
        "lines": [],
    }
