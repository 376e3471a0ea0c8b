from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from labelhub.quality import agreement as streamed
from labelhub.quality.arrays import Judged
from labelhub.quality.coefficients import (
    ac1,
    alpha,
    by_judge,
    coefficients,
    cohen,
    fleiss,
    self_consistency,
)

REFERENCE = json.loads(
    (Path(__file__).parent / "reference" / "agreement.json").read_text()
)
"""Made by make_agreement.py beside it, with irrCAC, krippendorff and scikit-learn."""


def judged(table: list[list[int]] | np.ndarray, prompt: np.ndarray | None = None):
    """Rows are tasks, columns judges, -1 is a judge who did not see the task."""
    table = np.asarray(table, dtype=np.int64)
    task, judge = np.nonzero(table >= 0)
    where = task if prompt is None else prompt[task]
    return Judged.of(where, task, judge, table[task, judge])


@pytest.mark.parametrize("name", REFERENCE)
def test_the_values_are_those_of_the_reference_libraries(name):
    expected = REFERENCE[name]
    table = judged(expected["table"])
    counts, prompt = table.counts()
    found = {key: e.value for key, e in coefficients(table).items()}
    found["alpha_ordinal"] = alpha(counts, prompt, ordinal=True).value
    for key in found.keys() & expected.keys():
        assert found[key] == pytest.approx(expected[key], abs=1e-6), key
    if "cohen_of_two" in expected:
        assert found["cohen"] == pytest.approx(expected["cohen_of_two"], abs=1e-6)


@pytest.mark.parametrize("name", ["two judges", "five judges", "missing cells"])
@pytest.mark.parametrize("measure", [fleiss, ac1])
def test_the_intervals_are_about_those_of_irrcac(name, measure):
    """Its are of the first order, ours leave out each task: near, not the same."""
    low, high = REFERENCE[name][f"{measure.__name__}_interval"]
    found = measure(*judged(REFERENCE[name]["table"]).counts())
    assert found.high - found.low == pytest.approx(high - low, rel=0.05)


@pytest.mark.parametrize("name", REFERENCE)
def test_what_a_snapshot_streams_is_the_same(name):
    table = REFERENCE[name]["table"]
    units = [(n, [str(v) for v in row if v >= 0]) for n, row in enumerate(table)]
    found = coefficients(judged(table))
    for key in ("agreement", "alpha"):
        same = getattr(streamed, key)(units)
        assert found[key].value == pytest.approx(same.value, abs=1e-12)
    raw = streamed.agreement(units)
    assert (found["agreement"].n, found["agreement"].low) == (raw.n, raw.low)


@pytest.mark.parametrize(
    "table",
    [np.zeros((0, 2)), [[0], [1]], [[0, -1], [-1, 1]]],
    ids=["nothing", "one annotator", "nobody on the same task"],
)
def test_without_shared_tasks_it_says_so(table):
    for found in coefficients(judged(np.array(table, dtype=int))).values():
        if found.because:
            assert found.value is None
            assert (found.n, found.because) == (0, "No task was judged by two people.")
    assert by_judge(judged(np.array(table, dtype=int))) == {}


def test_one_shared_task_has_a_value_and_no_interval():
    found = coefficients(judged([[0, 1], [1, -1], [0, -1]]))
    assert (found["agreement"].value, found["agreement"].n) == (0.0, 1)
    assert found["agreement"].low is None
    assert "one prompt" in found["agreement"].because


def test_when_all_say_the_same_chance_explains_all_but_ac1():
    found = coefficients(judged(np.zeros((30, 3), dtype=int)))
    for key in ("cohen", "fleiss", "alpha"):
        assert found[key].value is None
        assert "same verdict" in found[key].because
    assert found["ac1"].value == 1.0
    assert found["ac1"].low is None
    assert found["agreement"].low > 0.85


def test_perfect_agreement_claims_no_certainty():
    found = coefficients(judged([[n % 2] * 3 for n in range(12)]))
    for key in ("cohen", "fleiss", "alpha", "ac1"):
        assert found[key].value == 1.0
        assert found[key].low is None
        assert found[key].because == "Too few tasks differ for an interval."


def test_thumbs_that_are_nearly_all_up_agree_though_kappa_is_about_zero():
    """The paradox of κ: 95 % agreement, κ about 0."""
    table = np.ones((200, 2), dtype=int)
    table[:5, 0] = table[5:10, 1] = 0
    found = coefficients(judged(table))
    assert found["agreement"].value == 0.95
    assert abs(found["cohen"].value) < 0.05
    assert found["ac1"].value > 0.94


def test_tasks_of_one_prompt_do_not_narrow_the_interval():
    chance = np.random.default_rng(1)
    table = chance.integers(0, 2, (40, 3))
    copies = np.repeat(table, 10, axis=0)
    alone = coefficients(judged(table))
    together = coefficients(judged(copies, np.repeat(np.arange(40), 10)))
    # α and pooled κ count cells, so their values change a little, the widths hardly.
    for key in ("agreement", "cohen", "fleiss", "alpha", "ac1"):
        wide = alone[key].high - alone[key].low
        assert together[key].high - together[key].low == pytest.approx(wide, rel=0.05)


def test_a_judge_is_held_against_the_others():
    chance = np.random.default_rng(2)
    truth = chance.integers(0, 3, 300)
    table = np.column_stack([truth, truth, truth, chance.integers(0, 3, 300)])
    found = by_judge(judged(table))
    guesser = found.pop(3)
    assert abs(guesser["cohen"].value) < 0.1
    assert guesser["cohen"].low < 0 < guesser["cohen"].high
    for judge in found.values():
        assert judge["agreement"].value > 0.7
        assert judge["cohen"].n == 900


def test_nobody_is_a_judge_of_himself():
    twice = Judged.of(*np.array([[0, 0], [0, 0], [5, 5], [1, 0]]))
    assert len(twice) == 1
    assert coefficients(twice)["agreement"].value is None


def test_the_order_of_the_rows_does_not_matter():
    table = judged(REFERENCE["missing cells"]["table"])
    chance = np.random.default_rng(0)
    shuffled = chance.permutation(len(table))
    again = Judged.of(
        *(getattr(table, name)[shuffled] for name in ("prompt", "task", "judge")),
        table.verdict[shuffled],
    )
    assert coefficients(again) == coefficients(table)


@pytest.mark.parametrize("key", ["agreement", "cohen", "fleiss", "alpha", "ac1"])
def test_the_intervals_cover_the_truth_about_as_often_as_they_say(key):
    chance = np.random.default_rng(3)

    def table(tasks):
        truth = chance.choice(3, tasks, p=[0.5, 0.3, 0.2])
        hard = chance.random(tasks) < 0.3
        said = chance.integers(0, 3, (tasks, 4))
        right = chance.random((tasks, 4)) < np.where(hard, 0.2, 0.85)[:, None]
        said = np.where(right, truth[:, None], said)
        return judged(np.where(chance.random(said.shape) < 0.3, -1, said))

    measure = {"cohen": cohen}.get(key, lambda table: coefficients(table)[key])
    whole = measure(table(200_000)).value
    covered = 0
    for _ in range(400):
        found = measure(table(60))
        covered += found.low <= whole <= found.high
    # 95 % of 400 is 380; three standard errors of that are 13.
    assert 367 <= covered <= 393


def test_consistency_with_oneself():
    found = self_consistency(*np.array([[0, 1, 2, 3], [0, 1, 2, 0], [0, 1, 2, 1]]))
    assert (found.value, found.n) == (0.75, 4)
    none = self_consistency(*np.zeros((3, 0), dtype=np.int64))
    assert none.because == "Nobody judged a task that repeats another."


def test_pairs_who_share_little_do_not_hide_agreement():
    """Thirty people, each two of whom share a task or two."""
    chance = np.random.default_rng(9)
    truth = chance.integers(0, 2, 300)
    table = np.full((300, 30), -1)
    for row in table:
        row[chance.permutation(30)[:3]] = 0
    said = np.where(
        chance.random(table.shape) < 0.9, truth[:, None], 1 - truth[:, None]
    )
    found = cohen(judged(np.where(table >= 0, said, -1)))
    assert found.low < 2 * 0.82 - 1 < found.high
