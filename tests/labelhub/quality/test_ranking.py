from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize

from labelhub.quality.ranking import Comparisons, _Cells, duels, rank

REFERENCE = json.loads(
    (Path(__file__).parent / "reference" / "ranking.json").read_text()
)
"""Made by make_ranking.py beside it, with choix and statsmodels."""


def compared(rows, n_models: int, n_effects: int = 0) -> Comparisons:
    """Rows of [prompt, first, second, outcome, effect, …]."""
    table = np.array(rows, dtype=float).reshape(len(rows), -1)
    prompt, first, second, outcome = table[:, :4].astype(np.int64).T
    effects = table[:, 4 : 4 + n_effects]
    return Comparisons(prompt, first, second, outcome, n_models, effects)


def fit(comparisons: Comparisons, prior: float = 0.0):
    cells = _Cells.of(comparisons)
    return cells.fit(cells.counts, prior)


def simulated(chance, n_prompts: int, strength, *, tie=0.0, each=3):
    """Prompts differ in how well they suit each model."""
    n = len(strength)
    suits = strength + chance.normal(0, 0.7, (n_prompts, n))
    prompt = np.repeat(np.arange(n_prompts), each)
    first = chance.integers(0, n, len(prompt))
    second = (first + chance.integers(1, n, len(prompt))) % n
    half = (suits[prompt, first] - suits[prompt, second]) / 2
    weights = np.exp(np.column_stack([half, np.full(len(half), tie), -half]))
    sums = np.cumsum(weights / weights.sum(axis=1, keepdims=True), axis=1)
    outcome = 1 - (chance.random(len(half))[:, None] > sums).sum(axis=1)
    return Comparisons(prompt, first, second, outcome, n, np.zeros((len(prompt), 0)))


@pytest.mark.parametrize("name", REFERENCE)
def test_without_ties_it_is_the_model_of_bradley_and_terry(name):
    expected = REFERENCE[name]
    found = fit(compared(expected["rows"], expected["n_models"]))
    assert found.strength - found.strength.mean() == pytest.approx(
        expected["choix"], abs=1e-6
    )
    assert found.tie == -np.inf


@pytest.mark.parametrize("name", REFERENCE)
def test_with_effects_it_is_a_logistic_regression(name):
    expected = REFERENCE[name]
    found = fit(compared(expected["rows"], expected["n_models"], n_effects=2))
    assert found.strength - found.strength.mean() == pytest.approx(
        expected["statsmodels"], abs=1e-6
    )
    assert found.effects == pytest.approx(expected["effects"], abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_with_ties_nothing_is_more_likely(seed):
    """A maximiser that knows nothing of ours finds the same parameters."""
    chance = np.random.default_rng(seed)
    n = 5
    games = simulated(chance, 60, chance.normal(0, 1, n), tie=0.3)
    first, second, outcome = games.first, games.second, games.outcome

    def less_likely(x):
        lead = x[first] - x[second]
        total = np.log(np.exp(lead / 2) + np.exp(-lead / 2) + np.exp(x[n]))
        said = np.where(outcome == 0, x[n], outcome * lead / 2)
        return (total - said).sum() + x[:n].sum() ** 2

    best = minimize(less_likely, np.zeros(n + 1), method="BFGS", options={"gtol": 1e-7})
    found = fit(games)
    assert found.strength - found.strength.mean() == pytest.approx(
        best.x[:n] - best.x[:n].mean(), abs=1e-6
    )
    assert found.tie == pytest.approx(best.x[n], abs=1e-6)


def test_turning_a_comparison_around_changes_nothing():
    rows = np.array(REFERENCE["four models"]["rows"])
    turned = rows * [1, 1, 1, -1, -1, -1]
    turned[:, [1, 2]] = turned[:, [2, 1]]
    before, after = (fit(compared(r, 4, 2)) for r in (rows, turned))
    assert after.strength == pytest.approx(before.strength)
    assert after.effects == pytest.approx(before.effects)


def test_a_model_that_never_lost_is_first_and_has_no_upper_end():
    rows = [[n, 0, 1 + n % 2, 1] for n in range(20)]
    rows += [[n, 1, 2, 1 if n % 3 else -1] for n in range(20)]
    found = rank(compared(rows, 3))
    [group] = found.groups
    assert [ranked.model for ranked in group] == [0, 1, 2]
    first = group[0].strength
    assert np.isfinite(first.value)
    assert (first.low is not None, first.high) == (True, None)
    assert "no upper end" in first.because
    assert all(ranked.strength.low is None for ranked in group[1:])


def test_models_that_were_never_compared_are_ranked_apart():
    rows = [[n, 0, 1, 1 if n % 3 else -1] for n in range(12)]
    rows += [[n, 3, 4, 1 if n % 2 else 0] for n in range(9)]
    found = rank(compared(rows, 5))
    models = [sorted(ranked.model for ranked in group) for group in found.groups]
    assert models == [[0, 1], [3, 4], [2]]
    for group in found.groups:
        assert sum(ranked.strength.value for ranked in group) == pytest.approx(0)


def test_a_circle_leaves_every_rank_open():
    """A beats B, B beats C, C beats A."""
    rows = [[n, n % 3, (n + 1) % 3, 1] for n in range(60)]
    [group] = rank(compared(rows, 3)).groups
    assert {(ranked.best, ranked.worst) for ranked in group} == {(1, 3)}


def test_one_prompt_has_no_intervals():
    [group] = rank(compared([[0, 0, 1, 1], [0, 0, 1, -1]], 2)).groups
    assert all("one prompt" in ranked.strength.because for ranked in group)


def test_ties_alone_make_equals():
    found = rank(compared([[n, 0, 1, 0] for n in range(30)], 2))
    assert [r.strength.value for r in found.groups[0]] == pytest.approx([0, 0])
    assert found.tie.value > 0.9


def test_the_same_judgments_give_the_same_ranking():
    games = simulated(np.random.default_rng(0), 50, np.array([1.0, 0.0, -1.0]))
    assert rank(games) == rank(games)


def test_intervals_draw_prompts_not_judgments():
    """Ten copies of each judgment tell no more than one of each."""
    games = simulated(np.random.default_rng(0), 80, np.array([0.5, 0.0, -0.5]))
    copies = Comparisons(
        *(np.repeat(getattr(games, name), 10) for name in ("prompt", "first")),
        np.repeat(games.second, 10),
        np.repeat(games.outcome, 10),
        3,
        np.zeros((10 * len(games), 0)),
    )
    for one, ten in zip(rank(games).groups[0], rank(copies).groups[0], strict=True):
        width = one.strength.high - one.strength.low
        assert ten.strength.high - ten.strength.low == pytest.approx(width, rel=0.05)


def test_each_duel_is_counted_from_one_side():
    rows = [[0, 0, 1, 1], [1, 1, 0, 1], [2, 1, 0, -1], [3, 0, 1, 0]]
    [duel] = duels(compared(rows, 2))
    assert (duel.first, duel.second) == (0, 1)
    assert (duel.won, duel.tied, duel.lost) == (2, 1, 1)
    assert (duel.share.value, duel.share.n) == (2 / 3, 3)


def test_the_intervals_cover_the_truth_about_as_often_as_they_say():
    strength = np.array([0.8, 0.2, -0.2, -0.8])
    chance = np.random.default_rng(5)
    truth = fit(simulated(chance, 200_000, strength)).strength
    truth -= truth.mean()
    covered = 0
    for n in range(60):
        [group] = rank(simulated(chance, 80, strength), seed=n).groups
        for ranked in group:
            estimate = ranked.strength
            covered += estimate.low <= truth[ranked.model] <= estimate.high
    # 95 % of 240 is 228; benchmarks/simulate_annotators.py looks closer.
    assert 216 <= covered <= 239
