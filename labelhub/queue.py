"""Leases: who judges what. The exactly-N promise lives here and nowhere else.

No other module writes an Assignment, a human Judgment, or the counters of Task and
Membership. What every verb keeps:

* n_done + n_leased <= n_required, always; a CHECK constraint says so too.
* One person's moves in one project happen one after another, for each verb begins by
  locking their membership: two tabs, a double click and a retry are one person.
* Locks are taken in the order membership, task, assignment; an assignment's state
  changes only while its task is locked, and nobody who holds one task waits for
  another. On SQLite the transaction (BEGIN IMMEDIATE) is the lock.
* A lease that ran out keeps its slot until it is reaped, so its holder may still go on.
* Times are the database's; no two machines' clocks are compared.

What every answer passes through is SQL, in queue_sql.py, which says why.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from random import SystemRandom
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from django.db import connection, transaction
from django.db.models import Exists, F, OuterRef
from django.db.models.functions import Now

from labelhub import probes, queue_sql, verdicts
from labelhub.models import Assignment, Judgment, Membership, Project, Task

if TYPE_CHECKING:
    from labelhub.models import User
    from labelhub.verdicts import Answer

State = Assignment.State

MAX_LEASES = 4
"""How many lease lengths a heartbeat may keep an item without an answer."""
ATTEMPTS = 50
"""How often a claim tries again when all that is left was locked a moment ago."""
PAUSE = 0.02
"""The longest pause between two attempts, in seconds."""

ABOVE_ALL_BANDS = 32_768
"""More than a priority can be."""

_dice = SystemRandom()


class Reason(StrEnum):
    """Why there is nothing to judge."""

    NOT_A_JUDGE = "not_a_judge"
    PAUSED = "paused"
    CLOSED = "closed"
    EMPTY = "empty"
    HELD = "held"
    SKIPPED = "skipped"
    WAITING = "waiting"
    DONE = "done"


@dataclass(frozen=True)
class EndState:
    reason: Reason
    until: datetime | None = None
    """When the first item that others hold comes back, unless they judge it."""


# --- Taking an item ---------------------------------------------------------


def claim(project: Project, annotator: User) -> Assignment | EndState:
    """The item this person should judge now, loaded for display.

    The one they hold already, else one from the highest priority band: from a random
    point on, because in a fixed order somebody who judged 50,000 tasks would walk
    past all of them at every claim.
    """
    for _ in range(ATTEMPTS):
        with transaction.atomic():
            if not _may_judge(project, annotator):
                return EndState(Reason.NOT_A_JUDGE)
            if project.status != Project.Status.OPEN:
                return EndState(Reason(project.status))
            pk = (
                _resume(project, annotator)
                or _probe(project, annotator)
                or _take(project, annotator)
            )
        if pk is not None:
            return Assignment.objects.for_display(pk, project, annotator)
        if reap(project):
            continue
        if not _is_any_left(project, annotator):
            break
        # Passed over because others had it locked. Waiting for their locks instead
        # deadlocks: a row that was waited for stays locked while the next is tried.
        time.sleep(_dice.uniform(0, PAUSE))
    return _end_state(project, annotator)


def _may_judge(project: Project, annotator: User) -> bool:
    """Lock the membership. A site admin who has none gets one, to count their work."""
    role = _value(queue_sql.ROLE, {"project": project.pk, "annotator": annotator.pk})
    if annotator.is_superuser:
        if role is None:
            join(project, annotator, Membership.Role.MANAGER)
        return True
    return role is not None and role != Membership.Role.VIEWER


def join(project: Project, user: User, role: str) -> bool:
    """Make somebody a member; False if they are one. Who returns keeps their count."""
    judged = Assignment.objects.filter(
        project=project, annotator=user, state=State.SUBMITTED
    )
    _, is_new = Membership.objects.get_or_create(
        project=project,
        user=user,
        defaults={"role": role, "n_judged": judged.count()},
    )
    return is_new


def _resume(project: Project, annotator: User) -> UUID | str | None:
    """The lease this person holds, made to last again; the newest if there are two."""
    pk: UUID | str | None = _value(
        queue_sql.RESUME,
        {
            "project": project.pk,
            "annotator": annotator.pk,
            "lease_seconds": project.lease_seconds,
        },
    )
    return pk


def _value(sql: str, parameters: dict[str, Any]) -> Any:
    """The first column of the first row, None if there is none."""
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        rows = cursor.fetchall()
    return rows[0][0] if rows else None


def _take(project: Project, annotator: User) -> UUID | str | None:
    """Lease a task that needs judging and that this person has not seen."""
    ids: dict[str, Any] = {"project": project.pk, "annotator": annotator.pk}
    if project.order == Project.Order.IMPORTED:
        task_id = _value(queue_sql.TAKE_FIRST, ids)
        return _lease(task_id, project, annotator) if task_id else None

    ids |= {"start": _dice.random(), "above": ABOVE_ALL_BANDS}
    while (band := _value(queue_sql.BAND, ids)) is not None:
        ids |= {"band": band, "above": band}
        for take in (queue_sql.TAKE_FROM, queue_sql.TAKE_BEFORE):
            if task_id := _value(take, ids):
                return _lease(task_id, project, annotator)
    return None


def _probe(project: Project, annotator: User) -> UUID | str | None:
    """Now and then, lease a copy of a task to see how this person judges.

    Only while there is something else for them, or they would tell it by that.
    """
    drawn = probes.draw(project, annotator)
    if drawn is None or not _is_any_left(project, annotator):
        return None
    # Under its lock, so that it cannot cease to be gold meanwhile.
    locked = Task.objects.select_for_update(no_key=True)
    original = locked.filter(pk=drawn.task_id, status__in=drawn.while_it_is).first()
    if original is None:
        return None
    copy = Task.objects.create(
        project=project,
        prompt_id=original.prompt_id,
        response_a_id=original.response_a_id,
        response_b_id=original.response_b_id,
        repeat_of=original,
        shuffle_key=original.shuffle_key,
        status=Task.Status.PROBE,
        n_required=1,
        n_leased=1,
    )
    return _lease(copy.pk, project, annotator, coin=drawn.swapped)


def _lease(
    task_id: int, project: Project, annotator: User, *, coin: bool | None = None
) -> UUID | str:
    """Write down who holds the task, and which response they see on the left.

    The second person sees the opposite of the first, and so on in pairs. Somebody
    who held the task before keeps their sides: an old page of theirs may still be
    open, and what is left on it must stay left.
    """
    pk: UUID | str = _value(
        queue_sql.LEASE,
        {
            "id": _stored_id(uuid4()),
            "project": project.pk,
            "task": task_id,
            "annotator": annotator.pk,
            "is_pairwise": project.is_pairwise,
            "coin": _dice.random() < 0.5 if coin is None else coin,
            "lease_seconds": project.lease_seconds,
        },
    )
    return pk


def _stored_id(pk: UUID) -> Any:
    return Assignment._meta.pk.get_db_prep_value(pk, connection)


def _is_any_left(project: Project, annotator: User) -> bool:
    """Whether a claim found nothing only because others had it locked."""
    ids = {"project": project.pk, "annotator": annotator.pk}
    return _value(queue_sql.ANY_LEFT, ids) is not None


def _end_state(project: Project, annotator: User) -> EndState:
    if not project.n_tasks:
        return EndState(Reason.EMPTY)
    mine = Assignment.objects.filter(task=OuterRef("task"), annotator=annotator)
    touched = mine.filter(state__in=[State.LEASED, State.SUBMITTED, State.SKIPPED])
    held = (
        Assignment.objects.filter(project=project, state=State.LEASED)
        .filter(~Exists(touched), task__status=Task.Status.OPEN)
        .order_by("lease_expires_at")
        .values_list("lease_expires_at", flat=True)
        .first()
    )
    if held:
        return EndState(Reason.HELD, until=held)
    skipped = Assignment.objects.filter(
        project=project,
        annotator=annotator,
        state=State.SKIPPED,
        task__status=Task.Status.OPEN,
    )
    if skipped.exists():
        return EndState(Reason.SKIPPED)
    if Task.objects.filter(project=project, status=Task.Status.OPEN).exists():
        return EndState(Reason.WAITING)
    return EndState(Reason.DONE)


# --- Giving it back ---------------------------------------------------------


@transaction.atomic
def submit(
    assignment_id: UUID,
    annotator: User,
    verdict_shown: str,
    *,
    note: str = "",
    replaces: int = 0,
) -> Judgment:
    """Store a verdict, in the words of the page; the judgment that stands for it.

    `replaces` is the revision the person saw as their own when they answered: 0 for
    none. An answer to anything but the standing revision is a retry of one that was
    stored, so a double click stores nothing. An answer whose lease was lost counts
    if there is a free slot, else it is kept as surplus.
    """
    assignment = _locked(assignment_id, annotator)
    task = assignment.task
    answer = verdicts.stored(
        verdict_shown, assignment.project, swapped=assignment.swapped
    )
    if assignment.state == State.SUBMITTED:
        standing = assignment.judgments.standing().get()
        if standing.revision != replaces:
            return standing
        return _revise(assignment, standing, answer, note)

    held = assignment.state == State.LEASED
    is_open = task.status == Task.Status.OPEN
    counts = (is_open or task.status == Task.Status.PROBE) and (
        held or task.n_done + task.n_leased < task.n_required
    )
    is_last = counts and is_open and task.n_done + 1 == task.n_required
    ids = {
        "task": task.pk,
        "assignment": _stored_id(assignment_id),
        "project": assignment.project_id,
        "annotator": annotator.pk,
        "held": int(held),
        "counts": int(counts),
        "status": Task.Status.DONE if is_last else task.status,
    }
    with connection.cursor() as cursor:
        for sql in queue_sql.COUNT_ANSWER:
            cursor.execute(sql, ids)
    return _judgment(assignment, answer, note, revision=1, surplus=not counts)


def _locked(assignment_id: UUID, annotator: User) -> Assignment:
    """The person's own assignment, ready to be changed."""
    ids = {"assignment": _stored_id(assignment_id), "annotator": annotator.pk}
    projects = list(Project.objects.raw(queue_sql.MEMBER, ids))
    tasks = list(Task.objects.raw(queue_sql.TASK, ids))
    # Read after both locks, so that it is as the last holder of them left it.
    for assignment in Assignment.objects.raw(queue_sql.ASSIGNMENT, ids):
        assignment.task = tasks[0]
        if projects:
            assignment.project = projects[0]
        return assignment
    raise Assignment.DoesNotExist


def _judgment(
    assignment: Assignment,
    answer: Answer,
    note: str,
    *,
    revision: int,
    surplus: bool,
    superseded_by: int | None = None,
) -> Judgment:
    project, swapped = assignment.project, assignment.swapped
    [judgment] = Judgment.objects.raw(
        queue_sql.JUDGMENT,
        {
            "project": project.pk,
            "task": assignment.task_id,
            "assignment": _stored_id(assignment.pk),
            "annotator": assignment.annotator_id,
            "verdict": answer.verdict,
            "strength": answer.strength,
            "shown_left": verdicts.side_on_the_left(project, swapped=swapped),
            "seconds": assignment.seconds_held,
            "note": note,
            "revision": revision,
            "surplus": surplus,
            "superseded_by": superseded_by,
        },
    )
    judgment.assignment = assignment
    return judgment


def _revise(
    assignment: Assignment, standing: Judgment, answer: Answer, note: str
) -> Judgment:
    """Put a new revision in the place of the standing one. No counter changes.

    Only one revision may stand, at every moment: so the new one enters as superseded
    (by the first, whose place in that unique column is always free), and takes its
    stand when the old one has left.
    """
    first_id = assignment.judgments.filter(revision=1).values("pk")[0]["pk"]
    judgment = _judgment(
        assignment,
        answer,
        note,
        revision=standing.revision + 1,
        surplus=standing.surplus,
        superseded_by=first_id,
    )
    Judgment.objects.filter(pk=standing.pk).update(superseded_by=judgment)
    Judgment.objects.filter(pk=judgment.pk).update(superseded_by=None)
    judgment.superseded_by = None
    return judgment


@transaction.atomic
def skip(assignment_id: UUID, annotator: User, reason: str = "") -> None:
    """Free the slot now and do not offer the task to this person again.

    They may still find it in their history and judge it after all.
    """
    _end(_locked(assignment_id, annotator), State.SKIPPED, skip_reason=reason)


@transaction.atomic
def release(assignment_id: UUID, annotator: User) -> None:
    """Free the slot; the task may come to this person again."""
    _end(_locked(assignment_id, annotator), State.RELEASED)


def release_leases(project: Project, annotator: User) -> None:
    """Free what somebody holds who may no longer judge here.

    In a transaction with what takes the right away: the lock keeps out a claim that
    has asked for the right already.
    """
    members = Membership.objects.select_for_update(no_key=True)
    list(members.filter(project=project, user=annotator).values_list("pk"))
    for pk in Assignment.objects.filter(
        project=project, annotator=annotator, state=State.LEASED
    ).values_list("pk", flat=True):
        release(pk, annotator)


def _end(assignment: Assignment, state: State, **fields: Any) -> None:
    """Close a lease without an answer; a judged item stays judged."""
    if assignment.state in (State.SUBMITTED, state):
        return
    if assignment.state == State.LEASED:
        Task.objects.filter(pk=assignment.task_id).update(n_leased=F("n_leased") - 1)
    Assignment.objects.filter(pk=assignment.pk).update(
        state=state, ended_at=Now(), **fields
    )


def extend(assignment: Assignment) -> bool:
    """Keep the item for somebody who is still reading; False if it is not theirs now.

    Not for ever: a page left open on a desk gives its item back in the end.
    """
    length = timedelta(seconds=assignment.project.lease_seconds)
    return bool(
        Assignment.objects.filter(
            pk=assignment.pk,
            state=State.LEASED,
            leased_at__gt=Now() - MAX_LEASES * length,
        ).update(lease_expires_at=Now() + length)
    )


def reap(project: Project | None = None) -> int:
    """Free the slots of leases that ran out; how many.

    Each in a transaction of its own: there are never more than there are annotators.
    """
    expired = Assignment.objects.filter(state=State.LEASED, lease_expires_at__lte=Now())
    if project is not None:
        expired = expired.filter(project=project)
    return sum(_reap_one(pk) for pk in expired.values_list("pk", flat=True))


@transaction.atomic
def _reap_one(assignment_id: UUID) -> bool:
    tasks = Task.objects.select_for_update(of=("self",), no_key=True)
    task_ids = list(tasks.filter(assignments=assignment_id).values_list("pk"))
    # Asked again under the lock: it may have been extended, judged or reaped since.
    if not Assignment.objects.filter(
        pk=assignment_id, state=State.LEASED, lease_expires_at__lte=Now()
    ).update(state=State.EXPIRED, ended_at=Now()):
        return False
    Task.objects.filter(pk__in=[pk for (pk,) in task_ids]).update(
        n_leased=F("n_leased") - 1
    )
    return True
