"""`check_integrity` finds whatever was written past the queue, and names it."""

from __future__ import annotations

import io
import json
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db.models import F
from django.db.models.functions import Now

from labelhub import queue
from labelhub.importing import ImportOptions, import_files, remove_import
from labelhub.models import (
    Assignment,
    Event,
    Guideline,
    ImportBatch,
    Judgment,
    Membership,
    Project,
    Task,
)
from tests.builders import make_project, make_run, make_task
from tests.labelhub.test_import_again import preferences
from tests.labelhub.test_import_formats import write_rows
from training import exporting
from training.models import Run, Snapshot
from training.recipes import Recipe


@pytest.fixture
def judged(project, alice, bob, mona, tmp_path) -> Project:
    """An import; alice judged one of its tasks twice, bob holds one; a snapshot."""
    project.write_guideline("Look well.", mona)
    rows = write_rows(tmp_path / "rows.jsonl", *preferences(*range(6)))
    import_files(project, [rows], ImportOptions())
    project.refresh_from_db()
    item = queue.claim(project, alice)
    queue.submit(item.pk, alice, "left")
    queue.submit(item.pk, alice, "tie", replaces=1)
    queue.claim(project, bob)
    exporting.freeze(project, Recipe(algorithm="dpo", eval_share=0.2))
    return project


def found(*arguments: str) -> list[str]:
    output = io.StringIO()
    try:
        call_command("check_integrity", *arguments, stdout=output)
    except CommandError:
        return output.getvalue().splitlines()
    return []


def test_what_was_made_by_the_queue_and_the_importer_is_in_order(judged):
    assert found() == []


def _one(rows: Any, **values: Any) -> int:
    pk = rows.order_by("pk").values_list("pk", flat=True)[0]
    assert rows.model.objects.filter(pk=pk).update(**values) == 1
    return pk


human = Judgment.objects.filter(source="human")
submitted = Assignment.objects.filter(state="submitted")
leased = Assignment.objects.filter(state="leased")
done = Task.objects.filter(status="done")
free = Task.objects.filter(status="open", n_leased=0)
WRONG = {
    "n_done": (lambda: _one(done, n_done=0, status="open"), "n_done is 0, counted 1"),
    "n_leased": (lambda: _one(free, n_leased=1), "n_leased is 1, counted 0"),
    "status": (lambda: _one(free, status="done"), "it is done with 0 of 1 judgments"),
    "gold": (
        lambda: _one(free, status="gold"),
        "it is gold, and its gold answer says otherwise",
    ),
    "probe": (
        lambda: _one(free, status="probe"),
        "it is probe, and what it is a copy of says otherwise",
    ),
    "a copy of another task": (
        lambda: _one(free, status="probe", repeat_of=done.get().pk),
        "it is no copy of task:",
    ),
    "a probe nobody has": (
        lambda: _one(free, status="probe", repeat_of=done.get().pk),
        "it is a probe for one person, and 0 have it",
    ),
    "n_judged": (
        lambda: _one(Membership.objects.filter(user__username="alice"), n_judged=7),
        "n_judged is 7, counted 1",
    ),
    "n_tasks": (lambda: _one(Project.objects, n_tasks=9), "n_tasks is 9, counted 6"),
    "no judgment": (
        lambda: _one(leased, state="submitted", ended_at=Now()),
        "it is submitted and has 0 judgments",
    ),
    "judged, and yet skipped": (
        lambda: _one(submitted, state="skipped"),
        "it is skipped and has 2 judgments, of which 1 stand",
    ),
    "no end": (
        lambda: _one(submitted, ended_at=None),
        "it is submitted, and when it ended says otherwise",
    ),
    "not a judge": (
        lambda: _one(
            Membership.objects.filter(user__username="bob"), role=Membership.Role.VIEWER
        ),
        "holds it and may not judge there",
    ),
    "other side": (
        lambda: _one(submitted, swapped=~F("swapped")),
        "its assignment says otherwise",
    ),
    "a gap": (lambda: _one(human.filter(revision=2), revision=3), "the next revision"),
    "the last number": (
        lambda: _one(human.filter(revision=2), revision=3),
        "its 2 revisions end with number 3",
    ),
    "half surplus": (
        lambda: _one(human.filter(revision=2), surplus=True),
        "the revision before it is not",
    ),
    "a stranger's": (
        lambda: _one(
            human, annotator=Membership.objects.get(user__username="bob").user
        ),
        "annotator is not that of its assignment",
    ),
    "another kind": (
        lambda: _one(Judgment.objects.filter(source="imported"), verdict="good"),
        "“good” does not belong in its task's pairwise project",
    ),
    "import counts": (
        lambda: _one(ImportBatch.objects, counts={"tasks": 7}),
        "it is complete and speaks of 7 tasks, counted 6",
    ),
    "rows read": (lambda: _one(ImportBatch.objects, n_read=5), "with 5 of 6 rows read"),
    "still loading": (
        lambda: _one(free, status="loading"),
        "which is complete",
    ),
    "removed, but there": (
        lambda: _one(ImportBatch.objects, state="removed"),
        "it is removed and speaks of 0 tasks, counted 6",
    ),
    "died importing": (
        lambda: _one(
            ImportBatch.objects, state="importing", beat_at=Now() - timedelta(minutes=2)
        ),
        "nothing was heard of it for a minute. Press Start again",
    ),
    "untold": (
        lambda: Event.objects.filter(verb="import.completed").delete(),
        "the events tell 0 times that it was completed",
    ),
    "guideline": (
        lambda: _one(Guideline.objects, version=2),
        "its 1 guidelines end with version 2",
    ),
    "frozen, untold": (
        lambda: Event.objects.filter(verb="snapshot.frozen").delete(),
        "the events tell 0 times that it was frozen",
    ),
    "a run that nobody runs": (
        lambda: make_run(Project.objects.get(), state=Run.State.RUNNING),
        "it is running and has 0 running attempts",
    ),
    "died freezing": (
        lambda: Snapshot.objects.create(
            project=Project.objects.get(),
            recipe={},
            created_at=Now() - timedelta(minutes=5),
        ),
        "give: freeze_snapshot",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named(judged, name):
    spoil, sentence = WRONG[name]
    spoil()
    assert sentence in "\n".join(found())


def test_a_changed_or_missing_file_of_a_snapshot_is_named(judged, settings):
    snapshot = Snapshot.objects.get()
    folder = settings.DATA_DIR / "artifacts" / snapshot.uri.removeprefix("store:")
    (folder / "train.parquet").write_bytes(b"other")
    (folder / "README.md").unlink()
    lines = "\n".join(found())
    assert "train.parquet has been changed since it was frozen" in lines
    assert "README.md is not in the store" in lines


def test_judgments_that_a_snapshot_holds_and_the_database_does_not_are_named(judged):
    Judgment.objects.filter(source="imported").order_by("pk").first().delete()
    assert "1 of its judgments are no longer in the database" in "\n".join(found())


def test_repair_counts_the_counters_anew_and_nothing_else(judged):
    Task.objects.filter(pk=done.get().pk).update(n_done=0, status="open")
    Task.objects.filter(pk=leased.get().task_id).update(n_leased=0)
    Membership.objects.update(n_judged=3)
    Project.objects.update(n_tasks=0)
    Event.objects.filter(verb="import.completed").delete()
    assert len(found()) == 7  # two people too many
    left = [line for line in found("--repair") if "counted anew" not in line]
    assert len(left) == 1
    assert "import.completed" not in left[0]
    assert "completed" in left[0]
    task = done.get()
    assert (task.n_done, task.n_leased) == (1, 0)


def test_json_is_one_array(judged):
    Project.objects.update(n_tasks=9)
    (problem,) = json.loads("".join(found("--json")))
    assert problem == {
        "subject": f"project:{judged.pk}",
        "sentence": "n_tasks is 9, counted 6.",
        "way_out": "check_integrity --repair counts it anew.",
    }
    Project.objects.update(n_tasks=6)
    output = io.StringIO()
    call_command("check_integrity", "--json", stdout=output)
    assert json.loads(output.getvalue()) == []


def test_a_removed_import_and_a_retired_task_are_in_order(project, tmp_path):
    rows = write_rows(tmp_path / "rows.jsonl", *preferences(1, 2))
    remove_import(import_files(project, [rows], ImportOptions()))
    make_task(make_project(), status=Task.Status.RETIRED)
    Project.objects.update(n_tasks=0)
    assert found() == []
