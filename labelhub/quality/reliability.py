"""How reliable each judge is, jointly with what the right verdict was.

Dawid and Skene (Applied Statistics 28, 1979) for verdicts of a few kinds; Crowd-BT
(Chen and others, WSDM 2013) for which of two is better, where the responses have
strengths, so that close pairs excuse a judge.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit, logit, stdtrit

from labelhub.quality.arrays import Floats, Ints, Judged, codes
from labelhub.quality.estimate import Estimate

BLOCKS = 20
"""Of prompts; each is left out once for the intervals (jackknife by groups)."""
MOST_JUDGMENTS = 200_000
"""The fits are repeated for each block; of more judgments, prompts are drawn."""
PRIOR = 4.0
"""Judgments' worth of the average judge that each judge starts with."""
ENOUGH_A_RESPONSE = 10
"""Judgments; with fewer, strengths fit what judges err, and all look reliable."""
TOO_FEW_PROMPTS = f"Fewer than {BLOCKS} prompts, so the spread is not known."


def sampled(judged: Judged, seed: int = 0) -> Judged:
    """All of it, or whole prompts drawn by lot until there is enough."""
    if len(judged) <= MOST_JUDGMENTS:
        return judged
    prompt = codes(judged.prompt)
    drawn = np.random.default_rng(seed).permutation(int(prompt.max()) + 1)
    so_far = np.cumsum(np.bincount(prompt)[drawn])
    kept = drawn[so_far <= MOST_JUDGMENTS]
    return judged.where(np.isin(prompt, kept))


@dataclass(frozen=True, eq=False)
class DawidSkene:
    """The right verdict of each task (as chances), and how each judge errs."""

    right: Floats
    """Tasks × verdicts."""
    shares: Floats
    """How often each verdict is right."""
    errors: Floats
    """Judges × the right verdict × the given one."""

    @property
    def accuracy(self) -> Floats:
        """How often each judge would be right on the tasks of all."""
        found: Floats = np.einsum("k,jkk->j", self.shares, self.errors)
        return found


def dawid_skene(
    judged: Judged, *, prior: float = PRIOR, tolerance: float = 1e-8
) -> DawidSkene:
    """Expectation and maximisation by turns, from the majority on.

    The errors of each judge are drawn to those of all, as if they had judged `prior`
    tasks of each right verdict like the average judge. 0 is the plain model.
    """
    counts, _ = judged.counts()
    n_verdicts = judged.n_verdicts
    right = counts / counts.sum(axis=1, keepdims=True)
    cell = judged.judge * n_verdicts + judged.verdict
    n_cells = judged.n_judges * n_verdicts
    for _ in range(2000):
        given = np.stack(
            [
                np.bincount(cell, weights=right[judged.task, k], minlength=n_cells)
                for k in range(n_verdicts)
            ],
            axis=1,
        ).reshape(judged.n_judges, n_verdicts, n_verdicts)
        errors = _shares_of(given.transpose(0, 2, 1), prior)
        shares = right.mean(axis=0)
        logs = np.log(errors)[judged.judge, :, judged.verdict]
        likely = np.stack(
            [
                np.bincount(judged.task, weights=logs[:, k], minlength=len(right))
                for k in range(n_verdicts)
            ],
            axis=1,
        ) + np.log(np.maximum(shares, 1e-10))
        before = right
        right = np.exp(likely - likely.max(axis=1, keepdims=True))
        right /= right.sum(axis=1, keepdims=True)
        if np.abs(right - before).max() < tolerance:
            break
    return DawidSkene(right=right, shares=right.mean(axis=0), errors=errors)


def _shares_of(given: npt.NDArray[Any], prior: float) -> Floats:
    if prior:
        everybody = given.sum(axis=0) + 0.1
        given = given + prior * everybody / everybody.sum(axis=-1, keepdims=True)
    given = np.maximum(given, 1e-10)
    found: Floats = given / given.sum(axis=-1, keepdims=True)
    return found


@dataclass(frozen=True, eq=False)
class Compared:
    """One row a judgment of a pair; a tie counts as half a verdict either way."""

    prompt: Ints
    judge: Ints
    a: Ints
    b: Ints
    outcome: Ints
    """1 where a won, -1 where b did, 0 for a tie."""
    n_judges: int
    n_responses: int

    def __len__(self) -> int:
        return len(self.judge)


@dataclass(frozen=True, eq=False)
class CrowdBT:
    strength: Floats
    reliability: Floats
    """The chance that a judge sees the better one of a clear pair: 0.5 guesses."""


def crowd_bt(
    compared: Compared, *, deviation: float = 2.0, prior: float = PRIOR
) -> CrowdBT:
    """The most likely strengths and reliabilities, from reliable judges on.

    Strengths are normal around 0 with this deviation, reliabilities as if each judge
    had been right in 3 of 4 of `prior` clear pairs more.
    """
    n = compared.n_judges
    weight_a = (compared.outcome + 1) / 2

    def unlikely(x: Floats) -> tuple[float, Floats]:
        strength, judge = x[n:], x[:n]
        reliable = expit(judge)
        ahead = expit(strength[compared.a] - strength[compared.b])
        own = reliable[compared.judge]
        says_a = own * ahead + (1 - own) * (1 - ahead)
        pull = weight_a / says_a - (1 - weight_a) / (1 - says_a)
        by_judge = pull * (2 * ahead - 1) * own * (1 - own)
        by_lead = pull * (2 * own - 1) * ahead * (1 - ahead)
        gradient = np.concatenate(
            [
                np.bincount(compared.judge, weights=by_judge, minlength=n)
                + prior * (0.75 - reliable),
                np.bincount(compared.a, weights=by_lead, minlength=len(strength))
                - np.bincount(compared.b, weights=by_lead, minlength=len(strength))
                - strength / deviation**2,
            ]
        )
        value = (
            weight_a @ np.log(says_a)
            + (1 - weight_a) @ np.log1p(-says_a)
            + prior * (0.75 * np.log(reliable) + 0.25 * np.log1p(-reliable)).sum()
            - strength @ strength / (2 * deviation**2)
        )
        return -float(value), -gradient

    start = np.concatenate([np.full(n, logit(0.9)), np.zeros(compared.n_responses)])
    # At equal strengths nothing says who is reliable: begin with who won more.
    won = np.bincount(compared.a, weights=compared.outcome, minlength=len(start) - n)
    won -= np.bincount(compared.b, weights=compared.outcome, minlength=len(start) - n)
    times = np.bincount(
        np.concatenate([compared.a, compared.b]), minlength=len(start) - n
    )
    start[n:] = won / np.maximum(times, 1)
    found = minimize(
        unlikely,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=[(-8, 8)] * n + [(None, None)] * (len(start) - n),
        options={"maxiter": 2000, "maxfun": 4000, "ftol": 1e-13, "gtol": 1e-7},
    ).x
    return CrowdBT(strength=found[n:], reliability=expit(found[:n]))


def with_intervals(
    prompt: Ints, judge: Ints, fit: Callable[[Ints], Floats], n_judges: int
) -> list[Estimate]:
    """Shares of each judge, fitted to given rows, with the interval of leaving out
    each block of prompts once, on the scale of logits."""
    group = codes(prompt)
    n_prompts = int(group.max(initial=-1)) + 1
    n = np.bincount(judge, minlength=n_judges)
    everything = fit(np.arange(len(judge)))
    if n_prompts < BLOCKS:
        return [
            Estimate(n=int(size), value=float(value), because=TOO_FEW_PROMPTS)
            for size, value in zip(n, everything, strict=True)
        ]
    block = np.random.default_rng(0).permutation(n_prompts)[group] % BLOCKS
    without = np.array([fit(np.flatnonzero(block != k)) for k in range(BLOCKS)])
    whole, parts = _logits(everything), _logits(without)
    spread = (BLOCKS - 1) / BLOCKS * ((parts - parts.mean(axis=0)) ** 2).sum(axis=0)
    half = float(stdtrit(BLOCKS - 1, 0.975)) * np.sqrt(spread)
    return [
        Estimate(n=int(size), value=float(value), low=float(low), high=float(high))
        for size, value, low, high in zip(
            n, everything, expit(whole - half), expit(whole + half), strict=True
        )
    ]


def _logits(shares: Floats) -> Floats:
    found: Floats = logit(shares.clip(1e-6, 1 - 1e-6))
    return found


def accuracies(judged: Judged) -> list[Estimate]:
    """How often each judge is right, by Dawid and Skene; n counts judgments."""

    def fit(rows: Ints) -> Floats:
        kept = np.zeros(len(judged), dtype=bool)
        kept[rows] = True
        return dawid_skene(judged.where(kept), tolerance=1e-5).accuracy

    return with_intervals(judged.prompt, judged.judge, fit, judged.n_judges)


def reliabilities(compared: Compared) -> list[Estimate]:
    """How often each judge sees the better of a clear pair, by Crowd-BT."""
    each = 2 * len(compared) / max(compared.n_responses, 1)
    if each < ENOUGH_A_RESPONSE:
        because = (
            f"Responses have {each:.1f} judgments each;"
            f" telling strengths from the judges' errors needs {ENOUGH_A_RESPONSE}."
        )
        n = np.bincount(compared.judge, minlength=compared.n_judges)
        return [Estimate(n=size, because=because) for size in n.tolist()]

    def fit(rows: Ints) -> Floats:
        columns = {
            name: getattr(compared, name)[rows]
            for name in ("prompt", "judge", "a", "b", "outcome")
        }
        return crowd_bt(
            Compared(
                **columns,
                n_judges=compared.n_judges,
                n_responses=compared.n_responses,
            )
        ).reliability

    return with_intervals(compared.prompt, compared.judge, fit, compared.n_judges)
