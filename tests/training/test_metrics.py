"""Curves lose no spike, no NaN and no attempt, however many points there are."""

from __future__ import annotations

import math
import random

import pytest

from tests.builders import add_points, make_attempt, make_run
from training.metrics import (
    MAX_BUCKETS,
    Curves,
    bucket_width,
    read_curves,
    read_stretch,
)
from training.models import Attempt

pytestmark = pytest.mark.django_db


def curves_of(run, **kwargs):
    run.refresh_from_db()
    return read_curves(run, **kwargs)


def by_name(curves):
    return {(s.name, s.attempt): s for s in curves.series}


def brute_force(values, width):
    """The same buckets, the slow way."""
    buckets = {}
    for step in sorted(values):
        buckets.setdefault(step // width, []).append((step, values[step]))
    steps, mean, low, high, nonfinite = [], [], [], [], []
    for points in buckets.values():
        last = points[-1][0]
        finite = [v for _, v in points if math.isfinite(v)]
        steps.append(last)
        mean.append(math.fsum(finite) / len(finite) if finite else None)
        low.append(min(finite, default=None))
        high.append(max(finite, default=None))
        for kind in ("nan", "inf", "-inf"):
            if n := sum(str(v) == kind for _, v in points):
                nonfinite.append((last, kind, n))
    return steps, mean, low, high, nonfinite


@pytest.mark.parametrize("seed", range(4))
def test_buckets_are_what_counting_by_hand_gives(project, seed):
    rng = random.Random(seed)
    odd = [math.nan, math.inf, -math.inf, 1e9, -1e9, 0.0]
    steps = rng.sample(range(5000), 2500)
    values = {
        s: rng.choice(odd) if rng.random() < 0.1 else rng.gauss(0, 1) for s in steps
    }
    run = make_run(project)
    add_points(make_attempt(run), "loss", values)

    curves = curves_of(run)
    series = by_name(curves)["loss", 0]
    steps, mean, low, high, nonfinite = brute_force(values, curves.width)
    assert series.steps == steps
    assert (series.low, series.high) == (low, high)
    assert series.mean == [m if m is None else pytest.approx(m, abs=1e-6) for m in mean]
    assert series.nonfinite == nonfinite
    assert len(steps) <= MAX_BUCKETS


def test_a_spike_of_one_step_in_a_hundred_thousand_survives(project):
    run = make_run(project, max_steps=100_000)
    values = dict.fromkeys(range(0, 100_000, 20), 0.5) | {54_321: 80.0}
    add_points(make_attempt(run), "grad_norm", values)
    (series,) = curves_of(run).series
    assert len(series.steps) <= MAX_BUCKETS
    assert max(series.high) == 80.0


def test_few_points_are_kept_as_they_are(project):
    run = make_run(project, max_steps=500)
    add_points(make_attempt(run), "loss", {10: 0.7, 20: math.nan, 30: 0.5})
    (series,) = curves_of(run).series
    assert series.steps == [10, 20, 30]
    assert series.mean == [0.7, None, 0.5]
    assert series.nonfinite == [(20, "nan", 1)]


def test_the_greatest_doubles_have_a_finite_mean(project):
    run = make_run(project, max_steps=5000)
    greatest = 1.7976931348623157e308
    add_points(make_attempt(run), "loss", {1: greatest, 2: greatest, 3: greatest})
    (series,) = curves_of(run).series
    assert series.mean == [greatest]


def test_any_name_is_a_name(project):
    run = make_run(project)
    names = ["rewards/margins", "a b", "<script>alert(1)</script>", "ключ", "%s"]
    attempt = make_attempt(run)
    for name in names:
        add_points(attempt, name, {1: 1.0})
    assert {s.name for s in curves_of(run).series} == set(names)


def test_a_run_without_points_has_no_curves(project):
    assert curves_of(make_run(project)) is None


def test_another_runs_points_stay_out(project):
    run, other = make_run(project), make_run(project)
    add_points(make_attempt(other), "loss", {1: 1.0})
    assert curves_of(run) is None


def merged(earlier, later):
    """What a page does with an answer: drop from `start` on, append."""
    if later is None:
        return earlier
    found = {}
    for series in earlier.series:
        kept = sum(step < later.start for step in series.steps)
        found[series.name, series.attempt] = (series.steps[:kept], series.high[:kept])
    for series in later.series:
        steps, high = found.setdefault((series.name, series.attempt), ([], []))
        steps += series.steps
        high += series.high
    return {key: value for key, value in found.items() if value[0]}


@pytest.mark.parametrize("chunk", [1, 7, 400, 1500])
def test_curves_read_in_steps_are_the_curves_read_at_once(project, chunk):
    run = make_run(project, max_steps=9000)
    attempt = make_attempt(run)
    values = {step: random.Random(step).random() for step in range(chunk * 5)}
    shown = None
    for start in range(0, chunk * 5, chunk):
        part = {s: v for s, v in values.items() if start <= s < start + chunk}
        add_points(attempt, "loss", part)
        if shown is None:
            shown = last = curves_of(run)
        else:
            last = curves_of(run, after=last.cursor, width=last.width)
            later = merged(shown, last)
            shown.series[0].steps, shown.series[0].high = later["loss", 0]
    (whole,) = curves_of(run).series
    assert shown.series[0].steps == whole.steps
    assert shown.series[0].high == whole.high
    assert curves_of(run, after=last.cursor, width=last.width) is None


def test_a_run_that_outgrows_its_buckets_is_read_anew(project):
    run = make_run(project)
    attempt = make_attempt(run)
    add_points(attempt, "loss", dict.fromkeys(range(1900), 1.0))
    first = curves_of(run)
    add_points(attempt, "loss", dict.fromkeys(range(1900, 2100), 1.0))
    second = curves_of(run, after=first.cursor, width=first.width)
    assert (first.width, second.width, second.start) == (1, 4, 0)


def test_a_late_value_of_an_early_step_is_told(project):
    run = make_run(project, max_steps=100)
    attempt = make_attempt(run)
    add_points(attempt, "loss", dict.fromkeys(range(50), 1.0))
    first = curves_of(run)
    add_points(attempt, "eval_loss", {10: 0.9})
    later = curves_of(run, after=first.cursor, width=first.width)
    assert later.start == 10
    assert by_name(later)["eval_loss", 0].steps == [10]
    assert by_name(later)["loss", 0].steps == list(range(10, 50))


def test_the_lost_tail_of_an_attempt_is_kept_apart(project):
    run = make_run(project, max_steps=100)
    dead = make_attempt(run, state=Attempt.State.LOST)
    add_points(dead, "loss", dict.fromkeys(range(0, 60, 5), 2.0))
    alive = make_attempt(run)
    add_points(alive, "loss", dict.fromkeys(range(45, 80, 5), 1.0))
    found = by_name(curves_of(run))
    assert found["loss", 0].steps == list(range(0, 80, 5))
    assert found["loss", 0].mean == [2.0] * 9 + [1.0] * 7
    assert found["loss", 1].steps == [45, 50, 55]


def test_an_attempt_that_starts_over_supersedes_all_before(project):
    run = make_run(project, max_steps=100)
    for start in (0, 20, 0):
        run.attempts.update(state=Attempt.State.LOST)
        add_points(
            make_attempt(run), "loss", {start: 1.0, start + 10: float(run.fence)}
        )
    found = by_name(curves_of(run))
    assert found["loss", 0].steps == [0, 10]
    assert found["loss", 0].mean == [1.0, 3.0]
    assert found["loss", 1].steps == [0, 10]
    assert found["loss", 2].steps == [20, 30]


@pytest.mark.parametrize("last", [0, 1, 1999, 2000, 2001, 99_999, 32_000_000])
def test_no_run_has_more_buckets_than_fit(last):
    assert last // bucket_width(last) < MAX_BUCKETS


def test_it_takes_the_same_queries_for_any_number_of_points(
    project, django_assert_num_queries
):
    run = make_run(project, max_steps=100_000)
    attempt = make_attempt(run)
    for n in (10, 9000):
        add_points(attempt, f"loss{n}", dict.fromkeys(range(n), 1.0))
        # The newest point, the series, their buckets, their last values.
        with django_assert_num_queries(4):
            read_curves(run)
        with django_assert_num_queries(5):  # And where what is new begins.
            read_curves(run, after=1, width=64)
        with django_assert_num_queries(2):  # Every point: no bucket, no mean.
            read_stretch(run, 100, 200)


def test_looking_closer_shows_every_point(project):
    run = make_run(project)
    values = {step: random.Random(step).random() for step in range(20_000)}
    values[12_345] = math.nan
    values[12_346] = 80.0
    add_points(make_attempt(run), "loss", values)
    (coarse,) = curves_of(run).series
    assert len(coarse.steps) < 2000
    near = read_stretch(run, 12_000, 13_000)
    (series,) = near.series
    assert near.width == 1
    assert series.steps == list(range(12_000, 13_001))
    shown = dict(zip(series.steps, series.mean, strict=True))
    assert (shown[12_345], shown[12_346]) == (None, 80.0)
    assert series.nonfinite == [(12_345, "nan", 1)]


def test_a_stretch_where_nothing_was_reported_is_empty(project):
    run = make_run(project)
    assert read_stretch(run, 0, 10) is None
    add_points(make_attempt(run), "loss", {5: 1.0})
    assert read_stretch(run, 6, 10).series == []


def test_the_last_value_is_no_mean(project):
    run = make_run(project)
    attempt = make_attempt(run)
    add_points(attempt, "loss", dict.fromkeys(range(10_000), 1.0) | {9_999: 3.5})
    add_points(attempt, "broken", dict.fromkeys(range(10_000), 1.0) | {9_999: math.inf})
    found = by_name(curves_of(run))
    assert found["loss", 0].mean[-1] < 3.5
    assert found["loss", 0].last == 3.5
    assert found["broken", 0].last is None


@pytest.mark.parametrize("cut", [6000, 6001, 6015])
def test_a_lost_tail_is_cut_at_its_step_even_within_a_bucket(project, cut):
    run = make_run(project, max_steps=9000)
    dead = make_attempt(run, state=Attempt.State.LOST)
    old = {step: random.Random(step).random() for step in range(7000)} | {6020: 9.0}
    add_points(dead, "loss", old)
    before = curves_of(run)
    new = {step: random.Random(-step).random() for step in range(cut, 8000)}
    add_points(make_attempt(run), "loss", new)
    whole = curves_of(run)
    found = by_name(whole)
    counts = {step: value for step, value in old.items() if step < cut} | new
    tail = {step: value for step, value in old.items() if step >= cut}
    for attempt, values in ((0, counts), (1, tail)):
        steps, mean, low, high, _ = brute_force(values, whole.width)
        assert whole.width > 1
        assert found["loss", attempt].steps == steps
        assert found["loss", attempt].low == low
        assert found["loss", attempt].high == high
        assert found["loss", attempt].mean == pytest.approx(mean)
        assert found["loss", attempt].last == values[steps[-1]]
    later = curves_of(run, after=before.cursor, width=before.width)
    assert merged(before, later) == merged(whole, Curves(0, 1, 10**9, []))


@pytest.mark.parametrize("seed", range(3))
def test_buckets_are_right_whatever_comes_late_twice_or_in_disorder(project, seed):
    rng = random.Random(seed)
    run = make_run(project, max_steps=30_000)
    attempt = make_attempt(run)
    kept: dict[int, float] = {}
    for _ in range(20):
        start = rng.randrange(25_000)
        part = [rng.randrange(start, start + 5000) for _ in range(rng.randrange(200))]
        values = {step: rng.choice([rng.random(), math.nan]) for step in part}
        add_points(attempt, "loss", values)
        kept = values | kept
    curves = curves_of(run)
    (series,) = curves.series
    steps, mean, low, high, nonfinite = brute_force(kept, curves.width)
    assert curves.width == 16
    assert (series.steps, series.low, series.high) == (steps, low, high)
    assert series.nonfinite == nonfinite
    assert series.mean == [m if m is None else pytest.approx(m) for m in mean]


def test_the_least_doubles_are_no_error(project):
    run = make_run(project, max_steps=9000)
    add_points(make_attempt(run), "loss", {1: 5e-324, 2: -5e-324, 99: 1e-310})
    (series,) = curves_of(run).series
    assert (series.low[0], series.high[0]) == (-5e-324, 5e-324)
