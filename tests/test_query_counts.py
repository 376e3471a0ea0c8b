"""No page takes more queries when there is more to show.

Every address that can be read is asked in a project with two of everything, and in one
with twelve; an address that is new in the access table is asked of itself.
"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from labelhub.models import Assignment, ImportBatch, Judgment, Project, User
from tests.builders import (
    add_member,
    add_points,
    make_attempt,
    make_judgment,
    make_project,
    make_run,
    make_task,
    make_user,
)
from tests.conftest import client_of
from tests.test_access_table import ROUTES, SERVED, TABLE, _filled, _room
from training import exporting
from training.models import Attempt, LogChunk, Run, Sample, Snapshot
from training.recipes import Recipe

FEW, MANY = 2, 12
"""Of one thing some pages show less than of several, at one query fewer."""
READ = [
    (name, role)
    for name, methods in sorted(TABLE.items())
    for role in sorted({"annotator", "manager"} & methods.get("GET", set()))
    or sorted({"admin"} & methods.get("GET", set()))
]
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class World:
    """A project with so many of everything, and the addresses of its pages."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.people = {
            role: make_user(f"{role}-{size}") for role in ("annotator", "manager")
        }
        self.people["admin"] = make_user(f"admin-{size}", is_superuser=True)
        for _ in range(size):
            self.add_members(make_project())
        project = make_project(f"World {size}", judgments_per_task=2)
        self.add_members(project)
        others = [make_user() for _ in range(size)]
        for other in others:
            add_member(project, other)
        batches = [self.add_import(project, other) for other in others]
        item = self.add_judged(project)
        snapshots = [self.add_snapshot(project, other) for other in others]
        bases = [make_run(project, state=Run.State.SUCCEEDED) for _ in others]
        runs = [
            self.add_run(project, *facts)
            for facts in zip(others, snapshots, bases, strict=True)
        ]
        for _ in others:
            make_run(project, base_run=runs[-1])
        pks = {
            "imports": batches[-1].pk,
            "members": project.memberships.latest("pk").pk,
            "probes": item.task_id,
            "judge": item.pk,
            "data": item.task_id,
            "snapshots": snapshots[-1].pk,
            "runs": runs[-1].pk,
        }
        known = {"slug": project.slug, "name": "train.csv", "fence": size}
        self.addresses = {
            name: _filled(route, known | {"pk": pks.get(_room(route))})
            for name, route in ROUTES.items()
        }

    def add_members(self, project: Project) -> None:
        for role in ("annotator", "manager"):
            add_member(project, self.people[role], role)

    def add_import(self, project: Project, who: User) -> ImportBatch:
        return ImportBatch.objects.create(
            project=project,
            sha256=f"{who.pk:064x}",
            state=ImportBatch.State.COMPLETE,
            files=[{"name": "a.jsonl", "sha256": "a", "bytes": 1, "rows": 1}]
            * self.size,
            created_by=who,
        )

    def add_judged(self, project: Project) -> Assignment:
        """Judged by the annotator and elsewhere; an item that the annotator holds."""
        annotator = self.people["annotator"]
        for _ in range(self.size):
            task = make_task(project)
            make_judgment(task)
            Judgment.objects.create(
                project=project,
                task=task,
                source=Judgment.Source.HUMAN,
                verdict=Judgment.Verdict.A,
                annotator=annotator,
                assignment=self.assign(task, ended_at=NOW, state="submitted"),
            )
            self.assign(make_task(project), ended_at=NOW, state="skipped")
            make_task(project)  # nobody has seen it
        return self.assign(make_task(project, n_leased=1))

    def assign(self, task, **fields) -> Assignment:
        return Assignment.objects.create(
            project=task.project,
            task=task,
            annotator=self.people["annotator"],
            lease_expires_at=datetime(2100, 1, 1, tzinfo=UTC),
            **fields,
        )

    def add_snapshot(self, project: Project, who: User) -> Snapshot:
        recipe = Recipe(algorithm="dpo", eval_share=0.0)
        return exporting.freeze(project, recipe, actor=who)

    def add_run(self, project, who, snapshot, base) -> Run:
        run = make_run(
            project,
            state=Run.State.RUNNING,
            snapshot=snapshot,
            base_run=base,
            created_by=who,
            max_steps=100,
        )
        for n in range(self.size):
            Attempt.objects.filter(run=run).update(state=Attempt.State.LOST)
            attempt = make_attempt(run)
            run.events.create(kind="note", actor=who, attempt=attempt)
            LogChunk.objects.create(attempt=attempt, offset=0, text="x\n")
            Sample.objects.create(
                attempt=attempt, step=n, index=n, messages=[], completion="x"
            )
            for metric in ("eval_loss", f"metric {n}"):
                add_points(attempt, metric, {n: 0.5, n + 1: 0.4})
        return run


@pytest.mark.django_db
def test_six_times_the_data_takes_no_more_queries():
    few, many = World(FEW), World(MANY)
    grown = {
        (name, role): (n_few, n_many)
        for name, role in READ
        if (n_few := queries_of(few, name, role))
        < (n_many := queries_of(many, name, role))
    }
    assert grown == {}


def queries_of(world: World, name: str, role: str) -> int:
    client = client_of(world.people[role])
    with CaptureQueriesContext(connection) as captured:
        response = client.get(world.addresses[name])
        if response.streaming:
            b"".join(response.streaming_content)
    assert response.status_code in SERVED, (name, role)
    return len(captured)
