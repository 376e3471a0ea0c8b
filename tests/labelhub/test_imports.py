"""The pages of imports."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db.models.functions import Now
from django_q.models import OrmQ
from pytest_django.asserts import assertContains, assertNotContains, assertRedirects

from labelhub import importing, tasks
from labelhub.importing import running, uploads
from labelhub.models import ImportBatch, Judgment, Task
from tests.builders import make_project, make_user
from tests.conftest import client_of
from tests.labelhub.test_import_again import manage

PAIR = {"prompt": "Why?", "chosen": "yes", "rejected": "no"}


def upload(*rows: object, name: str = "x.jsonl") -> SimpleUploadedFile:
    content = "".join(json.dumps(row) + "\n" for row in rows)
    return SimpleUploadedFile(name, content.encode())


@pytest.fixture
def new_url(project) -> str:
    return f"/projects/{project.slug}/imports/new/"


def send(client, url: str, *files: SimpleUploadedFile, **fields: str):
    return client.post(url, {"file": list(files), "format": "auto", **fields})


@pytest.fixture
def batch(project, mona) -> ImportBatch:
    """Uploaded by mona and waiting."""
    token = uploads.keep(project, mona, [upload(PAIR)])
    return importing.offer_upload(project, token, importing.ImportOptions(), mona)


# --- the form ---------------------------------------------------------------


def test_an_upload_waits_and_is_imported_by_its_own_process(
    project, manager, mona, new_url
):
    r = send(manager, new_url, upload(PAIR))
    batch = ImportBatch.objects.get()
    assertRedirects(r, batch.get_absolute_url())
    assert (batch.state, batch.created_by) == ("waiting", mona)
    assert not Task.objects.exists()

    importing.run_batch(batch)
    batch.refresh_from_db()
    assert (batch.state, batch.counts["tasks"]) == ("complete", 1)
    assert batch.files[0]["name"] == "x.jsonl"
    assert uploads.kept_files(batch.options["upload"]) == []


def test_the_queue_is_rung(
    project, manager, new_url, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True):
        send(manager, new_url, upload(PAIR))
    assert OrmQ.objects.count() == 1


def test_several_files_and_pasted_rows_are_one_import(
    project, manager, new_url, settings
):
    # A file this large is streamed to disk, and moved from there.
    settings.FILE_UPLOAD_MAX_MEMORY_SIZE = 10
    r = send(
        manager,
        new_url,
        upload({"id": "p", "prompt": "Why?"}, name="prompts.jsonl"),
        upload({"prompt_id": "p", "response": "one"}, name="one.jsonl"),
        text='{"prompt_id": "p", "response": "two"}',
    )
    assert r.status_code == 302
    batch = importing.run_batch(ImportBatch.objects.get())
    names = [file["name"] for file in batch.files]
    assert names == ["prompts.jsonl", "one.jsonl", "pasted rows"]
    assert batch.counts["tasks"] == 1


def test_problems_are_shown_by_line_and_everything_is_kept(project, manager, new_url):
    r = send(
        manager,
        new_url,
        upload(PAIR, {"prompt": "", "chosen": "a", "rejected": "b"}),
        judge="ada",
        map="",
    )
    assert r.status_code == 422
    assertContains(r, "1 problem; nothing was imported.", status_code=422)
    assertContains(r, "x.jsonl, line 2: prompt is empty", status_code=422)
    assertContains(r, 'value="ada"', status_code=422)
    assertContains(r, "<strong>x.jsonl</strong>", status_code=422)
    assert not ImportBatch.objects.exists()

    token = r.context["form"].data["upload"]
    r = send(manager, new_url, upload=token, format="preference")
    assertContains(r, "line 2: prompt is empty", status_code=422)


def test_a_refused_upload_goes_on_with_a_better_option(project, manager, new_url):
    row = {"question": "Why?", "chosen": "yes", "rejected": "no"}
    r = send(manager, new_url, upload(row), text="")
    assertContains(r, "chosen and rejected share no beginning", status_code=422)
    token = r.context["form"].data["upload"]
    r = send(manager, new_url, upload=token, map="question=prompt")
    assert r.status_code == 302
    assert importing.run_batch(ImportBatch.objects.get()).counts["tasks"] == 1


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "Choose a file or paste some rows."),
        ({"text": " \n"}, "Choose a file or paste some rows."),
        ({"text": "{}", "map": "prompt"}, "is not FROM=TO"),
        ({"text": "{}", "pairs": "most"}, "&#x27;most&#x27; is unknown"),
        ({"text": "{}", "format": "word"}, "Select a valid choice"),
        ({"text": "{}", "judge_kind": "model"}, "needs --judge"),
        ({"text": "{}"}, "fit no format"),
        ({"upload": "../../etc/passwd"}, "What was kept is gone"),
        ({"upload": f"1-1-{'0' * 32}"}, "What was kept is gone"),
    ],
)
def test_it_rejects_what_makes_no_import(project, manager, new_url, fields, sentence):
    r = send(manager, new_url, **fields)
    assertContains(r, sentence, status_code=422)
    assert not ImportBatch.objects.exists()


def test_what_somebody_else_uploaded_is_not_taken(project, rita, manager, new_url):
    token = uploads.keep(project, rita, [upload(PAIR)])
    r = send(manager, new_url, upload=token)
    assertContains(r, "What was kept is gone", status_code=422)
    assert uploads.kept_files(token)


def test_the_same_upload_again_changes_nothing(project, manager, new_url, batch):
    importing.run_batch(batch)
    r = manager.post(new_url, {"file": [upload(PAIR)], "format": "auto"}, follow=True)
    assertRedirects(r, batch.get_absolute_url())
    assertContains(r, "These files were imported already")
    assert ImportBatch.objects.count() == 1


def test_a_large_upload_is_checked_by_its_process(
    project, manager, new_url, monkeypatch
):
    monkeypatch.setattr(running, "CHECKED_AT_ONCE", 10)
    r = send(manager, new_url, upload({"chosen": "a", "rejected": "b"}))
    batch = ImportBatch.objects.get()
    assertRedirects(r, batch.get_absolute_url())
    with pytest.raises(importing.ImportRefused):
        importing.run_batch(batch)
    r = manager.get(batch.get_absolute_url())
    assertContains(r, "x.jsonl, line 1: chosen and rejected share no beginning")
    assertContains(r, "Start again")


def test_a_kind_that_does_not_fit_is_refused(manager, mona):
    project = make_project("Labels", kind="binary")
    project.memberships.create(user=mona, role="manager")
    r = send(manager, "/projects/labels/imports/new/", upload(PAIR))
    assertContains(r, "made with --kind pairwise", status_code=422)


# --- progress ---------------------------------------------------------------


def test_the_part_that_changes_is_polled_until_it_is_over(manager, batch):
    url, htmx = batch.get_absolute_url(), {"HX-Request": "true"}
    r = manager.get(url, headers=htmx)
    assertContains(r, "Waiting for the queue")
    assertContains(r, f'hx-get="{url}"')
    assertNotContains(r, "<html")

    ImportBatch.objects.update(state="importing", n_rows=4000, n_read=1200)
    r = manager.get(url, headers=htmx)
    assertContains(r, 'value="1200" max="4000"')

    ImportBatch.objects.update(state="waiting")
    importing.run_batch(batch)
    r = manager.get(url, headers=htmx)
    assertContains(r, "New judgments")
    assertNotContains(r, "hx-get")


def test_a_silent_import_can_be_started_again(manager, batch):
    start_url = f"{batch.get_absolute_url()}start/"
    before = OrmQ.objects.count()
    manager.post(start_url)
    assert OrmQ.objects.count() == before  # it is only waiting

    ImportBatch.objects.update(state="importing", beat_at=Now() - timedelta(minutes=2))
    assertContains(manager.get(batch.get_absolute_url()), "Nothing has been heard")
    assertRedirects(manager.post(start_url), batch.get_absolute_url())
    batch.refresh_from_db()
    assert batch.state == "waiting"


def test_the_trigger_starts_one_process_however_often_it_comes(batch):
    with patch.object(running.subprocess, "Popen", autospec=True) as popen:
        tasks.start_import(batch.pk)
        tasks.start_import(batch.pk)
        tasks.start_import(batch.pk + 99)
    popen.assert_called_once()
    arguments = popen.call_args.args[0]
    assert arguments[-3:] == ["import_data", "--batch", str(batch.pk)]
    assert popen.call_args.kwargs["start_new_session"]


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_the_process_that_the_trigger_starts_imports():
    project, user = make_project(), make_user("mona")
    token = uploads.keep(project, user, [upload(PAIR)])
    batch = importing.offer_upload(project, token, importing.ImportOptions(), user)
    process = manage("import_data", "--batch", batch.pk)
    said = process.communicate()[0].decode()
    assert process.returncode == 0, said
    batch.refresh_from_db()
    assert (batch.state, Judgment.objects.count()) == ("complete", 1)


def test_an_upload_that_is_gone_fails_with_a_sentence(batch):
    uploads.discard(batch.options["upload"])
    with pytest.raises(importing.ImportRefused, match="upload them again"):
        importing.run_batch(batch)
    batch.refresh_from_db()
    assert batch.state == "failed"


def test_a_failed_import_goes_on_with_the_same_files(project, manager, new_url, batch):
    uploads.discard(batch.options["upload"])
    with pytest.raises(importing.ImportRefused):
        importing.run_batch(batch)
    send(manager, new_url, upload(PAIR))
    again = ImportBatch.objects.get()
    assert (again.pk, again.state) == (batch.pk, "waiting")
    assert importing.run_batch(again).counts["tasks"] == 1


def test_old_uploads_are_swept_but_not_those_in_use(project, mona, batch, settings):
    kept = uploads.keep(project, mona, [upload(PAIR)])
    for token in (kept, batch.options["upload"]):
        os.utime(Path(settings.UPLOADS_DIR) / token, (1, 1))
    uploads.keep(project, mona, [upload(PAIR)])
    assert not uploads.kept_files(kept)
    assert uploads.kept_files(batch.options["upload"])


# --- the list, and who may see it -------------------------------------------


def test_the_list_shows_what_came_of_each(project, manager, batch):
    importing.run_batch(batch)
    r = manager.get(f"/projects/{project.slug}/imports/")
    assertContains(r, "x.jsonl")
    assertContains(r, "Complete")


def test_an_empty_list_says_what_can_be_imported(project, manager):
    r = manager.get(f"/projects/{project.slug}/imports/")
    assertContains(r, "Nothing has been imported yet")


def test_the_list_takes_as_many_queries_for_many(
    project, manager, batch, django_assert_max_num_queries
):
    for n in range(9):
        ImportBatch.objects.create(project=project, sha256=str(n), files=[])
    with django_assert_max_num_queries(6):
        manager.get(f"/projects/{project.slug}/imports/")


@pytest.mark.parametrize("path", ["", "new/", "{pk}/"])
def test_only_managers_see_imports(
    project, batch, alice, rita, vera, charlie, client, path
):
    url = f"/projects/{project.slug}/imports/{path.format(pk=batch.pk)}"
    assert client_of(alice).get(url).status_code == 404
    assert client_of(charlie).get(url).status_code == 404
    assert client_of(vera).get(url).status_code == 403
    assert client_of(rita).get(url).status_code == 403
    client.logout()
    assert client.get(url).status_code == 302


def test_an_import_of_another_project_is_not_there(project, batch, manager, mona):
    other = make_project("Other")
    other.memberships.create(user=mona, role="manager")
    assert manager.get(f"/projects/other/imports/{batch.pk}/").status_code == 404
    assert manager.post(f"/projects/other/imports/{batch.pk}/start/").status_code == 404


def test_wrong_methods_are_refused(project, batch, manager):
    url = batch.get_absolute_url()
    assert manager.get(f"{url}start/").status_code == 405
    assert manager.post(url).status_code == 405
    assert manager.put(f"/projects/{project.slug}/imports/new/").status_code == 405
