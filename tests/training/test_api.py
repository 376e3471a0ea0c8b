"""Datasets and runs by program."""

from __future__ import annotations

import math

import pytest

from labelhub.models import Event
from tests.api import Api
from tests.builders import (
    add_points,
    make_attempt,
    make_judgment,
    make_run,
    make_snapshot,
    make_task,
)
from training import exporting
from training.models import LogChunk, Run, Snapshot


@pytest.fixture
def api(mona):
    return Api(mona)


@pytest.fixture
def path(project):
    return f"projects/{project.slug}"


def test_a_dataset_is_frozen_and_its_rows_taken(api, path, project):
    for _ in range(6):
        make_judgment(make_task(project), "a")
    body = {"algorithm": "dpo", "eval_share": 0}
    r = api.post(f"{path}/snapshots", body)
    assert (r.status_code, r.json()["state"]) == (202, "freezing")
    assert api.post(f"{path}/snapshots", body).json()["id"] == r.json()["id"]
    exporting.complete(Snapshot.objects.get())
    done = api.get(f"{path}/snapshots/{r.json()['id']}").json()
    assert (done["state"], done["n_train"]) == ("ready", 6)
    rows = api.get(f"{path}/snapshots/{done['id']}/files/train.jsonl")
    assert len(b"".join(rows.streaming_content).splitlines()) == 6
    assert api.get(f"{path}/snapshots/{done['id']}/files/nothing").status_code == 404
    assert Event.objects.filter(verb="snapshot.frozen", actor__username="mona")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"algorithm": "kto", "ties": "drop", "judges": ["nobody"]}, 400),
        ({"algorithm": "dpo", "ties": "both_good"}, 422),
        ({"algorithm": "dpo", "judges": []}, 422),
        ({"algorithm": "kto", "margins": "strength"}, 422),
        ({"algorithm": "dpo", "min_strength": 4}, 400),
        ({"algorithm": "dpo", "eval_share": 2}, 400),
        ({}, 400),
    ],
)
def test_a_recipe_that_cannot_be_followed_freezes_nothing(api, path, body, status):
    assert api.post(f"{path}/snapshots", body).status_code == status
    assert not Snapshot.objects.exists()


def _launch(api, path, project, **more):
    snapshot = make_snapshot(project)
    config = {"algorithm": "dpo", "base_model": "org/base@v1", "max_steps": 5}
    body = {"name": "first", "config": config | more, "snapshot": snapshot.pk}
    return api.post(f"{path}/runs", body, **{"Idempotency-Key": "k"}), body


def test_a_run_is_launched_once_under_its_key(api, path, project):
    r, body = _launch(api, path, project)
    assert (r.status_code, r.json()["state"]) == (201, "queued")
    again = api.post(f"{path}/runs", body, **{"Idempotency-Key": "k"})
    assert again.json() == r.json()
    assert Run.objects.get().created_by.username == "mona"
    assert Event.objects.filter(verb="run.launched").count() == 1


def test_a_configuration_that_cannot_be_run_is_refused(api, path, project):
    r, _ = _launch(api, path, project, learning_rat=1)
    assert r.status_code == 422
    assert "learning_rate" in r.json()["error"]["message"]
    assert not Run.objects.exists()


def test_a_run_is_canceled_and_an_end_is_not_stopped(api, path, project):
    run = make_run(project)
    assert api.post(f"{path}/runs/{run.pk}/cancel").json()["state"] == "canceled"
    done = make_run(project, state="succeeded")
    for action in ("stop", "retry"):
        r = api.post(f"{path}/runs/{done.pk}/{action}")
        assert (r.status_code, r.json()["error"]["code"]) == (422, "run_refused")


def test_metrics_and_log_come_as_they_were_reported(api, path, project):
    run = make_run(project, state="running")
    attempt = make_attempt(run)
    add_points(attempt, "loss", {1: 0.5, 2: math.nan})
    add_points(attempt, "reward", {1: 1.0})
    LogChunk.objects.create(attempt=attempt, offset=0, text="loading\n")
    points = api.rows(f"{path}/runs/{run.pk}/metrics?name=loss&limit=1")
    assert [(p["step"], p["value"], p["nonfinite"]) for p in points] == [
        (1, 0.5, ""),
        (2, None, "nan"),
    ]
    (chunk,) = api.rows(f"{path}/runs/{run.pk}/log")
    assert chunk == {"attempt": 1, "offset": 0, "text": "loading\n"}
