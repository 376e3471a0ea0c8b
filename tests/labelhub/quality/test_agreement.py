from __future__ import annotations

import math
import random

import pytest

from labelhub.quality.agreement import agreement, alpha
from labelhub.quality.bias import length_bias, position_bias
from labelhub.quality.estimate import share, wilson


def units(*verdicts: str) -> list[tuple[int, str]]:
    return list(enumerate(verdicts))


def test_the_wilson_interval_is_that_of_the_textbook():
    # Newcombe, Statistics in Medicine 17 (1998), table I: 81 of 263 and 0 of 20.
    assert [round(x, 4) for x in wilson(81, 263)] == [0.2553, 0.3662]
    assert [round(x, 4) for x in wilson(0, 20)] == [0.0, 0.1611]


def test_independent_observations_get_the_plain_wilson_interval():
    found = share([(1, 1)] * 700 + [(0, 1)] * 300, "")
    low, high = wilson(700, 1000)
    assert found.value == 0.7
    assert found.low == pytest.approx(low, abs=1e-3)
    assert found.high == pytest.approx(high, abs=1e-3)


def test_observations_that_move_together_count_as_one():
    """Ten copies of each observation tell no more than one of each."""
    alone = share([(1, 1)] * 30 + [(0, 1)] * 20, "")
    copies = share([(10, 10)] * 30 + [(0, 10)] * 20, "")
    assert copies.n == 10 * alone.n
    assert copies.low == pytest.approx(alone.low)
    assert copies.high == pytest.approx(alone.high)


def test_a_perfect_share_still_has_an_interval():
    found = share([(1, 1)] * 20, "")
    assert found.value == found.high == 1.0
    assert found.low == pytest.approx(1 - 0.1611, abs=1e-4)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    """Prompts differ in difficulty, so a plain interval would cover far less."""
    chance = random.Random(7)
    covered = 0
    for _ in range(400):
        clusters = []
        for _ in range(60):
            p = chance.choice([0.4, 0.95])
            clusters.append((sum(chance.random() < p for _ in range(8)), 8))
        found = share(clusters, "")
        covered += found.low <= 0.675 <= found.high
    assert 365 <= covered <= 395


def test_agreement_counts_pairs_of_judges():
    # aab: 1 of 3 pairs; bb: 1 of 1; abc: 0 of 3; the single judge makes no pair.
    found = agreement(units("aab", "bb", "abc", "a"))
    assert (found.value, found.n) == (2 / 7, 7)


@pytest.mark.parametrize("measure", [agreement, alpha])
@pytest.mark.parametrize("nobody", [[], units("a", "b")])
def test_it_says_when_nobody_judged_the_same_task(measure, nobody):
    found = measure(nobody)
    assert found.value is None
    assert found.n == 0
    assert found.because == "No task was judged by two people."


# Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), sections A to C.
MEG_AND_OWEN = ["01", "11", "01", "00", "00", "01", "00", "00", "10", "00"]
BEN_AND_GERRY = ["ab", "aa", "bb", "bb", "db", "cc", "cc", "cc", "ee", "dd", "dd", "ad"]
FOUR_OBSERVERS = ["111", "2232", "3333", "3333", "2222", "1234", "4444", "1121"]
FOUR_OBSERVERS += ["2222", "555", "11", "3"]


@pytest.mark.parametrize(
    ("verdicts", "value"),
    [(MEG_AND_OWEN, 0.095), (BEN_AND_GERRY, 0.692), (FOUR_OBSERVERS, 0.743)],
)
def test_alpha_is_that_of_the_published_examples(verdicts, value):
    found = alpha(units(*verdicts))
    assert round(found.value, 3) == value
    assert found.low < found.value <= found.high


def test_alpha_is_undefined_when_everybody_says_the_same():
    found = alpha(units("aa", "aa", "aaa"))
    assert found.value is None
    assert found.n == 7
    assert "same verdict" in found.because


def test_alpha_is_about_zero_for_guessers():
    chance = random.Random(3)
    found = alpha(units(*("".join(chance.choices("abt", k=3)) for _ in range(2000))))
    assert found.low < 0 < found.high
    assert found.high - found.low < 0.08


def test_the_jackknife_agrees_with_leaving_out_tasks_one_by_one():
    tasks = [*BEN_AND_GERRY, *BEN_AND_GERRY, "ab", "ee"]
    found = alpha(units(*tasks))
    without = [
        alpha(units(*tasks[:i], *tasks[i + 1 :])).value for i in range(len(tasks))
    ]
    n, mean = len(tasks), sum(without) / len(tasks)
    half = 1.96 * math.sqrt((n - 1) / n * sum((x - mean) ** 2 for x in without))
    assert found.high - found.value == pytest.approx(half, rel=1e-3)


@pytest.mark.parametrize("measure", [length_bias, position_bias])
def test_bias_is_the_share_of_wins(measure):
    found = measure([(1, True), (1, True), (2, False), (3, True)])
    assert (found.value, found.n) == (0.75, 4)
    assert found.low < 0.75 < found.high


@pytest.mark.parametrize("measure", [length_bias, position_bias])
def test_no_bias_is_claimed_from_nothing(measure):
    found = measure([])
    assert found.value is None
    assert found.because
