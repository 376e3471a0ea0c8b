"""Points into the database, and the buckets that charts are drawn from along with them.

Buckets form levels, each four times as wide as the one below and read from it, the
narrowest from the points. Whatever a batch touches is read anew, so that a bucket is
right whatever comes twice, late or in disorder. They cost a third more rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from django.db import connection, transaction

from labelhub.importing import bulk
from training.models import Attempt, MetricPoint

WIDTHS = (4, 16, 64, 256, 1024, 4096, 16384)
"""Steps in a bucket of each level."""

_COLUMNS = ("attempt", "run", "name", "step", "value", "nonfinite", "at")
_FILL = """
INSERT INTO training_metricbucket
  (attempt_id, width, start, name, first_step, last_step, n, total, low, high,
   n_nan, n_inf, n_minus_inf)
"""
# PostgreSQL refuses a quotient that is too small for a double, so the least count as 0.
_FROM_POINTS = """
SELECT attempt_id, {width}, step - step % {width}, name, min(step), max(step),
  count(value),
  coalesce(sum(CASE WHEN abs(value) < 1e-290 THEN 0 ELSE value / {width} END), 0),
  min(value), max(value),
  count(CASE WHEN nonfinite = 'nan' THEN 1 END),
  count(CASE WHEN nonfinite = 'inf' THEN 1 END),
  count(CASE WHEN nonfinite = '-inf' THEN 1 END)
FROM training_metricpoint
WHERE attempt_id = {attempt} AND name IN ({names}) AND step >= {start} AND step <= {end}
GROUP BY attempt_id, step - step % {width}, name
"""
_FROM_BUCKETS = """
SELECT attempt_id, {width}, start - start % {width}, name, min(first_step),
  max(last_step), sum(n), sum(total * 0.25), min(low), max(high), sum(n_nan),
  sum(n_inf), sum(n_minus_inf)
FROM training_metricbucket
WHERE attempt_id = {attempt} AND width = {width} / 4
  AND start >= {start} AND start <= {end}
GROUP BY attempt_id, start - start % {width}, name
"""
_REPLACE = """
ON CONFLICT (attempt_id, width, start, name) DO UPDATE SET
  first_step = excluded.first_step, last_step = excluded.last_step, n = excluded.n,
  total = excluded.total, low = excluded.low, high = excluded.high,
  n_nan = excluded.n_nan, n_inf = excluded.n_inf, n_minus_inf = excluded.n_minus_inf
"""


class Point(NamedTuple):
    name: str
    step: int
    value: float
    at: float


def add_points(attempt: Attempt, points: Sequence[Point]) -> None:
    """Add those that are not there yet; the first value of a step stays.

    One caller at a time for an attempt, as for all that is shipped.
    """
    if not points:
        return
    names = sorted({point.name for point in points})
    first, last = min(p.step for p in points), max(p.step for p in points)
    with transaction.atomic():
        known = set(
            MetricPoint.objects.filter(
                attempt=attempt, name__in=names, step__range=(first, last)
            ).values_list("name", "step")
        )
        rows = []
        for name, step, value, at in points:
            if (name, step) in known:
                continue
            known.add((name, step))
            finite = math.isfinite(value)
            shown = (value, "") if finite else (None, str(value))
            rows.append((attempt.pk, attempt.run_id, name, step, *shown, at))
        bulk.insert(MetricPoint, _COLUMNS, rows)
        _fill_buckets(attempt, names, first, last)


def _fill_buckets(
    attempt: Attempt, names: Sequence[str], first: int, last: int
) -> None:
    marks = ", ".join(["%s"] * len(names))
    with connection.cursor() as cursor:
        for width in WIDTHS:
            source = _FROM_POINTS if width == WIDTHS[0] else _FROM_BUCKETS
            statement = _FILL + source + _REPLACE
            # Django reads % as a mark where there are parameters.
            statement = statement.replace("%", "%%").format(
                width=width,
                attempt=attempt.pk,
                names=marks,
                start=first - first % width,
                end=last - last % width + width - 1,
            )
            cursor.execute(statement, names if width == WIDTHS[0] else [])
