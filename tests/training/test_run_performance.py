"""Pages of runs take the same queries however much there is to show."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tests.builders import add_points, make_attempt, make_run, make_snapshot
from training.models import Attempt, LogChunk, Run, Sample


def queries_of(client, url):
    with CaptureQueriesContext(
        connection,
    ) as captured:
        assert client.get(url).status_code == 200
    return len(captured)


def test_the_list_takes_the_same_queries_for_10_and_50_runs(viewer, project):
    url = reverse("training:runs", args=[project.slug])
    counts = []
    for n in (10, 40):
        for _ in range(n):
            snapshot = make_snapshot(project)
            base = make_run(project)
            run = make_run(project, snapshot=snapshot, base_run=base)
            add_points(make_attempt(run), "eval_loss", {10: 0.5})
        counts.append(queries_of(viewer, url))
    assert counts[0] == counts[1]
    # Session, user, project with role, count, runs, algorithms.
    assert counts[0] == 6


@pytest.mark.parametrize(
    "name",
    [
        "run",
        "run_head",
        "metrics",
        "run_log",
        "run_samples",
        "run_data",
        "run_config",
        "run_history",
    ],
)
def test_a_run_takes_the_same_queries_however_long_it_ran(viewer, project, mona, name):
    run = make_run(
        project,
        state=Run.State.RUNNING,
        max_steps=900,
        snapshot=make_snapshot(project),
        base_run=make_run(project),
        created_by=mona,
    )
    url = reverse(f"training:{name}", args=[project.slug, run.pk])
    attempt = None
    counts = []
    for n in range(3):
        Attempt.objects.update(state=Attempt.State.LOST)
        attempt = make_attempt(run)
        for step in range(n * 20, n * 20 + 30):
            run.events.create(kind="note", actor=mona, attempt=attempt)
            LogChunk.objects.create(attempt=attempt, offset=step, text="x\n")
            Sample.objects.create(
                attempt=attempt, step=step, index=n, messages=[], completion="x"
            )
        for metric in ("loss", "eval_loss", f"metric {n}"):
            points = dict.fromkeys(range(n * 20, n * 20 + 30), 1.0)
            add_points(attempt, metric, points)
        if n:
            counts.append(queries_of(viewer, url))
    assert counts[0] == counts[1]
    assert counts[0] <= 14
