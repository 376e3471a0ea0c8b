"""How far a project is, how fast it goes, when it will be done, and what is stuck.

Counting reads every task and judgment, which in a large project takes seconds: a page
then shows what a process of its own has counted last, and asks for it anew.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Exists, Max, OuterRef, Q, QuerySet, Sum
from django.db.models.functions import Now, TruncHour
from django.utils import timezone
from django_q.tasks import async_task

from labelhub import access
from labelhub.models import (
    Assignment,
    Judgment,
    Membership,
    ProgressReport,
    Project,
    Task,
)

SMALL = 5_000
"""Tasks of a project that is counted while its page is made."""
STALE = timedelta(minutes=5)
ACTIVE = timedelta(minutes=10)
"""Who answered or skipped in this time is active."""
DAYS = 14
"""How far back the chart goes."""
PACE_DAYS = 7
"""How far back the pace is taken from."""
LATEST = 20_000
"""Judgments that the seconds of each person are taken from."""
STUCK_SHOWN = 10

State = Assignment.State


def of(project: Project) -> dict[str, Any]:
    """The numbers of `count`, with `counted_at`; empty where none are known yet."""
    if project.n_tasks <= SMALL:
        return count(project) | {"counted_at": timezone.now()}
    report, _ = ProgressReport.objects.get_or_create(project=project)
    stale = ProgressReport.objects.filter(pk=report.pk).exclude(
        asked_at__gt=Now() - STALE
    )
    if stale.update(asked_at=Now()):
        transaction.on_commit(
            lambda: async_task("labelhub.tasks.count_progress", project.pk),
            robust=True,
        )
    if report.counted_at is None:
        return {}
    return dict(report.numbers) | {"counted_at": report.counted_at}


def start(project_id: int) -> subprocess.Popen[bytes]:
    """Start the process that counts; it outlives the caller."""
    return subprocess.Popen(  # noqa: S603
        [
            *(sys.executable, str(settings.BASE_DIR / "manage.py")),
            *("count_progress", str(project_id)),
        ],
        cwd=settings.BASE_DIR,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )


def store(project: Project) -> None:
    numbers = count(project)
    ProgressReport.objects.update_or_create(
        project=project, defaults={"numbers": numbers, "counted_at": timezone.now()}
    )


# --- Counting -----------------------------------------------------------------


def count(project: Project) -> dict[str, Any]:
    """All of it, as JSON."""
    now = timezone.now()
    tasks = project.tasks.filter(status__in=("open", "done"), repeat_of=None).aggregate(
        n_finished=Count("pk", filter=Q(status="done")),
        n_leased=Sum("n_leased", default=0),
        n_votes=Sum("n_done", default=0),
        n_wanted=Sum("n_required", default=0),
    )
    hours = _hours(project, now)
    pace = pace_of(hours, now)
    return {
        "tasks": tasks,
        "sources": _sources(project),
        "days": _days(hours, now),
        "eta": eta_of(tasks["n_wanted"] - tasks["n_votes"], pace),
        "seconds": _seconds(project),
        "stuck": _stuck(project),
        "by_guideline": _by_guideline(project),
    }


def _sources(project: Project) -> list[dict[str, Any]]:
    by_source = (
        Judgment.objects.standing()
        .filter(project=project)
        .values("source")
        .annotate(n=Count("pk"))
        .order_by("source")
    )
    return [
        {"label": Judgment.Source(row["source"]).label, "n": row["n"]}
        for row in by_source
    ]


def _hours(project: Project, now: datetime) -> dict[datetime, int]:
    """How many tasks people judged in each hour. A changed answer is no new one."""
    judged = (
        Judgment.objects.filter(
            project=project,
            source=Judgment.Source.HUMAN,
            revision=1,
            task__repeat_of=None,
            created_at__gt=now - timedelta(days=DAYS),
        )
        .annotate(hour=TruncHour("created_at", tzinfo=UTC))
        .values_list("hour")
        .annotate(n=Count("pk"))
    )
    return dict(judged)


def _days(hours: dict[datetime, int], now: datetime) -> list[dict[str, Any]]:
    """Each day of the chart, the oldest first, those without a judgment too."""
    by_day = Counter[str]()
    for hour, n in hours.items():
        by_day[hour.date().isoformat()] += n
    first = now.date() - timedelta(days=DAYS - 1)
    days = [(first + timedelta(days=n)).isoformat() for n in range(DAYS)]
    return [{"day": day, "n": by_day[day]} for day in days]


class Pace(NamedTuple):
    """Judgments a day, and by how much that mean may be off (95 %)."""

    mean: float
    margin: float


def pace_of(hours: dict[datetime, int], now: datetime) -> Pace | None:
    """Over the last whole spans of 24 hours, from the first judgment on; None if two
    are not there: one day says nothing about the next."""
    by_span = Counter[int]()
    for hour, n in hours.items():
        by_span[int((now - hour) / timedelta(days=1))] += n
    if not by_span:
        return None
    spans = [by_span[n] for n in range(min(PACE_DAYS, max(by_span) + 1))]
    if len(spans) < 2 or not any(spans):
        return None
    error = statistics.stdev(spans) / len(spans) ** 0.5
    return Pace(statistics.mean(spans), _T[len(spans) - 1] * error)


_T = {1: 12.71, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447}
"""Student's t at 97.5 % by degrees of freedom."""


def eta_of(n_left: int, pace: Pace | None) -> dict[str, Any] | None:
    """The days it takes at this pace: likely, at best, at worst (None: no end is
    seen). None of it where nothing is left, or no pace is known.

    >>> eta_of(100, Pace(mean=10.0, margin=5.0))
    {'days': 10.0, 'soonest': 6.7, 'latest': 20.0, 'a_day': 10.0}
    >>> eta_of(100, Pace(mean=10.0, margin=12.0))["latest"]
    """
    if n_left <= 0 or pace is None:
        return None
    slowest = pace.mean - pace.margin
    return {
        "days": round(n_left / pace.mean, 1),
        "soonest": round(n_left / (pace.mean + pace.margin), 1),
        "latest": round(n_left / slowest, 1) if slowest > 0 else None,
        "a_day": round(pace.mean, 1),
    }


def _seconds(project: Project) -> dict[str, float]:
    """The median seconds of each person's latest judgments: {user id: seconds}."""
    latest = (
        Judgment.objects.filter(project=project, source=Judgment.Source.HUMAN)
        .order_by("-pk")
        .values_list("annotator_id", "seconds")[:LATEST]
    )
    by_person = defaultdict(list)
    for annotator, seconds in latest:
        if seconds is not None:
            by_person[str(annotator)].append(seconds)
    return {who: round(statistics.median(all_), 1) for who, all_ in by_person.items()}


def _by_guideline(project: Project) -> dict[str, int]:
    """How many judgments stand that were made by each version: {guideline id: n}."""
    judged = Assignment.objects.filter(
        guideline__in=project.guidelines.values("pk"),
        state=State.SUBMITTED,
        task__repeat_of=None,
    )
    by_version = judged.values_list("guideline").annotate(n=Count("pk"))
    return {str(guideline): n for guideline, n in by_version}


def _stuck(project: Project) -> dict[str, Any]:
    """Open tasks that somebody skipped, and that no judge here may still get."""
    touched = Assignment.objects.filter(
        task=OuterRef(OuterRef("pk")),
        annotator=OuterRef("user"),
        state__in=(State.LEASED, State.SUBMITTED, State.SKIPPED),
    )
    judges = Membership.objects.filter(project=project, role__in=access.JUDGES)
    skipped = Assignment.objects.filter(project=project, state=State.SKIPPED)
    stuck = (
        Task.objects.filter(
            project=project, status=Task.Status.OPEN, pk__in=skipped.values("task")
        )
        .filter(~Exists(judges.filter(~Exists(touched))))
        .order_by("pk")
    )
    ids = list(stuck.values_list("pk", flat=True)[:STUCK_SHOWN])
    n = stuck.count() if len(ids) == STUCK_SHOWN else len(ids)
    return {"n": n, "first": ids}


# --- Now ----------------------------------------------------------------------


def active(project: Project) -> dict[int, datetime]:
    """When each member last did something, of those for whom that is not long ago."""
    done = _of_members(project, State.SUBMITTED, State.SKIPPED).filter(
        ended_at__gt=Now() - ACTIVE
    )
    return dict(done.values_list("annotator").annotate(at=Max("ended_at")))


def leases(project: Project) -> dict[str, int]:
    """How many items people hold, and how many of these leases have run out."""
    return _of_members(project, State.LEASED).aggregate(
        n=Count("pk"), n_expired=Count("pk", filter=Q(lease_expires_at__lte=Now()))
    )


def _of_members(project: Project, *states: State) -> QuerySet[Assignment]:
    """By way of the members, for the index of a person's history begins with them."""
    members = project.memberships.values("user")
    return Assignment.objects.filter(
        project=project, annotator__in=members, state__in=states
    )
