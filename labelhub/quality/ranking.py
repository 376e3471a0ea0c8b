"""Which model is better, from comparisons of two at a time.

Bradley and Terry's model with Davidson's ties (JASA 65, 1970): of models whose
strengths differ by d, one wins, ties and loses in proportion to exp(d/2), ν and
exp(-d/2). What else moves the verdict (length, side) may be added to d.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.special import stdtrit

from labelhub.quality.arrays import Floats, Ints, codes, groups, share_by_prompt
from labelhub.quality.estimate import ONE_PROMPT, Estimate

PRIOR = 1 / 9
"""Of strengths: normal around 0 with deviation 3, so that one who never lost is finite.

It moves a strength known to ± 0.4 by half a percent.
"""
RESAMPLES = 200
NEVER_BEATEN = "Nobody outside its group won or tied, so there is no upper end."
NEVER_WON = (
    "It won and tied against nobody outside its group, so there is no lower end."
)


@dataclass(frozen=True, eq=False)
class Comparisons:
    """One row a judgment: `outcome` is 1 if first won, -1 if second did, 0 for a tie.

    An effect is one column; it changes its sign with the order of the two.
    """

    prompt: Ints
    first: Ints
    second: Ints
    outcome: Ints
    n_models: int
    effects: Floats

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True)
class Fit:
    strength: Floats
    effects: Floats
    tie: float
    """log ν; -inf where nothing ever ties."""


@dataclass(frozen=True)
class Ranked:
    """One model on the leaderboard."""

    model: int
    strength: Estimate
    """In logits, 0 in the middle of its group; n counts comparisons."""
    best: int
    worst: int
    """Ranks within its group that the differences to others leave open."""


@dataclass(frozen=True)
class Ranking:
    groups: list[list[Ranked]]
    """Models that are compared at least through others; best first."""
    tie: Estimate
    """How often two equal models tie."""
    effects: list[Estimate]


def rank(comparisons: Comparisons, *, prior: float = PRIOR, seed: int = 0) -> Ranking:
    """The leaderboard, with intervals from drawing prompts anew (bootstrap)."""
    cells = _Cells.of(comparisons)
    fit = cells.fit(cells.counts, prior)
    chance = np.random.default_rng(seed)
    drawn = [
        cells.fit(cells.resampled(chance), prior, start=fit) for _ in range(RESAMPLES)
    ]
    freedom = cells.n_prompts - 1
    reach = float(stdtrit(freedom, 0.975)) if freedom else np.inf
    strengths = np.array([draw.strength for draw in drawn])
    label = _groups(comparisons)
    found = [
        _leaderboard(comparisons, fit, strengths, reach, rows)
        for _, rows in groups(label, int(label.max(initial=-1)) + 1)
    ]
    tie = [_tie_share(draw.tie) for draw in drawn]
    return Ranking(
        groups=sorted(found, key=lambda group: -len(group)),
        tie=_within(_tie_share(fit.tie), np.array(tie), reach, len(comparisons)),
        effects=[
            _within(value, np.array([draw.effects[n] for draw in drawn]), reach, n_seen)
            for n, (value, n_seen) in enumerate(
                zip(fit.effects, (comparisons.effects != 0).sum(axis=0), strict=True)
            )
        ],
    )


def _within(value: float, drawn: Floats, reach: float, n: int) -> Estimate:
    if not np.isfinite(reach):
        return Estimate(n=int(n), value=float(value), because=ONE_PROMPT)
    half = reach * float(drawn.std(ddof=1))
    return Estimate(
        n=int(n), value=float(value), low=float(value) - half, high=float(value) + half
    )


def _tie_share(tie: float) -> float:
    return float(np.exp(tie) / (2 + np.exp(tie)))


def _leaderboard(
    comparisons: Comparisons, fit: Fit, drawn: Floats, reach: float, models: Ints
) -> list[Ranked]:
    n = _times(comparisons)
    middle = fit.strength[models].mean()
    drawn = drawn[:, models] - drawn[:, models].mean(axis=1, keepdims=True)
    strength = fit.strength[models] - middle
    apart = strength[:, None] - strength[None, :]
    spread = (drawn[:, :, None] - drawn[:, None, :]).std(axis=0, ddof=1)
    surely = apart > (reach * spread if np.isfinite(reach) else np.inf)
    beaten, won = _ends(comparisons)
    found = []
    for place, model in enumerate(models.tolist()):
        estimate = _within(strength[place], drawn[:, place], reach, n[model])
        if not beaten[model]:
            estimate = replace(estimate, high=None, because=NEVER_BEATEN)
        if not won[model]:
            estimate = replace(estimate, low=None, because=NEVER_WON)
        found.append(
            Ranked(
                model=model,
                strength=estimate,
                best=1 + int(surely[:, place].sum()),
                worst=len(models) - int(surely[place].sum()),
            )
        )
    return sorted(found, key=lambda ranked: -float(ranked.strength.value or 0.0))


def _times(comparisons: Comparisons) -> Ints:
    found: Ints = np.bincount(
        np.concatenate([comparisons.first, comparisons.second]),
        minlength=comparisons.n_models,
    )
    return found


def _groups(comparisons: Comparisons) -> Ints:
    """The group of each model: those that a chain of comparisons connects."""
    n = comparisons.n_models
    edges = coo_array(
        (np.ones(len(comparisons)), (comparisons.first, comparisons.second)), (n, n)
    )
    found: Ints = connected_components(edges, directed=False)[1].astype(np.int64)
    return found


def _ends(comparisons: Comparisons) -> tuple[list[bool], list[bool]]:
    """Of each model, whether anybody outside its knot beat it, and whether it did.

    A knot is a set of models each of which has beaten or tied each other one, at
    least through others. Between knots the likelihood has no maximum (Ford,
    American Mathematical Monthly 64, 1957).
    """
    first, second, outcome = (
        comparisons.first,
        comparisons.second,
        comparisons.outcome,
    )
    n = comparisons.n_models
    upper = np.concatenate([first[outcome >= 0], second[outcome <= 0]])
    lower = np.concatenate([second[outcome >= 0], first[outcome <= 0]])
    edges = coo_array((np.ones(len(upper)), (upper, lower)), (n, n))
    knot = connected_components(edges, connection="strong")[1]
    group = _groups(comparisons)
    outside = knot[upper] != knot[lower]
    beaten, won = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
    beaten[np.isin(knot, knot[lower[outside]])] = True
    won[np.isin(knot, knot[upper[outside]])] = True
    one_knot = np.array([len(set(knot[group == g])) == 1 for g in group])
    return (beaten | one_knot).tolist(), (won | one_knot).tolist()


@dataclass(frozen=True, eq=False)
class _Cells:
    """Comparisons that look the same, counted: the likelihood needs no more."""

    design: Floats
    """+1 for the first model, -1 for the second, then the effects."""
    n_models: int
    counts: Floats
    """Cells × (won, tied, lost)."""
    by_prompt: coo_array
    n_prompts: int
    has_ties: bool

    @classmethod
    def of(cls, comparisons: Comparisons) -> _Cells:
        first, second, effects = (
            comparisons.first,
            comparisons.second,
            comparisons.effects,
        )
        # One number a look: sorting rows of several columns takes many times as long.
        look = first * comparisons.n_models + second
        for effect in effects.T:
            code = codes(effect)
            look = codes(look) * (int(code.max(initial=0)) + 1) + code
        _, example, cell = np.unique(look, return_index=True, return_inverse=True)
        n_cells, rows = len(example), np.arange(len(example))
        design = np.zeros((n_cells, comparisons.n_models + effects.shape[1]))
        design[rows, first[example]] += 1
        design[rows, second[example]] -= 1
        design[:, comparisons.n_models :] = effects[example]
        prompt = codes(comparisons.prompt)
        n_prompts = int(prompt.max(initial=-1)) + 1
        entry = cell * 3 + (1 - comparisons.outcome)
        by_prompt = coo_array(
            (np.ones(len(entry)), (prompt, entry)), (n_prompts, n_cells * 3)
        ).tocsr()
        return cls(
            design=design,
            n_models=comparisons.n_models,
            counts=by_prompt.sum(axis=0).reshape(-1, 3),
            by_prompt=by_prompt,
            n_prompts=n_prompts,
            has_ties=bool((comparisons.outcome == 0).any()),
        )

    def resampled(self, chance: np.random.Generator) -> Floats:
        n = self.n_prompts
        times = np.bincount(chance.integers(0, n, n), minlength=n)
        counts: Floats = (times @ self.by_prompt).reshape(-1, 3)
        return counts

    def fit(self, counts: Floats, prior: float, start: Fit | None = None) -> Fit:
        """The most likely parameters by Newton's method; the likelihood is concave."""
        n_linear = self.design.shape[1]
        x = np.zeros(n_linear + 1)
        if start is not None:
            x = np.concatenate([start.strength, start.effects, [start.tie]])
        if not self.has_ties:
            x[-1] = -np.inf
        best = self._likelihood(x, counts, prior)
        for _ in range(100):
            gradient, hessian = self._slopes(x, counts, prior)
            step = np.zeros(n_linear + 1)
            n = n_linear + self.has_ties
            step[:n] = np.linalg.lstsq(hessian[:n, :n], gradient[:n], rcond=1e-12)[0]
            scale = 1.0
            while (
                after := self._likelihood(x + scale * step, counts, prior)
            ) < best - 1e-12 * abs(best) and scale > 1e-6:
                scale /= 2
            x, best = x + scale * step, after
            if np.abs(step).max() < 1e-10:
                break
        return Fit(
            strength=x[: self.n_models], effects=x[self.n_models : -1], tie=x[-1]
        )

    def _chances(self, x: Floats) -> Floats:
        half = self.design @ x[:-1] / 2
        logits = np.column_stack([half, np.full(len(half), x[-1]), -half])
        logits -= np.maximum(np.abs(half), x[-1])[:, None]
        chances = np.exp(logits)
        found: Floats = chances / chances.sum(axis=1, keepdims=True)
        return found

    def _likelihood(self, x: Floats, counts: Floats, prior: float) -> float:
        logs = np.log(np.maximum(self._chances(x), 1e-300))
        free = x[:-1] if not self.has_ties else x
        return float((counts * logs).sum() - prior / 2 * free @ free)

    def _slopes(self, x: Floats, counts: Floats, prior: float) -> tuple[Floats, Floats]:
        """The gradient, and the negative second derivatives."""
        won, tied, lost = self._chances(x).T
        n = counts.sum(axis=1)
        lead = (won - lost) / 2
        gradient = np.append(
            self.design.T @ ((counts[:, 0] - counts[:, 2]) / 2 - n * lead),
            (counts[:, 1] - n * tied).sum(),
        )
        spread = n * ((won + lost) / 4 - lead**2)
        cross = -self.design.T @ (n * tied * lead)
        hessian = np.block(
            [
                [self.design.T @ (spread[:, None] * self.design), cross[:, None]],
                [cross[None, :], (n * tied * (1 - tied)).sum()],
            ]
        )
        held = np.where(np.isfinite(x), x, 0.0)
        return gradient - prior * held, hessian + prior * np.eye(len(x))


@dataclass(frozen=True)
class Duel:
    """How one model did against another."""

    first: int
    second: int
    won: int
    tied: int
    lost: int
    share: Estimate
    """Of the decided ones, those that the first won."""


def duels(comparisons: Comparisons) -> list[Duel]:
    """Every two models that were compared; the first has the lower number."""
    turned = comparisons.first > comparisons.second
    low = np.where(turned, comparisons.second, comparisons.first)
    high = np.where(turned, comparisons.first, comparisons.second)
    outcome = np.where(turned, -comparisons.outcome, comparisons.outcome)
    n = comparisons.n_models
    found = []
    for pair, rows in groups(low * n + high, n * n):
        result = outcome[rows]
        decided = rows[result != 0]
        found.append(
            Duel(
                first=pair // n,
                second=pair % n,
                won=int((result == 1).sum()),
                tied=int((result == 0).sum()),
                lost=int((result == -1).sum()),
                share=share_by_prompt(
                    comparisons.prompt[decided],
                    outcome[decided] == 1,
                    "All comparisons of the two are ties.",
                ),
            )
        )
    return found
