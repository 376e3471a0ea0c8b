"""A number, how sure of it one may be, and from how many observations it comes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

Z95 = 1.959963984540054
"""The normal quantile that leaves 2.5 % on either side."""
ONE_PROMPT = "All observations are of one prompt, so their spread is not known."
TOO_FEW = "Too few tasks differ for an interval."


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value with its 95 % interval, or the reason why there is none."""

    n: int
    """Observations it comes from."""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    because: str = ""
    """Why the value, or only its interval, is undefined."""

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def as_json(numbers: object) -> Any:
    """The same, with every Estimate in it as a dictionary."""
    if isinstance(numbers, Estimate):
        return numbers.as_dict()
    if isinstance(numbers, dict):
        return {key: as_json(value) for key, value in numbers.items()}
    if isinstance(numbers, list | tuple):
        return [as_json(value) for value in numbers]
    return numbers


def wilson(successes: float, n: float) -> tuple[float, float]:
    """The 95 % score interval of a share (Wilson, JASA 22, 1927).

    Unlike p ± 1.96·√(pq/n) it stays within [0, 1] and is not empty at 0 or at n.

    >>> [round(x, 4) for x in wilson(8, 10)]
    [0.4902, 0.9433]
    """
    p, z2 = successes / n, Z95**2
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def share(clusters: Iterable[tuple[int, int]], nothing: str) -> Estimate:
    """The share of hits, where observations of one cluster are alike.

    Each cluster gives (hits, observations); `nothing` is said where there are none.
    Answers to one prompt are not independent, so a plain interval would be too
    narrow: the variance is that of a ratio between clusters (Cochran, Sampling
    Techniques, 1977, section 6), turned into an effective number of observations,
    never more than there are, for the Wilson interval (Korn and Graubard, Survey
    Methodology 24, 1998, give the idea for another interval).

    >>> share([(8, 10)] , "").because
    'All observations are of one prompt, so their spread is not known.'
    >>> share([(1, 1)] * 8 + [(0, 1)] * 2, "").value
    0.8
    """
    k = hits = n = 0
    hits2 = both = n2 = 0
    for h, m in clusters:
        if m:
            k, hits, n = k + 1, hits + h, n + m
            hits2, both, n2 = hits2 + h * h, both + h * m, n2 + m * m
    return share_of_sums(k, (hits, n), (hits2, both, n2), nothing)


def share_of_sums(
    k: int, sums: tuple[int, int], squares: tuple[int, int, int], nothing: str
) -> Estimate:
    """`share` from k clusters' Σ hits, Σ n and Σ hits², Σ hits·n, Σ n²."""
    (hits, n), (hits2, both, n2) = sums, squares
    if not n:
        return Estimate(n=0, because=nothing)
    p = hits / n
    if k == 1:
        return Estimate(n=n, value=p, because=ONE_PROMPT)
    # Whole numbers under the root: exact, whatever the order of the clusters.
    spread = hits2 * n * n - 2 * both * hits * n + n2 * hits * hits
    variance = spread / n**4 * k / (k - 1)
    n_effective = min(n, p * (1 - p) / variance) if variance > 0 else float(k)
    low, high = wilson(p * n_effective, n_effective)
    return Estimate(n=n, value=p, low=low, high=high)
