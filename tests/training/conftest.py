"""What the tests of runs and their pages share."""

from __future__ import annotations

import pytest

from tests.builders import add_points, make_attempt, make_run, make_snapshot
from tests.conftest import client_of
from training.models import LogChunk, Run

PAGES = [
    "run",
    "run_head",
    "metrics",
    "metrics_csv",
    "run_log",
    "run_samples",
    "run_data",
    "run_config",
    "run_history",
]
"""The pages of a run that every reader may open."""


@pytest.fixture
def run(project):
    """A DPO run that is at step 30 of 100."""
    run = make_run(
        project,
        "helpful-v1",
        state=Run.State.RUNNING,
        step=30,
        max_steps=100,
        snapshot=make_snapshot(project),
        config={"algorithm": "dpo", "base_model": "org/base@v1", "seed": 42},
    )
    attempt = make_attempt(run)
    add_points(attempt, "loss", {10: 0.69, 20: 0.6, 30: 0.5})
    add_points(attempt, "eval_rewards/accuracies", {0: 0.0, 30: 0.7})
    run.events.create(kind="data_ready", data={"ledger": {"eval": {"used": 8}}})
    LogChunk.objects.create(attempt=attempt, offset=0, text="loading\nstep 30\n")
    return run


@pytest.fixture
def viewer(vera):
    """A browser logged in as vera."""
    return client_of(vera)
