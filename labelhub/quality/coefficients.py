"""Agreement of any number of judges, some of whom saw only some of the tasks.

`agreement.py` streams what a snapshot says of itself; this holds columns in memory
and says more: beyond chance in five ways, by person, and with oneself.
"""

from __future__ import annotations

import numpy as np

from labelhub.quality.arrays import (
    Floats,
    Ints,
    Judged,
    Statistic,
    around,
    codes,
    groups,
    jackknife,
    share_by_prompt,
    share_of_prompts,
    sums_by,
)
from labelhub.quality.estimate import ONE_PROMPT, TOO_FEW, Estimate

NOBODY = "No task was judged by two people."
ONE_VERDICT = "Everybody gave the same verdict, so chance explains it all."
MOST_PAIRS = 30_000_000
"""Pairs of judgments that are compared one by one; more would not fit in memory."""
TOO_MANY = f"More than {MOST_PAIRS:,} pairs of judgments are not compared one by one."


def coefficients(judged: Judged, n_known: int | None = None) -> dict[str, Estimate]:
    """Raw agreement and what is left of it beyond chance.

    n counts pairs of judgments for `agreement` and `cohen`, else tasks that two or
    more people judged. Judges from n_known on have no chances of their own, for each
    of them is nobody known, and there once.
    """
    if not len(judged):
        nothing = Estimate(n=0, because=NOBODY)
        return dict.fromkeys(
            ("agreement", "baseline", "cohen", "fleiss", "alpha", "ac1"), nothing
        )
    counts, prompt = judged.counts()
    return {
        "agreement": agreement(counts, prompt),
        "baseline": baseline(judged),
        "cohen": cohen(judged.of_judges(n_known)),
        "fleiss": fleiss(counts, prompt),
        "alpha": alpha(counts, prompt),
        "ac1": ac1(counts, prompt),
    }


def agreement(counts: Ints, prompt: Ints) -> Estimate:
    """The share of pairs of judgments on one task that are the same verdict."""
    size = counts.sum(axis=1)
    same = (counts * (counts - 1)).sum(axis=1) // 2
    return share_of_prompts(prompt, same, size * (size - 1) // 2, NOBODY)


def baseline(judged: Judged) -> Estimate:
    """How often one would agree who always gave the most frequent verdict."""
    most = np.bincount(judged.verdict).argmax()
    return share_by_prompt(judged.prompt, judged.verdict == most, NOBODY)


def fleiss(counts: Ints, prompt: Ints) -> Estimate:
    """Fleiss' κ, in Gwet's form for missing cells.

    Gwet, Handbook of Inter-Rater Reliability (2014), chapter 2: agreement is the
    mean over tasks with two judges or more, chance the squared mean shares of the
    verdicts over all tasks.
    """

    def kappa(sums: Floats) -> Floats:
        agreed, shares = _agreed_and_shares(sums)
        return _beyond(agreed, (shares**2).sum(axis=-1))

    return _by_task(counts, prompt, kappa)


def ac1(counts: Ints, prompt: Ints) -> Estimate:
    """Gwet's AC1, which stays sensible where nearly all verdicts are the same.

    Gwet, British Journal of Mathematical and Statistical Psychology 61 (2008).
    Verdicts that nobody gave do not count as possible, but two always are.
    """
    used = counts[:, counts.sum(axis=0) > 0]
    n_verdicts = max(2, used.shape[1])

    def coefficient(sums: Floats) -> Floats:
        agreed, shares = _agreed_and_shares(sums)
        spread = (shares * (1 - shares)).sum(axis=-1)
        return _beyond(agreed, spread / (n_verdicts - 1))

    return _by_task(used, prompt, coefficient)


def _by_task(counts: Ints, prompt: Ints, statistic: Statistic) -> Estimate:
    size = counts.sum(axis=1)
    several = size > 1
    if not several.any():
        return Estimate(n=0, because=NOBODY)
    pairs = np.maximum(size * (size - 1), 1)
    columns = np.column_stack(
        [
            (counts * (counts - 1)).sum(axis=1) / pairs,
            several,
            counts / size[:, None],
            np.ones(len(size)),
        ]
    )
    sums = sums_by(codes(prompt), columns)
    return jackknife(sums, statistic, int(several.sum()), ONE_VERDICT)


def _agreed_and_shares(sums: Floats) -> tuple[Floats, Floats]:
    return sums[..., 0] / sums[..., 1], sums[..., 2:-1] / sums[..., -1:]


def _beyond(agreed: Floats, chance: Floats) -> Floats:
    # Of a chance of exactly 1 nothing is left to explain; rounding must not hide it.
    left = 1 - chance
    return np.where(left > 1e-12, (agreed - chance) / left, np.nan)


def alpha(counts: Ints, prompt: Ints, *, ordinal: bool = False) -> Estimate:
    """Krippendorff's α, for unordered verdicts or for verdicts in their order.

    Krippendorff, Computing Krippendorff's Alpha-Reliability (2011).
    """
    size = counts.sum(axis=1)
    several = size > 1
    if not several.any():
        return Estimate(n=0, because=NOBODY)
    counts, size = counts[several], size[several]
    n_verdicts = counts.shape[1]
    together = counts[:, :, None] * counts[:, None, :]
    together -= np.eye(n_verdicts, dtype=np.int64) * counts[:, None, :]
    columns = together.reshape(len(counts), -1) / (size - 1)[:, None]

    def coefficient(sums: Floats) -> Floats:
        pairs = sums.reshape(*sums.shape[:-1], n_verdicts, n_verdicts)
        given = pairs.sum(axis=-1)
        n = given.sum(axis=-1)
        far = _distances(given, ordinal=ordinal)
        observed = (pairs * far).sum(axis=(-1, -2))
        by_chance = (given[..., :, None] * given[..., None, :] * far).sum(axis=(-1, -2))
        spread = np.where(by_chance > 1e-9 * n * n, by_chance, np.nan)
        beyond: Floats = 1 - (n - 1) * observed / spread
        return beyond

    sums = sums_by(codes(prompt[several]), columns)
    return jackknife(sums, coefficient, len(counts), ONE_VERDICT)


def _distances(given: Floats, *, ordinal: bool) -> Floats:
    """Squared distances between verdicts; ranks come from how often each is given."""
    n_verdicts = given.shape[-1]
    if not ordinal:
        return np.asarray(1 - np.eye(n_verdicts))
    rank = np.cumsum(given, axis=-1) - given / 2
    apart: Floats = (rank[..., :, None] - rank[..., None, :]) ** 2
    return apart


def cohen(judged: Judged) -> Estimate:
    """Cohen's κ of two people, and of more where each has chances of their own.

    Conger's generalisation (Psychological Bulletin 88, 1980), each pair of judgments
    counting once. Pairs of people who share few tasks would have no chances to speak
    of, so a person's are those of all that they share with anybody.
    """
    if _n_pairs(judged) > MOST_PAIRS:
        return Estimate(n=0, because=TOO_MANY)
    first, second = _pairs(judged)
    return _kappa(judged, first, second, *_chances(judged, first, second))


def by_judge(judged: Judged) -> dict[int, dict[str, Estimate]]:
    """Each judge against everybody with whom they share a task."""
    if _n_pairs(judged) > MOST_PAIRS:
        return {}
    lower, higher = _pairs(judged)
    chances, times = _chances(judged, lower, higher)
    one, other = np.concatenate([lower, higher]), np.concatenate([higher, lower])
    found = {}
    for person, rows in groups(judged.judge[one], judged.n_judges):
        first, second = one[rows], other[rows]
        same = judged.verdict[first] == judged.verdict[second]
        found[person] = {
            "agreement": share_by_prompt(judged.prompt[first], same, NOBODY),
            "cohen": _kappa(judged, first, second, chances, times),
        }
    return found


def _chances(judged: Judged, first: Ints, second: Ints) -> tuple[Floats, Floats]:
    """How often each judge gives each verdict in these pairs, and in how many."""
    rows = np.concatenate([first, second])
    cells = np.bincount(
        judged.judge[rows] * judged.n_verdicts + judged.verdict[rows],
        minlength=judged.n_judges * judged.n_verdicts,
    ).reshape(judged.n_judges, judged.n_verdicts)
    times = cells.sum(axis=1)
    return cells / np.maximum(times, 1)[:, None], times.astype(float)


def _n_pairs(judged: Judged) -> int:
    size = np.bincount(judged.task)
    return int((size * (size - 1) // 2).sum())


def _pairs(judged: Judged) -> tuple[Ints, Ints]:
    """The rows of every two judgments of one task; the first judge is the lower."""
    task = judged.task
    firsts, seconds = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    left, lag = np.arange(len(task)), 0
    while len(left):
        lag += 1
        left = left[left + lag < len(task)]
        left = left[task[left] == task[left + lag]]
        firsts.append(left)
        seconds.append(left + lag)
    return np.concatenate(firsts), np.concatenate(seconds)


def _kappa(
    judged: Judged, first: Ints, second: Ints, chances: Floats, times: Floats
) -> Estimate:
    """κ of these pairs of rows; its interval is of the first order between prompts."""
    n = len(first)
    if not n:
        return Estimate(n=0, because=NOBODY)
    one, other = judged.judge[first], judged.judge[second]
    x, y = judged.verdict[first], judged.verdict[second]
    by_chance = (chances[one] * chances[other]).sum(axis=1)
    same = (x == y).astype(float)
    left = n - by_chance.sum()
    if left < 1e-9 * n:
        return Estimate(n=n, because=ONE_VERDICT)
    value = float((same.sum() - by_chance.sum()) / left)
    # What one more pair like this one would change: itself, and both judges' chances.
    met = np.stack(
        [
            np.bincount(one, weights=chances[other, k], minlength=judged.n_judges)
            + np.bincount(other, weights=chances[one, k], minlength=judged.n_judges)
            for k in range(judged.n_verdicts)
        ],
        axis=1,
    )
    usual = (chances * met).sum(axis=1)
    moved = by_chance + (met[one, x] - usual[one]) / times[one]
    moved += (met[other, y] - usual[other]) / times[other]
    influence = ((same - moved) - value * (1 - moved)) / left
    by_prompt = np.bincount(codes(judged.prompt[first]), weights=influence)
    k = len(by_prompt)
    if k == 1:
        return Estimate(n=n, value=value, because=ONE_PROMPT)
    error = float(np.sqrt(k / (k - 1) * np.sum((by_prompt - by_prompt.mean()) ** 2)))
    if error < 1e-12:
        return Estimate(n=n, value=value, because=TOO_FEW)
    return around(value, error, k - 1, n)


def self_consistency(prompt: Ints, first: Ints, again: Ints) -> Estimate:
    """How often somebody gave the same verdict on a task shown to them again."""
    return share_by_prompt(
        prompt, first == again, "Nobody judged a task that repeats another."
    )
