"""The same import again, cut off anywhere, beside another one, and taken out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext

from labelhub import queue
from labelhub.importing import (
    ImportOptions,
    ImportRefused,
    check_files,
    import_files,
    remove_import,
    removing,
    run_batch,
    running,
    writing,
)
from labelhub.importing.chunks import ChunkSize
from labelhub.importing.writing import TakenOver, Writer
from labelhub.models import (
    Assignment,
    Event,
    ImportBatch,
    Judgment,
    Project,
    Prompt,
    Response,
    Task,
)
from tests.builders import add_member, make_project, make_user
from tests.labelhub.test_import_formats import write_rows
from tests.threads import at_once
from training.models import Snapshot

NAMES = ("prompts", "responses", "tasks", "judgments")


def preferences(*numbers: int) -> list[dict[str, Any]]:
    return [
        {"prompt": f"{n}?", "chosen": f"yes {n}", "rejected": f"no {n}"}
        for n in numbers
    ]


def run(project: Project, *paths: Path, **options: Any) -> ImportBatch:
    return import_files(project, paths, ImportOptions(**options))


def content(project: Project) -> list[tuple[Any, ...]]:
    """What a project holds, without ids: equal for equal imports."""
    project.refresh_from_db()
    rows: list[tuple[Any, ...]] = [("n_tasks", project.n_tasks)]
    for task in Task.objects.filter(project=project).select_related(
        "prompt", "response_a", "response_b"
    ):
        a, b = task.response_a, task.response_b
        texts = {"a": a.text, "b": b.text if b else "", "tie": "tie"}
        judged = task.judgments.values_list("verdict", "source", "judge_name")
        rows.append(
            (
                json.dumps(task.prompt.messages),
                *sorted((a.text, texts["b"])),
                task.status,
                task.n_required,
                *sorted((texts[verdict], *rest) for verdict, *rest in judged),
            )
        )
    for response in Response.objects.filter(prompt__project=project):
        rows.append((response.text, response.model_name, response.external_id))
    return sorted(rows, key=repr)


def counted(project: Project) -> tuple[int, ...]:
    rows = (
        project.prompts,
        Response.objects.filter(prompt__project=project),
        project.tasks,
        project.judgments,
        project.imports,
    )
    return tuple(each.count() for each in rows)


@pytest.fixture
def small_chunks(monkeypatch):
    """Transactions of three rows."""
    for module in (writing, removing):
        monkeypatch.setattr(module, "chunk_size", lambda: ChunkSize(3, 10**6))


# --- again ------------------------------------------------------------------


def test_the_same_import_again_changes_nothing(project, tmp_path):
    path = write_rows(tmp_path / "x.jsonl", *preferences(*range(10)))
    first = run(project, path)
    before = counted(project), Event.objects.count()

    path.rename(tmp_path / "other name.jsonl")
    again = run(project, tmp_path / "other name.jsonl")
    assert (again.pk, again.is_repeat) == (first.pk, True)
    assert (counted(project), Event.objects.count()) == before


def test_other_options_are_another_import_that_finds_it_all_there(project, tmp_path):
    path = write_rows(tmp_path / "x.jsonl", *preferences(*range(10)))
    first = run(project, path)
    before = content(project)
    again = run(project, path, format="preference")
    assert [again.counts[name] for name in NAMES] == [0, 0, 0, 0]
    assert again.counts["reused"] == {
        "prompts": 10, "responses": 20, "tasks": 10, "judgments": 10,
    }  # fmt: skip
    assert again.counts["built_on"] == {str(first.pk): 50}
    assert content(project) == before


def test_overlapping_files_share_what_they_share(project, tmp_path, small_chunks):
    run(project, write_rows(tmp_path / "x.jsonl", *preferences(*range(7))))
    again = run(project, write_rows(tmp_path / "y.jsonl", *preferences(*range(4, 12))))
    assert again.counts["tasks"] == 5
    both = content(project)

    other = make_project("At once")
    run(other, write_rows(tmp_path / "z.jsonl", *preferences(*range(12))))
    assert content(other) == both


def test_rows_that_say_the_same_are_counted_as_repeated(
    project, tmp_path, small_chunks
):
    rows = preferences(*range(5)) * 2
    batch = run(project, write_rows(tmp_path / "x.jsonl", *rows))
    assert batch.counts["tasks"] == 5
    assert batch.counts["repeated"] == {
        "prompts": 5, "responses": 10, "tasks": 5, "judgments": 5,
    }  # fmt: skip


def test_a_demonstration_marks_a_response_that_was_there(project, tmp_path):
    row = {"prompt": "Why?", "response": "Because."}
    run(project, write_rows(tmp_path / "x.jsonl", row))
    row = {"instruction": "Why?", "output": "Because."}
    run(project, write_rows(tmp_path / "y.jsonl", row))
    assert Response.objects.get().is_demonstration


def test_the_same_prompt_in_two_projects_is_two_prompts(project, tmp_path):
    path = write_rows(tmp_path / "x.jsonl", *preferences(1))
    for home in (project, make_project()):
        assert run(home, path).counts["prompts"] == 1


# --- cut off ----------------------------------------------------------------


def _failing_at(monkeypatch, nth: int) -> None:
    """The nth transaction is begun, and then the process comes to an end."""
    real, seen = Writer._beat, []

    def beat(self: Writer, n_rows: int = 0) -> None:
        real(self, n_rows)
        seen.append(n_rows)
        if len(seen) == nth:
            raise SystemExit("killed")

    monkeypatch.setattr(Writer, "_beat", beat)


@pytest.mark.parametrize("nth", range(1, 7))
def test_cut_off_in_any_transaction_and_resumed_equals_uninterrupted(
    project, tmp_path, small_chunks, monkeypatch, nth
):
    path = write_rows(tmp_path / "x.jsonl", *preferences(*range(10)))
    smooth = make_project("Smooth")
    expected = run(smooth, path)
    with monkeypatch.context() as patched:
        _failing_at(patched, nth)
        with pytest.raises(SystemExit):
            run(project, path)

    batch = project.imports.get()
    assert batch.state == "failed"
    project.refresh_from_db()
    assert project.n_tasks == project.tasks.exclude(status="loading").count()
    if nth <= 4:  # rows are still being written
        assert queue.claim(project, make_user("early", is_superuser=True)).until is None

    again = run(project, path)
    assert (again.pk, again.state) == (batch.pk, "complete")
    assert again.counts == expected.counts
    assert content(project) == content(smooth)


def test_a_process_that_was_taken_over_stops(project, tmp_path, monkeypatch):
    path = write_rows(tmp_path / "x.jsonl", *preferences(*range(3)))
    real, taken = Writer.write, []

    def write(self: Writer, *chunk: Any) -> None:
        if not taken:
            taken.append(self)
            run(project, path)  # another process takes the same import up
        real(self, *chunk)

    monkeypatch.setattr(Writer, "write", write)
    with pytest.raises(ImportRefused, match="another process has taken import"):
        run(project, path)
    batch = project.imports.get()
    assert (batch.state, batch.fence, batch.counts["tasks"]) == ("complete", 2, 3)
    with pytest.raises(TakenOver):
        taken[0]._beat()


def test_a_file_that_changes_meanwhile_fails_honestly(project, tmp_path, monkeypatch):
    path = write_rows(tmp_path / "x.jsonl", *preferences(*range(3)))
    real = running._claim

    def claim(batch: ImportBatch) -> None:
        real(batch)
        path.write_text("{}\n")

    monkeypatch.setattr(running, "_claim", claim)
    with pytest.raises(ImportRefused, match="was changed while it was imported"):
        run(project, path)
    assert project.imports.get().state == "failed"


def manage(*arguments: object) -> subprocess.Popen[bytes]:
    """`manage.py` on the database of the tests, as another process."""
    database = connection.settings_dict
    if connection.vendor == "sqlite":
        url = f"sqlite:///{database['NAME']}"
    else:
        host = f"{database['HOST']}:{database['PORT']}"
        url = f"postgres://{database['USER']}:{database['PASSWORD']}@{host}"
        url += f"/{database['NAME']}"
    return subprocess.Popen(
        [sys.executable, "manage.py", *map(str, arguments)],
        cwd=settings.BASE_DIR,
        env=os.environ | {"DATABASE_URL": url, "DATA_DIR": str(settings.DATA_DIR)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_killed_and_run_again_equals_uninterrupted(tmp_path):
    project, smooth = make_project("Killed"), make_project("Smooth")
    path = write_rows(tmp_path / "x.jsonl", *preferences(*range(12_000)))
    process = manage("import_data", project.slug, path)
    while not project.imports.filter(n_read__gt=0).exists():
        assert process.poll() is None, process.stdout.read().decode()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()

    batch = project.imports.get()
    assert batch.state == "importing"
    assert 0 < batch.n_read < batch.n_rows
    assert set(project.tasks.values_list("status", flat=True)) == {"loading"}

    process = manage("import_data", project.slug, path)
    said = process.communicate()[0].decode()
    assert process.returncode == 0, said
    assert "12,000 prompts, 24,000 responses, 12,000 tasks, 12,000 judgments" in said
    run(smooth, path)
    assert content(project) == content(smooth)


# --- beside others ----------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_overlapping_imports_at_once_equal_one_after_the_other(tmp_path, small_chunks):
    project, smooth = make_project("At once"), make_project("In turn")
    paths = [
        write_rows(tmp_path / f"{n}.jsonl", *preferences(*range(n * 20, n * 20 + 60)))
        for n in range(4)
    ]
    at_once(*(lambda path=path: run(project, path) for path in paths))
    for path in paths:
        run(smooth, path)
    assert content(project) == content(smooth)
    assert project.tasks.filter(status="open").count() == 120
    batches = project.imports.all()
    assert sum(batch.counts["tasks"] for batch in batches) == 120


@pytest.mark.django_db(transaction=True)
def test_the_same_import_twice_at_once_is_one_import(tmp_path, small_chunks):
    project, smooth = make_project("Twice"), make_project("Once")
    path = write_rows(tmp_path / "x.jsonl", *preferences(*range(40)))
    stopped = []

    def go() -> None:
        try:
            run(project, path)
        except ImportRefused as exc:
            stopped.append(str(exc))

    at_once(go, go, go)
    run(smooth, path)
    assert content(project) == content(smooth)
    assert project.imports.get().state == "complete"
    assert all("another process" in sentence for sentence in stopped)


@pytest.mark.django_db(transaction=True)
def test_people_judge_on_while_an_import_runs(tmp_path, small_chunks):
    project = make_project("Busy")
    run(project, write_rows(tmp_path / "x.jsonl", *preferences(*range(60))))
    path = write_rows(tmp_path / "y.jsonl", *preferences(*range(100, 250)))
    people = [make_user() for _ in range(4)]
    for person in people:
        add_member(project, person)

    def judge(person: Any) -> None:
        for _ in range(15):
            item = queue.claim(project, person)
            assert isinstance(item, Assignment)
            queue.submit(item.pk, person, "left")

    at_once(
        lambda: run(project, path), *(lambda p=person: judge(p) for person in people)
    )
    judged = Judgment.objects.filter(source="human")
    assert judged.count() == 60
    project.refresh_from_db()
    assert project.n_tasks == 210


# --- out again --------------------------------------------------------------


def test_an_import_is_removed_whole_and_can_come_again(project, tmp_path, small_chunks):
    keep = write_rows(tmp_path / "keep.jsonl", *preferences(*range(5)))
    path = write_rows(tmp_path / "x.jsonl", *preferences(*range(10, 20)))
    run(project, keep)
    before = content(project)
    batch = run(project, path)
    after = content(project)

    remove_import(batch)
    assert content(project) == before
    assert project.prompts.count() == 5
    batch.refresh_from_db()
    assert batch.state == "removed"
    assert Event.objects.filter(verb="import.removed").count() == 1
    remove_import(batch)
    assert Event.objects.filter(verb="import.removed").count() == 1

    again = run(project, path)
    assert again.pk != batch.pk
    assert content(project) == after


def test_a_failed_import_is_removed_too(project, tmp_path, small_chunks, monkeypatch):
    path = write_rows(tmp_path / "x.jsonl", *preferences(*range(10)))
    with monkeypatch.context() as patched:
        _failing_at(patched, 3)
        with pytest.raises(SystemExit):
            run(project, path)
    remove_import(project.imports.get())
    assert content(project) == [("n_tasks", 0)]
    assert not Prompt.objects.exists()


def test_what_people_judged_is_not_removed(project, alice, tmp_path):
    batch = run(project, write_rows(tmp_path / "x.jsonl", *preferences(*range(3))))
    item = queue.claim(project, alice)
    with pytest.raises(ImportRefused, match="somebody has one of its tasks open"):
        remove_import(batch)
    queue.submit(item.pk, alice, "left")
    before = content(project)
    with pytest.raises(ImportRefused, match="people have made 1 judgment on its tasks"):
        remove_import(batch)
    assert content(project) == before
    batch.refresh_from_db()
    assert batch.state == "complete"


def test_what_a_later_import_uses_is_not_removed(project, tmp_path):
    first = run(project, write_rows(tmp_path / "x.jsonl", *preferences(1, 2)))
    later = run(project, write_rows(tmp_path / "y.jsonl", *preferences(2, 3)))
    with pytest.raises(ImportRefused, match=f"import {later.pk} uses 5 of its rows"):
        remove_import(first)
    remove_import(later)
    remove_import(first)
    assert content(project) == [("n_tasks", 0)]


def test_what_a_snapshot_may_hold_is_not_removed(project, tmp_path):
    batch = run(project, write_rows(tmp_path / "x.jsonl", *preferences(1)))
    Snapshot.objects.create(project=project, recipe={"for": "dpo"})
    with pytest.raises(ImportRefused, match="was frozen after it"):
        remove_import(batch)
    assert Judgment.objects.exists()


# --- numbers kept by the way ------------------------------------------------


def test_tasks_take_the_projects_number_and_order(db, tmp_path):
    project = make_project(judgments_per_task=3, order=Project.Order.IMPORTED)
    run(project, write_rows(tmp_path / "x.jsonl", *preferences(*range(9))))
    tasks = Task.objects.order_by("shuffle_key").select_related("prompt")
    assert [task.prompt.last_user_turn for task in tasks] == [f"{n}?" for n in range(9)]
    assert {task.n_required for task in tasks} == {3}


def test_random_order_is_not_the_order_of_the_file(project, tmp_path):
    run(project, write_rows(tmp_path / "x.jsonl", *preferences(*range(50))))
    keys = list(Task.objects.order_by("pk").values_list("shuffle_key", flat=True))
    assert all(0 <= key < 1 for key in keys)
    assert keys != sorted(keys)


def test_queries_do_not_grow_with_rows(
    project, tmp_path, monkeypatch, django_assert_max_num_queries
):
    # Not adapted to this machine, which may be busy.
    monkeypatch.setattr(writing, "chunk_size", lambda: ChunkSize(300, 10**6))
    for n in (10, 300):
        path = write_rows(tmp_path / "x.jsonl", *preferences(*range(n)))
        with django_assert_max_num_queries(60):
            run(project, path)


def test_a_transaction_takes_few_queries_however_many_rows_it_has(
    project, tmp_path, monkeypatch
):
    """BEGIN, fence, beat; then for each table a look and a write; COMMIT."""
    spent: dict[int, int] = {}
    real = Writer.write

    def write(self: Writer, drafts: list[Any], n_rows: int) -> None:
        with CaptureQueriesContext(connection) as queries:
            real(self, drafts, n_rows)
        spent[len(drafts)] = len(queries)

    monkeypatch.setattr(Writer, "write", write)
    for n in (10, 300):
        run(project, write_rows(tmp_path / "x.jsonl", *preferences(*range(n))))
    assert spent[300] <= spent[10] + 4  # rows that are there already are looked up
    assert max(spent.values()) <= 20


@pytest.mark.parametrize(
    ("took", "rows"), [(0.05, 450), (0.1, 300), (0.12, 250), (9, 200), (0, 450)]
)
def test_a_transaction_shrinks_where_the_last_was_slow(took, rows):
    size = ChunkSize(300, 10**6, seconds=0.1)
    size.adapt(took)
    assert size.rows == rows


def test_a_transaction_stays_as_it_is_where_nobody_waits_for_it():
    size = ChunkSize(300, 10**6)
    size.adapt(9)
    assert size.rows == 300


def test_a_dry_run_reads_what_an_import_would(project, tmp_path):
    path = write_rows(tmp_path / "x.jsonl", *preferences(*range(9)))
    report = check_files(project, [path], ImportOptions())
    counts = run(project, path).counts
    assert {name: counts[name] for name in report.counts} == report.counts


def test_a_complete_batch_is_not_run_again(project, tmp_path):
    batch = run(project, write_rows(tmp_path / "x.jsonl", *preferences(1)))
    assert run_batch(batch).fence == batch.fence
