from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from labelhub.quality import reliability
from labelhub.quality.arrays import Judged
from labelhub.quality.habits import haste, same_answer, usual_seconds
from labelhub.quality.reliability import (
    Compared,
    accuracies,
    crowd_bt,
    dawid_skene,
    reliabilities,
    sampled,
)
from tests.labelhub.quality.test_coefficients import judged

REFERENCE = json.loads(
    (Path(__file__).parent / "reference" / "reliability.json").read_text()
)
"""Made by make_reliability.py beside it, with crowd-kit."""


@pytest.mark.parametrize("name", REFERENCE)
def test_without_a_prior_it_is_the_model_of_dawid_and_skene(name):
    expected = REFERENCE[name]
    found = dawid_skene(judged(expected["table"]), prior=0.0, tolerance=1e-13)
    assert np.abs(found.right - expected["right"]).max() < 1e-6
    assert np.abs(found.errors - expected["errors"]).max() < 1e-6


def people(chance, right, tasks=400, missing=0.4):
    truth = chance.integers(0, 2, tasks)
    is_right = chance.random((tasks, len(right))) < right
    table = np.where(is_right, truth[:, None], 1 - truth[:, None])
    return np.where(chance.random(table.shape) < missing, -1, table), truth


def test_it_finds_who_is_right_without_being_told():
    right = np.array([0.95, 0.9, 0.85, 0.8, 0.7, 0.5])
    table, truth = people(np.random.default_rng(1), right)
    found = dawid_skene(judged(table))
    assert np.abs(found.accuracy - right).max() < 0.07
    seen = (table >= 0).any(axis=1)
    assert (found.right.argmax(axis=1) == truth[seen]).mean() > 0.9


def test_the_intervals_hold_the_truth_and_count_judgments():
    right = np.array([0.95, 0.9, 0.85, 0.8, 0.7, 0.5])
    table, _ = people(np.random.default_rng(2), right)
    found = accuracies(judged(table))
    assert [e.n for e in found] == (table >= 0).sum(axis=0).tolist()
    held = [e.low <= p <= e.high for e, p in zip(found, right, strict=True)]
    assert sum(held) >= 5
    assert all(0 < e.low < e.value < e.high < 1 for e in found)


def test_somebody_with_three_judgments_is_like_everybody():
    table, _ = people(np.random.default_rng(3), np.array([0.9, 0.9, 0.9, 0.9]))
    newcomer = np.full((len(table), 1), -1)
    newcomer[:3, 0] = 1 - np.maximum(table[:3, 0], 0)
    found = dawid_skene(judged(np.hstack([table, newcomer])))
    assert 0.5 < found.accuracy[4] < 0.9


@pytest.mark.parametrize(
    "table", [[[0], [1], [0]], [[0, 0], [0, 0]], [[0, 1]]], ids=["one", "agree", "pair"]
)
def test_awkward_tables_give_finite_numbers(table):
    for found in accuracies(judged(table)):
        assert np.isfinite(found.value)
        assert found.low is None
        assert "prompts" in found.because


def duels(chance, right, n_responses=40, n=1500) -> tuple[Compared, np.ndarray]:
    strength = chance.normal(0, 1.5, n_responses)
    a = chance.integers(0, n_responses, n)
    b = (a + chance.integers(1, n_responses, n)) % n_responses
    judge = chance.integers(0, len(right), n)
    ahead = expit(strength[a] - strength[b])
    says_a = right[judge] * ahead + (1 - right[judge]) * (1 - ahead)
    outcome = np.where(chance.random(n) < says_a, 1, -1)
    outcome[chance.random(n) < 0.1] = 0
    columns = (chance.integers(0, 60, n), judge, a, b, outcome)
    return Compared(*columns, len(right), n_responses), strength


RIGHT = np.array([0.97, 0.95, 0.9, 0.85, 0.5, 0.1])
"""The last one has the keys the wrong way round."""


def test_crowd_bt_is_the_maximum_that_a_search_of_its_own_finds():
    compared, _ = duels(np.random.default_rng(4), RIGHT)
    n = compared.n_judges

    def unlikely(x):
        own = expit(x[:n])[compared.judge]
        ahead = expit(x[n:][compared.a] - x[n:][compared.b])
        says_a = own * ahead + (1 - own) * (1 - ahead)
        weight = (compared.outcome + 1) / 2
        said = weight * np.log(says_a) + (1 - weight) * np.log(1 - says_a)
        prior = 3 * np.log(expit(x[:n])) + np.log(1 - expit(x[:n]))
        return -said.sum() - prior.sum() + (x[n:] ** 2).sum() / 8

    found = crowd_bt(compared)
    x = np.concatenate(
        [np.log(found.reliability / (1 - found.reliability)), found.strength]
    )
    nearby = x + np.random.default_rng(0).normal(0, 0.3, len(x))
    best = minimize(unlikely, nearby, method="BFGS", options={"gtol": 1e-6})
    assert found.strength == pytest.approx(best.x[n:], abs=1e-4)
    assert found.reliability == pytest.approx(expit(best.x[:n]), abs=1e-4)
    assert unlikely(x) <= best.fun + 1e-6


def test_crowd_bt_finds_who_sees_the_better_one():
    compared, strength = duels(np.random.default_rng(5), RIGHT, n=3000)
    found = crowd_bt(compared)
    assert np.abs(found.reliability - RIGHT).max() < 0.12
    assert np.corrcoef(found.strength, strength)[0, 1] > 0.9
    for estimate, right in zip(reliabilities(compared), RIGHT, strict=True):
        assert estimate.low - 0.05 < right < estimate.high + 0.05


def test_of_too_many_judgments_whole_prompts_are_drawn(monkeypatch):
    monkeypatch.setattr(reliability, "MOST_JUDGMENTS", 500)
    table, _ = people(np.random.default_rng(6), np.array([0.9] * 4), missing=0.0)
    whole = judged(table)
    drawn = sampled(whole)
    assert 400 < len(drawn) <= 500
    _, times = np.unique(drawn.prompt, return_counts=True)
    assert set(times.tolist()) == {4}
    assert sampled(drawn) is drawn
    assert isinstance(drawn, Judged)


def test_haste_is_measured_against_the_project():
    prompt, seconds = np.arange(6), np.array([1.0, 2, 30, 30, 40, np.nan])
    usual = usual_seconds(seconds)
    assert usual == 30
    found = haste(prompt, seconds, usual)
    assert (found.value, found.n) == (0.4, 5)
    none = haste(prompt, np.full(6, np.nan), usual_seconds(np.full(6, np.nan)))
    assert none.because == "No judgment says how long it took."


def test_always_the_same_key_shows():
    found = same_answer(np.arange(5), np.array([2, 2, 2, 0, -1]))
    assert (found.value, found.n) == (0.75, 4)
    none = same_answer(np.arange(2), np.array([-1, -1]))
    assert none.value is None


def test_strengths_of_responses_judged_thrice_tell_nothing_of_judges():
    compared, _ = duels(np.random.default_rng(7), RIGHT, n_responses=900)
    for estimate in reliabilities(compared):
        assert estimate.value is None
        assert "Responses have 3.3 judgments each" in estimate.because
