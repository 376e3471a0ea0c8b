"""What the charts are given is what was reported, and only what is new."""

from __future__ import annotations

import gzip
import json
import math

import pytest

from tests.builders import (
    add_points,
    make_attempt,
    make_run,
    run_url,
)
from training.models import Attempt, Run


def test_the_curves_are_what_was_reported(viewer, run):
    answer = viewer.get(run_url("metrics", run)).json()
    assert answer["state"] == "running"
    assert answer["series"]["loss"]["points"] == [[10, 0.69], [20, 0.6], [30, 0.5]]
    assert answer["series"]["eval_rewards/accuracies"]["split"] == "eval"
    drawn = {name for panel in answer["panels"] for name in panel["names"]}
    assert set(answer["series"]) <= drawn


def test_only_new_points_are_sent_and_nothing_is_204(viewer, run):
    url = run_url("metrics", run)
    cursor = viewer.get(url).json()["cursor"]
    assert viewer.get(url, {"after": cursor}).status_code == 204

    add_points(run.attempts.get(), "loss", {40: math.inf})
    answer = viewer.get(url, {"after": cursor}).json()
    assert (answer["append"], answer["from"]) == (True, 40)
    assert answer["series"] == {
        "loss": {
            "label": "loss",
            "split": "train",
            "points": [],
            "nonfinite": [[40, "inf"]],
        }
    }


def test_the_last_answer_says_done(viewer, run):
    url = run_url("metrics", run)
    cursor = viewer.get(url).json()["cursor"]
    Run.objects.filter(pk=run.pk).update(state=Run.State.STOPPED)
    answer = viewer.get(url, {"after": cursor}).json()
    assert (answer["state"], answer["append"], answer["series"]) == ("done", True, {})


def test_a_run_without_points_still_has_its_panels(viewer, project):
    answer = viewer.get(run_url("metrics", make_run(project))).json()
    assert answer["series"] == {}
    assert "Loss" in [panel["title"] for panel in answer["panels"]]


@pytest.mark.parametrize(
    "after", ["", "x", "-1.1", "1", "1.x", "9" * 40 + ".1", "0.0", "5.0", "٣.٣"]
)
def test_a_broken_cursor_gets_everything(viewer, run, after):
    answer = viewer.get(run_url("metrics", run), {"after": after}).json()
    assert len(answer["series"]["loss"]["points"]) == 3
    assert answer["append"] is False


def test_every_metric_has_a_panel_whatever_its_name(viewer, run):
    for name in ("a b/c", "<script>alert(1)</script>", "eval_odd", "@1"):
        add_points(run.attempts.get(), name, {1: 1.0})
    answer = viewer.get(run_url("metrics", run)).json()
    folded = [p for p in answer["panels"] if p["folded"]]
    titles = ["<script>alert(1)</script>", "@1", "a b/c", "odd"]
    assert [p["title"] for p in folded] == titles


def test_the_lost_tail_is_drawn_in_the_same_panel(viewer, run):
    run.refresh_from_db()
    run.attempts.update(state=Attempt.State.LOST)
    add_points(make_attempt(run), "loss", {20: 0.55})
    answer = viewer.get(run_url("metrics", run)).json()
    assert answer["series"]["loss"]["points"] == [[10, 0.69], [20, 0.55]]
    assert answer["series"]["loss@1"]["points"] == [[20, 0.6], [30, 0.5]]
    loss = next(p for p in answer["panels"] if p["key"] == "loss")
    assert "loss@1" in loss["names"]


def test_the_csv_holds_every_point(viewer, run):
    add_points(run.attempts.get(), "loss", {31: math.nan})
    r = viewer.get(run_url("metrics_csv", run))
    lines = b"".join(r.streaming_content).decode().splitlines()
    assert lines[0] == "attempt,step,name,value,unix_time"
    assert lines[1] == "1,10,loss,0.69,1700000010.0"
    assert lines[-1].startswith("1,31,loss,nan,")
    assert len(lines) == 7


def test_looking_closer_asks_for_a_stretch(viewer, run):
    values = dict.fromkeys(range(40, 9000), 0.5) | {5001: 80.0, 5002: math.nan}
    add_points(run.attempts.get(), "loss", values)
    url = run_url("metrics", run)
    whole = viewer.get(url).json()
    assert whole["width"] > 1
    assert [5003, 0.5, 0.5, 80.0] not in whole["series"]["loss"]["points"]
    assert max(max(point) for point in whole["series"]["loss"]["points"]) < 9000
    assert any(point[-1] == 80.0 for point in whole["series"]["loss"]["points"])

    near = viewer.get(url, {"from": 5000, "to": 5004}).json()
    assert near["width"] == 1
    assert near["series"]["loss"]["points"] == [
        [5000, 0.5],
        [5001, 80.0],
        [5003, 0.5],
        [5004, 0.5],
    ]
    assert near["series"]["loss"]["nonfinite"] == [[5002, "nan"]]


@pytest.mark.parametrize(
    "stretch",
    [("5", ""), ("", "5"), ("6", "5"), ("-1", "5"), ("x", "5"), ("1", "9" * 40)],
)
def test_a_stretch_that_is_none_is_told(viewer, run, stretch):
    first, last = stretch
    r = viewer.get(run_url("metrics", run), {"from": first, "to": last})
    assert r.status_code == 400
    assert "whole numbers" in r.text


def test_a_stretch_beyond_every_step_is_empty(viewer, run):
    stretch = {"from": 2**31, "to": 2**33}
    assert viewer.get(run_url("metrics", run), stretch).json()["series"] == {}


def test_curves_are_sent_compressed(viewer, run):
    url = run_url("metrics", run)
    packed = viewer.get(url, headers={"Accept-Encoding": "gzip"})
    assert packed["Content-Encoding"] == "gzip"
    assert json.loads(gzip.decompress(packed.content)) == viewer.get(url).json()
