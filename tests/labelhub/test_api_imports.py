"""Importing by program: rows or files, checked before anything is written."""

from __future__ import annotations

import json

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from labelhub.importing import run_batch
from labelhub.models import Event, ImportBatch, Task
from tests.api import Api, check_error_shape

ROWS = [{"prompt": f"Why {n}?", "chosen": "Because.", "rejected": "No."} for n in "abc"]


@pytest.fixture
def api(mona):
    return Api(mona)


@pytest.fixture
def path(project):
    return f"projects/{project.slug}/imports"


def _send_files(api, path, *texts, **fields):
    files = [SimpleUploadedFile(f"{n}.jsonl", t.encode()) for n, t in enumerate(texts)]
    r = Client().post(
        f"/api/v1/{path}",
        {"file": files} | fields,
        headers={"Authorization": f"Bearer {api.secret}"},
    )
    check_error_shape(r)
    return r


def test_rows_are_checked_and_imported_by_the_queue(api, path):
    r = api.post(path, {"rows": ROWS})
    assert (r.status_code, r.json()["state"]) == (202, "waiting")
    run_batch(ImportBatch.objects.get())
    done = api.get(f"{path}/{r.json()['id']}").json()
    assert (done["state"], done["counts"]["tasks"]) == ("complete", 3)
    assert Task.objects.filter(status="open").count() == 3
    events = Event.objects.filter(verb__startswith="import.")
    assert {event.actor.username for event in events} == {"mona"}


def test_the_same_rows_again_are_the_same_import(api, path):
    first = api.post(path, {"rows": ROWS}).json()
    assert api.post(path, {"rows": ROWS}).json()["id"] == first["id"]
    run_batch(ImportBatch.objects.get())
    again = api.post(path, {"rows": ROWS}).json()
    assert (again["id"], again["is_repeat"]) == (first["id"], True)
    assert len(api.rows(path)) == 1


def test_files_are_taken_with_their_options(api, path):
    text = "\n".join(
        json.dumps({"question": row["prompt"], **row, "prompt": None}) for row in ROWS
    ).replace('"prompt": null, ', "")
    mapped = {"map": '{"question": "prompt"}', "judge": "team"}
    r = _send_files(api, path, text, **mapped)
    assert r.status_code == 202
    assert ImportBatch.objects.get().options["judge"] == "team"
    assert r.json()["files"][0]["name"] == "0.jsonl"


def test_bad_rows_are_named_and_nothing_is_kept(api, path, settings):
    r = api.post(path, {"rows": [*ROWS, {"prompt": "Why?", "chosen": 7}]})
    assert r.status_code == 422
    assert "line 4" in " ".join(r.json()["error"]["fields"]["rows"])
    assert not ImportBatch.objects.exists()
    assert [path for path in settings.UPLOADS_DIR.iterdir() if path.is_dir()] == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"rows": []},
        {"rows": ["text"]},
        {"rows": ROWS, "format": "nonsense"},
        {"rows": ROWS, "fromat": "auto"},
    ],
)
def test_what_is_no_import_is_refused(api, path, body):
    assert api.post(path, body).status_code == 400
    assert not ImportBatch.objects.exists()


def test_options_that_do_not_go_together_are_refused(api, path):
    r = api.post(path, {"rows": ROWS, "judge_kind": "model"})
    assert r.status_code == 422
    assert r.json()["error"]["code"] == "import_refused"


def test_map_in_a_form_is_json(api, path):
    assert _send_files(api, path, "{}", map="question=prompt").status_code == 400


def test_reviewers_import_nothing(rita, path):
    assert Api(rita).post(path, {"rows": ROWS}).status_code == 403
