"""A run's curves, small enough to draw: buckets that keep what a mean would hide.

A bucket is a stretch of steps. It keeps the least and the greatest value, so that a
spike of one step survives, and says which values were NaN or infinite. They were made
when the points came in (`training.metric_points`), so that a million points cost a
reader no more than a thousand.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from django.db.models import F, Max, Min

from training.metric_points import WIDTHS
from training.models import MetricBucket, MetricPoint, Run

MAX_BUCKETS = 2000


@dataclass
class Series:
    """One metric as parallel lists, by rising step. Lists hold one item a bucket.

    `attempt` is 0 for what counts, and the fence of an attempt for its lost tail: what
    it reported after the checkpoint from which the next one went on.
    """

    name: str
    attempt: int
    steps: list[int] = field(default_factory=list)
    """Of each bucket the last step that has a value."""
    mean: list[float | None] = field(default_factory=list)
    low: list[float | None] = field(default_factory=list)
    high: list[float | None] = field(default_factory=list)
    nonfinite: list[tuple[int, str, int]] = field(default_factory=list)
    """(step, 'nan' | 'inf' | '-inf', how many), where there were any."""
    last: float | None = None
    """The value at the last step; None if that was not finite."""


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


class _Reported(NamedTuple):
    """What one attempt reported under one name."""

    attempt: int
    fence: int
    name: str
    first: int
    last: int


class _Row(NamedTuple):
    attempt: int
    name: str
    start: int
    last: int
    n: int
    total: float
    low: float | None
    high: float | None
    n_nan: int
    n_inf: int
    n_minus_inf: int


def read_curves(run: Run, *, after: int = 0, width: int = 0) -> Curves | None:
    """The run's curves, or None if nothing came after the point `after`.

    With the cursor and width of earlier curves, only buckets that changed are read.
    """
    points = MetricPoint.objects.filter(run=run)
    newest = points.aggregate(newest=Max("pk"))["newest"]
    if newest is None or newest <= after:
        return None
    reported = _reported(run)
    last = max(run.max_steps, run.step, *(found.last for found in reported))
    needed = bucket_width(last)
    if after and width >= needed and width in (1, *WIDTHS):
        first = points.filter(pk__gt=after).aggregate(first=Min("step"))["first"]
        start = first - first % width
    else:
        # The caller has no curves yet, or the run outgrew them: every edge is new.
        width, start = needed, 0
    return Curves(newest, width, start, _read_series(reported, width, start))


def read_stretch(run: Run, first: int, last: int) -> Curves | None:
    """What a chart shows when somebody looks closer: the same in narrower buckets."""
    reported = _reported(run)
    if not reported:
        return None
    width = bucket_width(last - first)
    start = first - first % width
    return Curves(0, width, start, _read_series(reported, width, start, last))


def bucket_width(steps: int) -> int:
    """Steps in a bucket: the least power of four that makes at most MAX_BUCKETS.

    Of the longest runs there are more, for there are no wider ones.

    >>> [bucket_width(steps) for steps in (0, 1999, 2000, 100_000)]
    [1, 1, 4, 64]
    """
    fitting = (width for width in (1, *WIDTHS) if steps // width < MAX_BUCKETS)
    return next(fitting, WIDTHS[-1])


def _reported(run: Run) -> list[_Reported]:
    """Of the widest buckets there are few, and every series has one."""
    widest = MetricBucket.objects.filter(attempt__run=run, width=WIDTHS[-1])
    rows = widest.values_list("attempt", "attempt__fence", "name").annotate(
        first=Min("first_step"), last=Max("last_step")
    )
    return [_Reported(*row) for row in rows]


def _read_series(
    reported: Collection[_Reported], width: int, start: int, end: int | None = None
) -> list[Series]:
    attempts = {found.attempt: found.fence for found in reported}
    names = {found.name for found in reported}
    cuts = _cuts(reported)
    rows: Iterable[_Row]
    if width == 1:
        rows = _points(attempts, names, start, end, width)
    else:
        rows = _whole_buckets(attempts, cuts, width, start, end)
    found: dict[tuple[str, int], dict[int, _Row]] = defaultdict(dict)
    for row in rows:
        cut = cuts.get(row.attempt)
        lost = attempts[row.attempt] if cut is not None and row.last >= cut else 0
        buckets = found[row.name, lost]
        known = buckets.get(row.start)
        buckets[row.start] = row if known is None else _joined(known, row)
    series = [_series(*key, found[key], width) for key in sorted(found)]
    if width > 1:
        _add_last_values(series, attempts)
    return series


def _cuts(reported: Iterable[_Reported]) -> dict[int, int]:
    """For each attempt but the last: from which step on its points are lost."""
    firsts: dict[tuple[int, int], int] = {}
    for found in reported:
        key = found.fence, found.attempt
        firsts[key] = min(found.first, firsts.get(key, found.first))
    cuts = {}
    cut: int | None = None
    for (_, attempt), first in sorted(firsts.items(), reverse=True):
        if cut is not None:
            cuts[attempt] = cut
        cut = first if cut is None else min(cut, first)
    return cuts


def _whole_buckets(
    attempts: Collection[int],
    cuts: dict[int, int],
    width: int,
    start: int,
    end: int | None,
) -> Iterator[_Row]:
    """Buckets; but points where an attempt's lost tail begins in the midst of one."""
    buckets = MetricBucket.objects.filter(
        attempt__in=list(attempts), width=width, start__gte=start
    )
    if end is not None:
        buckets = buckets.filter(start__lte=end)
    torn: dict[int, set[str]] = {}
    for row in map(_Row._make, buckets.values_list(*_BUCKET)):
        cut = cuts.get(row.attempt)
        if cut is not None and row.start < cut <= row.last:
            torn.setdefault(row.attempt, set()).add(row.name)
        else:
            yield row
    for attempt, names in torn.items():
        edge = cuts[attempt] - cuts[attempt] % width
        yield from _points([attempt], names, edge, edge + width - 1, width)


_BUCKET = (
    "attempt", "name", "start", "last_step", "n", "total", "low", "high",
    "n_nan", "n_inf", "n_minus_inf",
)  # fmt: skip


def _points(
    attempts: Collection[int],
    names: Collection[str],
    start: int,
    end: int | None,
    width: int,
) -> Iterator[_Row]:
    """Every point as if it were all that its bucket holds."""
    points = MetricPoint.objects.filter(
        attempt__in=list(attempts), name__in=list(names), step__gte=start
    )
    if end is not None:
        points = points.filter(step__lte=end)
    columns = ("attempt", "name", "step", "value", "nonfinite")
    for attempt, name, step, value, kind in points.values_list(*columns):
        finite = value is not None
        yield _Row(
            attempt,
            name,
            step - step % width,
            step,
            int(finite),
            value / width if finite else 0.0,
            value,
            value,
            int(kind == "nan"),
            int(kind == "inf"),
            int(kind == "-inf"),
        )


def _joined(one: _Row, other: _Row) -> _Row:
    lows = [low for low in (one.low, other.low) if low is not None]
    highs = [high for high in (one.high, other.high) if high is not None]
    return _Row(
        one.attempt,
        one.name,
        one.start,
        max(one.last, other.last),
        one.n + other.n,
        one.total + other.total,
        min(lows, default=None),
        max(highs, default=None),
        one.n_nan + other.n_nan,
        one.n_inf + other.n_inf,
        one.n_minus_inf + other.n_minus_inf,
    )


def _series(name: str, lost: int, buckets: dict[int, _Row], width: int) -> Series:
    series = Series(name, lost)
    for start in sorted(buckets):
        row = buckets[start]
        series.steps.append(row.last)
        series.low.append(row.low)
        series.high.append(row.high)
        series.mean.append(_mean(row, width))
        counts = (("nan", row.n_nan), ("inf", row.n_inf), ("-inf", row.n_minus_inf))
        series.nonfinite += [(row.last, kind, count) for kind, count in counts if count]
    series.last = series.mean[-1]
    return series


def _mean(row: _Row, width: int) -> float | None:
    if row.low is None or row.high is None:
        return None
    # Kept between the two, for rounding may carry the greatest doubles to infinity.
    return min(max(row.total / row.n * width, row.low), row.high)


def _add_last_values(series: Collection[Series], attempts: dict[int, int]) -> None:
    """What is written beside a chart is the last value, not a mean of the last ones."""
    points = MetricPoint.objects.filter(
        attempt__in=list(attempts),
        name__in={one.name for one in series},
        step__in={one.steps[-1] for one in series},
    )
    columns = ("name", "step", F("attempt__fence"), "value")
    values: dict[tuple[str, int], dict[int, float | None]] = defaultdict(dict)
    for name, step, fence, value in points.values_list(*columns):
        values[name, step][fence] = value
    for one in series:
        at_end = values[one.name, one.steps[-1]]
        # What counts is of the newest attempt that got there.
        one.last = at_end[one.attempt or max(at_end)]
