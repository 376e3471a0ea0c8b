"""How often people who judged the same thing said the same."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from itertools import groupby

from labelhub.quality.estimate import TOO_FEW, Z95, Estimate, share

Unit = tuple[Hashable, Sequence[str]]
"""A task's prompt, and the verdicts on it, one a judge."""


def agreement(units: Iterable[Unit]) -> Estimate:
    """The share of pairs of judgments on one task that are the same verdict.

    Units of one prompt follow each other; n counts pairs of judgments.

    >>> agreement([(1, "aab"), (2, "bb"), (3, "a")]).value
    0.5
    """
    return share(
        (_pairs_of(group) for _, group in groupby(units, key=lambda unit: unit[0])),
        nothing="No task was judged by two people.",
    )


def _pairs_of(units: Iterable[Unit]) -> tuple[int, int]:
    same = pairs = 0
    for _, verdicts in units:
        same += sum(math.comb(n, 2) for n in Counter(verdicts).values())
        pairs += math.comb(len(verdicts), 2)
    return same, pairs


def alpha(units: Iterable[Unit]) -> Estimate:
    """Krippendorff's α for unordered verdicts: agreement beyond chance.

    1 is perfect, 0 is what chance gives. Any number of judges, missing ones allowed
    (Krippendorff, Computing Krippendorff's Alpha-Reliability, 2011). The interval
    leaves out one task at a time (jackknife); n counts judgments on tasks with two or
    more.

    >>> round(alpha([(0, v) for v in ("aa", "ab", "bb", "bb")]).value, 3)
    0.533
    """
    patterns = Counter(
        tuple(sorted(Counter(verdicts).items()))
        for _, verdicts in units
        if len(verdicts) > 1
    )
    n = sum(_size(pattern) * times for pattern, times in patterns.items())
    if not n:
        return Estimate(n=0, because="No task was judged by two people.")
    values = _values(patterns)
    disagreement = sum(_disagreement(p) * times for p, times in patterns.items())
    whole = _alpha(disagreement, values)
    if whole is None:
        return Estimate(
            n=n, because="Everybody gave the same verdict, so chance explains it all."
        )
    n_units = patterns.total()
    without: list[tuple[float, int]] = []
    for pattern, times in patterns.items():
        left = values - Counter(dict(pattern))
        value = _alpha(disagreement - _disagreement(pattern), left)
        if value is None:
            return Estimate(n=n, value=whole, because=TOO_FEW)
        without.append((value, times))
    mean = sum(value * times for value, times in without) / n_units
    squares = sum((value - mean) ** 2 * times for value, times in without)
    half = Z95 * math.sqrt(squares * (n_units - 1) / n_units)
    return Estimate(
        n=n, value=whole, low=max(-1.0, whole - half), high=min(1.0, whole + half)
    )


Pattern = tuple[tuple[str, int], ...]
"""How many judges of one task gave each verdict."""


def _size(pattern: Pattern) -> int:
    return sum(count for _, count in pattern)


def _values(patterns: Counter[Pattern]) -> Counter[str]:
    values: Counter[str] = Counter()
    for pattern, times in patterns.items():
        for verdict, count in pattern:
            values[verdict] += count * times
    return values


def _disagreement(pattern: Pattern) -> float:
    """Ordered pairs of judges who differ, weighed by 1 / (judges - 1)."""
    size = _size(pattern)
    return (size * size - sum(count * count for _, count in pattern)) / (size - 1)


def _alpha(disagreement: float, values: Counter[str]) -> float | None:
    n = values.total()
    by_chance = n * n - sum(count * count for count in values.values())
    if not by_chance:
        return None
    return 1 - (n - 1) * disagreement / by_chance
