"""Probes: items that show how a person judges. They look like any other item.

A probe is one person's own copy of a task: of one they judged before (a repeat, with
the sides swapped), or of one whose answer is known (gold). Here it is decided when and
of what; `labelhub.queue` makes the copy and leases it. Its judgment never votes.

A project without probes pays nothing: no statement runs before the lot has fallen.
"""

from __future__ import annotations

from datetime import timedelta
from random import SystemRandom
from typing import TYPE_CHECKING, Any, NamedTuple

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q
from django.db.models.functions import Now

from labelhub.models import (
    Assignment,
    Event,
    GoldAnswer,
    Judgment,
    Project,
    Task,
    User,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

SPACING = 20
"""Items a person answers between a task and its repeat, at least …"""
PAUSE = timedelta(minutes=10)
"""… and the time that passes: what was just read is remembered, not judged."""
WINDOW = 500
"""Repeats are of somebody's last so many items."""

_dice = SystemRandom()
State = Assignment.State
_IN_QUEUE = (Task.Status.OPEN, Task.Status.DONE)


class Drawn(NamedTuple):
    task_id: int
    swapped: bool | None
    """Which sides to show; None where that is the queue's to draw."""
    while_it_is: tuple[str, ...]
    """It is not to be shown if it has another status by now."""


def draw(project: Project, annotator: User) -> Drawn | None:
    """What to show again, if it is time for that. The membership is locked."""
    share = project.probe_share
    # Two never follow each other, so after an ordinary item the odds are higher.
    if not share or _dice.random() >= share / (1 - share):
        return None
    if _last_was_probe(project, annotator):
        return None
    if _dice.random() * share < project.gold_share:
        return _gold(project, annotator)
    return _repeat(project, annotator)


def _last_was_probe(project: Project, annotator: User) -> bool:
    # Each state apart, as they lie in the index: see views/judging.py.
    fields: tuple[Any, ...] = ("ended_at", "task__repeat_of")
    ended = [
        found
        for state in (State.SUBMITTED, State.SKIPPED)
        for found in Assignment.objects.filter(
            project=project, annotator=annotator, state=state
        )
        .order_by("-ended_at")
        .values_list(*fields)[:1]
    ]
    return max(ended, key=lambda found: found[0])[1] is not None if ended else False


def _repeat(project: Project, annotator: User) -> Drawn | None:
    """Something they judged a while ago and have not been shown again."""
    repeated = Task.objects.filter(
        repeat_of=OuterRef("task"), assignments__annotator=annotator
    )
    judged = (
        Assignment.objects.filter(
            project=project, annotator=annotator, state=State.SUBMITTED
        )
        .order_by("-ended_at")
        .annotate(
            may_come=Q(
                ~Exists(repeated),
                ended_at__lte=Now() - PAUSE,
                task__status__in=_IN_QUEUE,
            )
        )
        .values_list("task_id", "swapped", "may_come")[SPACING:WINDOW]
    )
    found = [(pk, not swapped) for pk, swapped, may_come in judged if may_come]
    return Drawn(*_dice.choice(found), _IN_QUEUE) if found else None


def _gold(project: Project, annotator: User) -> Drawn | None:
    """A gold item they have not seen, neither as a copy nor before it became gold."""
    seen = Assignment.objects.filter(
        Q(task=OuterRef("task")) | Q(task__repeat_of=OuterRef("task")),
        annotator=annotator,
    )
    unseen = GoldAnswer.objects.filter(
        ~Exists(seen), task__project=project, is_active=True
    )
    found = list(unseen.values_list("task_id", flat=True))
    return Drawn(_dice.choice(found), None, (Task.Status.GOLD,)) if found else None


# --- Gold -------------------------------------------------------------------


@transaction.atomic
def set_gold(task: Task, verdict: str, explanation: str, actor: User) -> None:
    """Say what the right verdict is. The task leaves the queue; its votes stay."""
    task = _locked(task)
    said = {"verdict": verdict, "explanation": explanation, "is_active": True}
    if GoldAnswer.objects.filter(task=task, **said).exists():
        return  # Nothing to record where the form was sent twice.
    GoldAnswer.objects.update_or_create(
        task=task, defaults=said, create_defaults={**said, "created_by": actor}
    )
    if task.status in _IN_QUEUE:
        _move(task, Task.Status.GOLD, -1)
    _record(task, "gold.set", actor, {"verdict": verdict, "explanation": explanation})


@transaction.atomic
def withdraw_gold(task: Task, actor: User) -> None:
    """Show it to nobody else. It returns to the queue if nobody has had a copy."""
    task = _locked(task)
    if not GoldAnswer.objects.filter(task=task, is_active=True).update(is_active=False):
        return
    if not task.repeats.exists():
        GoldAnswer.objects.filter(task=task).delete()
        is_done = task.n_done >= task.n_required
        _move(task, Task.Status.DONE if is_done else Task.Status.OPEN, 1)
    _record(task, "gold.withdrawn", actor, {})


def _locked(task: Task) -> Task:
    return Task.objects.select_for_update(no_key=True).get(pk=task.pk)


def _move(task: Task, status: str, n: int) -> None:
    Task.objects.filter(pk=task.pk).update(status=status)
    Project.objects.filter(pk=task.project_id).update(n_tasks=F("n_tasks") + n)


def _record(task: Task, verb: str, actor: User, data: dict[str, str]) -> None:
    Event.objects.create(
        project_id=task.project_id,
        actor=actor,
        verb=verb,
        subject=f"task:{task.pk}",
        data=data,
    )


class GoldAnswered(NamedTuple):
    person: str
    prompt_id: int
    is_right: bool


def gold_answered(project: Project) -> Iterator[GoldAnswered]:
    """Every answer to a gold item; where people are told, it is their first."""
    answers = Judgment.objects.filter(
        project=project,
        annotator__isnull=False,
        task__repeat_of__gold__is_active=True,
    )
    if project.gold_feedback:
        answers = answers.filter(revision=1)
    else:
        answers = answers.standing()
    people = User.objects.in_bulk(set(answers.values_list("annotator_id", flat=True)))
    for pk, prompt, is_right in (
        answers.order_by("pk")
        .annotate(is_right=Q(verdict=F("task__repeat_of__gold__verdict")))
        .values_list("annotator_id", "task__prompt_id", "is_right")
        .iterator()
    ):
        yield GoldAnswered(str(people[pk]), prompt, is_right)


def gold_behind(judgment: Judgment) -> GoldAnswer | None:
    """The known answer to what was judged, if it was a gold item."""
    return GoldAnswer.objects.filter(
        task__repeats=judgment.task_id, is_active=True
    ).first()
