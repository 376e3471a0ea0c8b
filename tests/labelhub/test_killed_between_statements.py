"""Killed between any two statements and tried again, everything ends as if nothing
had been. On SQLite the death of the process in mid-transaction is the death of the
database, for there is no other process: its journal is rolled back by the next.

A person tries again by sending the same form; an import, by the same command.
"""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.conf import settings
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from django_q.models import OrmQ

from labelhub import probes, queue
from labelhub.importing import ImportOptions, import_files, remove_import
from labelhub.models import Assignment, Judgment, Membership, Project, Task
from tests.builders import add_member, make_judgment, make_project, make_task, make_user
from tests.conftest import client_of
from tests.killing import dies_at
from tests.labelhub.test_import_again import content, preferences
from tests.labelhub.test_import_formats import write_rows
from training import exporting
from training.recipes import Recipe

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]


class Scene(NamedTuple):
    project: Project
    act: Callable[[], object]
    """What is killed, and then done again in the very same way."""


def scene_project(**fields: Any) -> Project:
    fields.setdefault("order", Project.Order.IMPORTED)
    return make_project(**fields)


def judge_of(project: Project, n_tasks: int = 3) -> Client:
    """The browser of somebody who may judge these tasks, in order."""
    for n in range(n_tasks):
        texts = (f"{n}?", f"a {n}", f"b {n}")
        make_task(project, *texts, shuffle_key=n)
    alice = make_user()
    add_member(project, alice)
    return client_of(alice)


def held_by(client: Client, project: Project) -> tuple[Assignment, str]:
    """The item they hold, and its address. The sides are not left to the lot."""
    address = client.get(reverse("labelhub:judge", args=[project.slug]))["Location"]
    items = Assignment.objects.filter(project=project, state="leased")
    items.update(swapped=False)
    return items.get(), address


def judged_by_another(project: Project) -> None:
    bob = make_user()
    add_member(project, bob)
    item, _ = held_by(client_of(bob), project)
    queue.submit(item.pk, bob, "left")


def claim(folder: Path) -> Scene:
    project = scene_project()
    client = judge_of(project)
    address = reverse("labelhub:judge", args=[project.slug])
    return Scene(project, lambda: client.get(address))


def claim_a_probe(folder: Path) -> Scene:
    project = scene_project()
    client = judge_of(project)
    mona = make_user()
    probes.set_gold(Task.objects.filter(project=project).latest("pk"), "a", "", mona)
    # So that it is always time for one; a person's settings allow a fifth.
    Project.objects.filter(pk=project.pk).update(gold_share=0.99)
    address = reverse("labelhub:judge", args=[project.slug])
    return Scene(project, lambda: client.get(address))


def make_gold(folder: Path) -> Scene:
    project = scene_project()
    judge_of(project)
    task = Task.objects.filter(project=project).latest("pk")
    mona = make_user()
    add_member(project, mona, Membership.Role.MANAGER)
    client = client_of(mona)
    address = reverse("labelhub:gold", args=[project.slug, task.pk])
    return Scene(project, lambda: client.post(address, {"verdict": "a"}))


def submit(folder: Path) -> Scene:
    project = scene_project()
    client = judge_of(project)
    _, address = held_by(client, project)
    form = {"verdict": "left", "note": "clear", "replaces": "0"}
    return Scene(project, lambda: client.post(address, form))


def submit_the_last_of_two(folder: Path) -> Scene:
    project = scene_project(judgments_per_task=2)
    client = judge_of(project, 1)
    judged_by_another(project)
    _, address = held_by(client, project)
    return Scene(project, lambda: client.post(address, {"verdict": "right"}))


def submit_late(folder: Path) -> Scene:
    """The lease was lost and somebody else has judged: kept as surplus."""
    project = scene_project()
    client = judge_of(project, 1)
    item, address = held_by(client, project)
    queue.release(item.pk, item.annotator)
    judged_by_another(project)
    return Scene(project, lambda: client.post(address, {"verdict": "right"}))


def revise(folder: Path) -> Scene:
    project = scene_project()
    client = judge_of(project)
    _, address = held_by(client, project)
    client.post(address, {"verdict": "left"})
    client.post(address, {"verdict": "tie", "replaces": "1"})
    form = {"verdict": "right", "replaces": "2"}
    return Scene(project, lambda: client.post(address, form))


def skip(folder: Path) -> Scene:
    project = scene_project()
    client = judge_of(project)
    _, address = held_by(client, project)
    form = {"action": "skip", "note": "not my field"}
    return Scene(project, lambda: client.post(address, form))


def release(folder: Path) -> Scene:
    project = scene_project()
    item, _ = held_by(judge_of(project), project)
    return Scene(project, lambda: queue.release(item.pk, item.annotator))


def reap(folder: Path) -> Scene:
    project = scene_project()
    item, _ = held_by(judge_of(project), project)
    Assignment.objects.filter(pk=item.pk).update(lease_expires_at="2020-01-01T00:00Z")
    return Scene(project, lambda: queue.reap(project))


def managed() -> tuple[Project, Client, Membership]:
    """A project, its manager's browser, and a member who holds an item."""
    project = scene_project()
    item, _ = held_by(judge_of(project), project)
    mona = make_user()
    add_member(project, mona, Membership.Role.MANAGER)
    member = project.memberships.get(user=item.annotator)
    return project, client_of(mona), member


def add_a_member(folder: Path) -> Scene:
    project, client, _ = managed()
    address = reverse("labelhub:add_member", args=[project.slug])
    form = {"username": f"dora{project.pk}", "role": "annotator"}
    return Scene(project, lambda: client.post(address, form))


def make_a_judge_a_viewer(folder: Path) -> Scene:
    project, client, member = managed()
    address = reverse("labelhub:change_role", args=[project.slug, member.pk])
    return Scene(project, lambda: client.post(address, {"role": "viewer"}))


def remove_a_member(folder: Path) -> Scene:
    project, client, member = managed()
    address = reverse("labelhub:remove_member", args=[project.slug, member.pk])
    form = {"username": member.user.username}
    return Scene(project, lambda: client.post(address, form))


def change_settings(folder: Path) -> Scene:
    project, client, _ = managed()
    address = reverse("labelhub:project_settings", args=[project.slug])
    form = {
        **{"name": project.name, "status": "paused", "judgments_per_task": 2},
        **{"order": "random", "lease_seconds": 60, "guidelines": "Look well."},
    }
    return Scene(project, lambda: client.post(address, form))


def import_rows(folder: Path) -> Scene:
    project = scene_project()
    rows = write_rows(folder / "rows.jsonl", *preferences(*range(5)))
    return Scene(project, lambda: import_files(project, [rows], ImportOptions()))


def add_tasks(folder: Path) -> Scene:
    """A new model's answers to prompts that are there, paired with the old ones."""
    project = scene_project()

    def answers(model: str) -> Path:
        rows = [
            {"prompt": f"{n}?", "response": f"{model} {n}", "model": model}
            for n in range(4)
        ]
        return write_rows(folder / f"{model}.jsonl", *rows)

    import_files(project, [answers("old")], ImportOptions())
    new = answers("new")
    return Scene(project, lambda: import_files(project, [new], ImportOptions()))


def take_an_import_out(folder: Path) -> Scene:
    scene = import_rows(folder)
    batch = scene.act()
    return Scene(scene.project, lambda: remove_import(batch))


def judged_project() -> Project:
    project = scene_project()
    for n in range(6):
        task = make_task(project, f"{n}?", f"a {n}", f"b {n}")
        make_judgment(task, "a", judge_name="jo")
    return project


def freeze(folder: Path) -> Scene:
    """As the queue does it; the page's Start again comes to the same."""
    recipe = Recipe(algorithm="dpo", eval_share=0.2)
    snapshot = exporting.begin(judged_project(), recipe)
    return Scene(
        snapshot.project, lambda: call_command("freeze_snapshot", str(snapshot.pk))
    )


def ask_for_a_freeze(folder: Path) -> Scene:
    project = judged_project()
    mona = make_user()
    add_member(project, mona, Membership.Role.MANAGER)
    client, address = client_of(mona), reverse("training:freeze", args=[project.slug])
    form = {
        **{"algorithm": "dpo", "judges": ["imported"], "ties": "drop"},
        **{"min_votes": 1, "eval_percent": 10, "seed": 0},
    }
    OrmQ.objects.all().delete()
    return Scene(project, lambda: client.post(address, form))


SCENES = [
    claim,
    claim_a_probe,
    make_gold,
    submit,
    submit_the_last_of_two,
    submit_late,
    revise,
    skip,
    release,
    reap,
    add_a_member,
    make_a_judge_a_viewer,
    remove_a_member,
    change_settings,
    import_rows,
    add_tasks,
    take_an_import_out,
    freeze,
    ask_for_a_freeze,
]


def state_of(project: Project) -> dict[str, Any]:
    """All that a project holds, without ids, times and the lot of the sides."""
    project = Project.objects.get(pk=project.pk)
    tasks = Task.objects.filter(project=project)
    judgments = Judgment.objects.filter(project=project, source="human")
    return {
        "content": content(project),
        "settings": (project.status, project.lease_seconds),
        "tasks": sorted(
            tasks.values_list("prompt__content_hash", "status", "n_done", "n_leased")
        ),
        "assignments": sorted(
            project.assignments.values_list(
                *("task__prompt__content_hash", "state", "skip_reason")
            )
        ),
        "judgments": sorted(
            (
                *(judgment.task.prompt.content_hash, judgment.revision),
                *(judgment.superseded_by_id is None, judgment.surplus, judgment.note),
            )
            for judgment in judgments.select_related("task__prompt")
        ),
        "members": sorted(project.memberships.values_list("role", "n_judged")),
        "guidelines": list(project.guidelines.values_list("version", "text")),
        "events": sorted(project.events.values_list("verb", flat=True)),
        "imports": [
            (batch.state, batch.n_rows, batch.n_read, _without_ids(batch.counts))
            for batch in project.imports.order_by("pk")
        ],
        "snapshots": sorted(
            project.snapshots.values_list("state", "sha256", "n_train", "n_judgments")
        ),
        "left behind": [path.name for path in settings.DATA_DIR.glob("freezing-*")],
        "rung": OrmQ.objects.exists(),
    }


def _without_ids(counts: dict[str, Any]) -> str:
    built_on = list(counts.get("built_on", {}).values())
    return json.dumps({**counts, "built_on": built_on}, sort_keys=True)


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_killed_anywhere_and_tried_again_it_ends_as_if_nothing_had_been(
    scene, tmp_path
):
    def set_up(number: int) -> Scene:
        folder = tmp_path / str(number)
        folder.mkdir()
        return scene(folder)

    calm = set_up(0)
    calm.act()
    wanted = state_of(calm.project)
    for step in itertools.count(1):
        again = set_up(step)
        died = dies_at(step, again.act)
        again.act()
        assert state_of(again.project) == wanted, f"killed at step {step}"
        call_command("check_integrity", stdout=io.StringIO())
        if not died:
            break
    # Enough steps to believe that they were counted.
    assert step > 5
    print(f"{scene.__name__}: killed at {step - 1} steps")
