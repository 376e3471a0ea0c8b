"""A run's curves, small enough to draw: buckets that keep what a mean would hide.

A bucket is a stretch of steps. It keeps the least and the greatest value, so that a
spike of one step survives, and says which values were NaN or infinite. The database
does the grouping, so that a million points cost no memory here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Case, Count, F, Max, Min, Q, Sum, Value, When

from training.models import MetricPoint, Run

MAX_BUCKETS = 1000
_COUNTS = {"nan": "n_nan", "inf": "n_inf", "-inf": "n_minus_inf"}


@dataclass
class Series:
    """One metric as parallel lists, by rising step. Lists hold one item a bucket.

    `attempt` is 0 for what counts, and the fence of an attempt for its lost tail: what
    it reported after the checkpoint from which the next one went on.
    """

    name: str
    attempt: int
    steps: list[int] = field(default_factory=list)
    mean: list[float | None] = field(default_factory=list)
    low: list[float | None] = field(default_factory=list)
    high: list[float | None] = field(default_factory=list)
    nonfinite: list[tuple[int, str, int]] = field(default_factory=list)
    """(step, 'nan' | 'inf' | '-inf', how many), where there were any."""


@dataclass
class Curves:
    """Every series of a run from the step `start` on.

    Whoever holds earlier curves drops their buckets from `start` on and appends these.
    """

    cursor: int
    """The newest point in here: ask for what came after it."""
    width: int
    """Steps in a bucket."""
    start: int
    series: list[Series]


def read_curves(run: Run, *, after: int = 0, width: int = 0) -> Curves | None:
    """The run's curves, or None if nothing came after the point `after`.

    With the cursor and width of earlier curves, only buckets that changed are read.
    """
    new = MetricPoint.objects.filter(run=run, pk__gt=after).aggregate(
        newest=Max("pk"), first=Min("step"), last=Max("step")
    )
    if new["newest"] is None:
        return None
    needed = bucket_width(max(run.max_steps, run.step, new["last"]))
    if after and width >= needed:
        start = new["first"] - new["first"] % width
    else:
        # The caller has no curves yet, or the run outgrew them: every edge is new.
        width, start = needed, 0
    return Curves(new["newest"], width, start, _read_series(run, start, width))


def bucket_width(last_step: int) -> int:
    """Steps in a bucket: the least power of two that makes at most MAX_BUCKETS.

    A power of two, so that the edges seldom move while a run grows.

    >>> [bucket_width(step) for step in (0, 999, 1000, 100_000)]
    [1, 1, 2, 128]
    """
    width = 1
    while last_step // width >= MAX_BUCKETS:
        width *= 2
    return width


def _read_series(run: Run, start: int, width: int) -> list[Series]:
    found: dict[tuple[str, int], Series] = {}
    for row in _bucket_rows(run, start, width):
        key = row["name"], row["lost"]
        series = found.setdefault(key, Series(*key))
        series.steps.append(row["last"])
        series.low.append(row["low"])
        series.high.append(row["high"])
        series.mean.append(_mean(row, width))
        for kind, count in _COUNTS.items():
            if row[count]:
                series.nonfinite.append((row["last"], kind, row[count]))
    return list(found.values())


def _bucket_rows(run: Run, start: int, width: int) -> Iterator[Mapping[str, Any]]:
    points = MetricPoint.objects.filter(run=run, step__gte=start)
    lost = _lost_tails(run)
    rows = points.annotate(
        lost=Case(*lost, default=Value(0)) if lost else Value(0),
        bucket=F("step") - F("step") % width,
    ).values("name", "lost", "bucket")
    return (
        rows.annotate(
            last=Max("step"),
            # Not Avg: PostgreSQL's squares the values and refuses those over 1e154.
            total=Sum(F("value") / width),
            n=Count("value"),
            low=Min("value"),
            high=Max("value"),
            **{
                count: Count("pk", filter=Q(nonfinite=kind))
                for kind, count in _COUNTS.items()
            },
        )
        .order_by("name", "lost", "bucket")
        .iterator()
    )


def _lost_tails(run: Run) -> list[When]:
    """For each attempt but the last: from which step on its points are lost."""
    if run.fence < 2:
        return []
    first_steps = (
        MetricPoint.objects.filter(run=run)
        .values("attempt", "attempt__fence")
        .annotate(first=Min("step"))
        .order_by("-attempt__fence")
    )
    tails = []
    cut: int | None = None
    for row in first_steps:
        if cut is not None:
            fence = Value(row["attempt__fence"])
            tails.append(When(attempt=row["attempt"], step__gte=cut, then=fence))
        cut = row["first"] if cut is None else min(cut, row["first"])
    return tails


def _mean(row: Mapping[str, Any], width: int) -> float | None:
    if not row["n"]:
        return None
    # Kept between the two, for rounding may carry the greatest doubles to infinity.
    mean = row["total"] / row["n"] * width
    return float(min(max(mean, row["low"]), row["high"]))
