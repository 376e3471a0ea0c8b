"""Judgments as arrays, and the ways to put an interval around what is made of them.

Observations of one prompt are alike, so every interval counts prompts, not rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from labelhub.quality.estimate import ONE_PROMPT, TOO_FEW, Estimate, share_of_sums

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Judged:
    """One row a judgment, at most one of a judge on a task; codes count from 0."""

    prompt: Ints
    task: Ints
    judge: Ints
    verdict: Ints
    n_judges: int
    n_verdicts: int

    def __len__(self) -> int:
        return len(self.task)

    @classmethod
    def of(cls, prompt: Ints, task: Ints, judge: Ints, verdict: Ints) -> Judged:
        """Sorted by task and judge; the last row of a judge on a task stands.

        >>> zero = np.zeros(3, dtype=np.int64)
        >>> Judged.of(zero, zero, np.array([0, 1, 0]), np.array([0, 0, 1])).verdict
        array([1, 0])
        """
        order = np.lexsort((judge, task))
        task, judge = task[order], judge[order]
        last = np.ones(len(task), dtype=bool)
        last[:-1] = (task[1:] != task[:-1]) | (judge[1:] != judge[:-1])
        kept = order[last]
        return cls(
            prompt=prompt[kept],
            task=codes(task[last]),
            judge=judge[last],
            verdict=verdict[kept],
            n_judges=int(judge.max(initial=-1)) + 1,
            n_verdicts=int(verdict.max(initial=-1)) + 1,
        )

    def where(self, mask: Bools) -> Judged:
        return Judged(
            prompt=self.prompt[mask],
            task=codes(self.task[mask]),
            judge=self.judge[mask],
            verdict=self.verdict[mask],
            n_judges=self.n_judges,
            n_verdicts=self.n_verdicts,
        )

    def of_judges(self, n: int | None) -> Judged:
        """Those of the first n judges."""
        if n is None:
            return self
        return replace(self.where(self.judge < n), n_judges=n)

    def counts(self) -> tuple[Ints, Ints]:
        """Tasks × verdicts: how many judges of a task gave each; and its prompt."""
        n_tasks = int(self.task.max(initial=-1)) + 1
        cells = np.bincount(
            self.task * self.n_verdicts + self.verdict,
            minlength=n_tasks * self.n_verdicts,
        )
        first = np.ones(len(self), dtype=bool)
        first[1:] = self.task[1:] != self.task[:-1]
        return cells.reshape(n_tasks, self.n_verdicts), self.prompt[first]


def codes(values: Ints | Floats) -> Ints:
    """The same groups, numbered from 0 without gaps.

    >>> codes(np.array([7, 7, 3]))
    array([1, 1, 0])
    """
    found: Ints = np.unique(values, return_inverse=True)[1].astype(np.int64)
    return found


def share_by_prompt(prompt: Ints, hit: Bools, nothing: str) -> Estimate:
    """`estimate.share` of one row an observation."""
    return share_of_prompts(prompt, hit.astype(np.int64), np.ones_like(prompt), nothing)


def share_of_prompts(prompt: Ints, hits: Ints, n: Ints, nothing: str) -> Estimate:
    """`estimate.share` of rows that hold several observations each."""
    by_prompt = sums_by(codes(prompt), np.column_stack([hits, n]).astype(float))
    h, m = by_prompt[by_prompt[:, 1] > 0].astype(np.int64).T
    return share_of_sums(
        len(m),
        (int(h.sum()), int(m.sum())),
        (int(h @ h), int(h @ m), int(m @ m)),
        nothing,
    )


def groups(of: Ints, n_groups: int) -> Iterator[tuple[int, Ints]]:
    """(group, its rows) for each group that has any."""
    order = np.argsort(of, kind="stable")
    ends = np.cumsum(np.bincount(of, minlength=n_groups))
    start = 0
    for group, end in enumerate(ends.tolist()):
        if end > start:
            yield group, order[start:end]
        start = end


def sums_by(group: Ints, columns: Floats) -> Floats:
    """Groups × columns."""
    n = int(group.max(initial=-1)) + 1
    return np.stack(
        [np.bincount(group, weights=column, minlength=n) for column in columns.T],
        axis=1,
    )


Statistic = Callable[[Floats], Floats]
"""From sums over prompts (…, columns) to a number; nan where it is undefined."""


def jackknife(sums: Floats, statistic: Statistic, n: int, undefined: str) -> Estimate:
    """A smooth function of sums, with the interval of leaving out each prompt once.

    Student's t with as many degrees of freedom as there are prompts, less one.
    """
    total = sums.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(statistic(total))
        without = statistic(total - sums)
    if not np.isfinite(value):
        return Estimate(n=n, because=undefined)
    k = len(sums)
    if k == 1:
        return Estimate(n=n, value=value, because=ONE_PROMPT)
    error = np.sqrt((k - 1) / k * np.sum((without - without.mean()) ** 2))
    # A spread of rounding errors is none: where all agree no interval can be had.
    if not np.isfinite(error) or error < 1e-12:
        return Estimate(n=n, value=value, because=TOO_FEW)
    return around(value, float(error), k - 1, n)


def around(value: float, error: float, freedom: int, n: int) -> Estimate:
    """A coefficient of agreement with its interval, none of it outside [-1, 1]."""
    half = float(stdtrit(freedom, 0.975)) * error
    return Estimate(
        n=n, value=value, low=max(-1.0, value - half), high=min(1.0, value + half)
    )
