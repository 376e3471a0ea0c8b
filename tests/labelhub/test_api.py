"""What every route shares: pages, filters, errors, keys; and the document of it all."""

from __future__ import annotations

import json

import pytest
from django.db import connection
from django.test import Client

from labelhub.api.reference import PATH
from labelhub.api.schema import make_schema
from labelhub.models import Event, Guideline, IdempotentAnswer
from labelhub.models.api_token import hash_of
from tests.api import Api, check_error_shape
from tests.builders import make_judgment, make_task
from tests.conftest import client_of
from tests.threads import at_once


@pytest.fixture
def api(mona):
    return Api(mona)


@pytest.fixture
def path(project):
    return f"projects/{project.slug}"


@pytest.mark.skipif(
    connection.vendor != "sqlite",
    reason="PostgreSQL adds how much its columns can hold.",
)
def test_the_document_in_docs_is_that_of_the_views():
    """Changed on purpose? `make api` writes it anew."""
    schema, complaints = make_schema()
    assert complaints == []
    assert json.loads(PATH.read_text()) == json.loads(json.dumps(schema))


def test_the_document_is_open_and_the_reference_is_a_page(client):
    assert Client().get("/api/v1/schema").json()["openapi"].startswith("3.")
    page = client.get("/api/v1/reference").content.decode()
    assert "/api/v1/projects/{slug}/judging/claim" in page


def test_a_list_comes_page_by_page_and_whole(api, path, project):
    tasks = [make_task(project) for _ in range(7)]
    first = api.get(f"{path}/tasks?limit=3").json()
    assert len(first["results"]) == 3
    assert [row["id"] for row in api.rows(f"{path}/tasks?limit=3")] == [
        task.pk for task in tasks
    ]


def test_rows_that_come_while_one_reads_are_found_at_the_end(api, path, project):
    make_task(project)
    make_task(project)
    address = api.get(f"{path}/tasks?limit=1").json()["next"]
    last = make_task(project)
    assert [row["id"] for row in api.rows(address)][-1] == last.pk


def test_a_page_costs_the_same_queries_for_any_number_of_rows(
    api, path, project, django_assert_max_num_queries
):
    for _ in range(8):
        make_judgment(make_task(project), annotator=None)
    api.get("me")
    for rows in ("prompts", "responses", "tasks", "judgments", "members", "events"):
        with django_assert_max_num_queries(4):
            assert api.get(f"{path}/{rows}").status_code == 200


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("cursor=-1", "cursor"),
        ("cursor=99999999999999999999", "cursor"),
        ("stats=done", "stats"),
        ("status=nonsense", "status"),
        ("prompt=x", "prompt"),
    ],
)
def test_a_filter_that_means_nothing_is_named(api, path, query, field):
    r = api.get(f"{path}/tasks?{query}")
    assert r.status_code == 400
    assert field in r.json()["error"]["fields"]


def test_an_unknown_filter_names_the_nearest(api, path):
    r = api.get(f"{path}/tasks?statsu=done")
    assert "Did you mean status?" in r.json()["error"]["message"]


def test_a_number_too_large_for_a_row_finds_none(api, path, project):
    make_task(project)
    assert api.rows(f"{path}/tasks?prompt={10**30}") == []


def test_lists_are_narrowed(api, path, project):
    task = make_task(project, status="done", n_required=1)
    make_task(project)
    judgment = make_judgment(task, "b")
    assert [r["id"] for r in api.rows(f"{path}/tasks?status=done")] == [task.pk]
    for name in ("response_a", "response_b"):
        pk = getattr(task, f"{name}_id")
        assert [r["id"] for r in api.rows(f"{path}/tasks?response={pk}")] == [task.pk]
    rows = api.rows(f"{path}/judgments?task={task.pk}&source=imported&verdict=b")
    assert [row["id"] for row in rows] == [judgment.pk]


@pytest.mark.parametrize("address", ["nothing", "projects/none/tasks", "projects/x/y"])
def test_what_is_not_there_is_404_in_the_one_shape(api, address):
    assert api.get(address).status_code == 404


def test_what_is_not_json_is_told_so(api, path):
    r = api.ask("post", f"{path}/guidelines", "{")
    assert r.status_code == 400
    assert api.ask("post", f"{path}/guidelines", "[1]").status_code == 400


def test_another_method_is_told_so(api, path):
    assert api.ask("delete", path).status_code == 405


@pytest.mark.parametrize("end", ["", "/tasks"])
def test_head_is_a_get_without_a_body(api, path, charlie, end):
    assert api.ask("head", path + end).status_code == 200
    stranger = Client().head(f"/api/v1/{path}{end}")
    assert stranger.status_code == 401


def test_a_body_too_large_is_refused_before_it_is_read(api, path, settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
    assert api.post(f"{path}/guidelines", {"text": "x" * 200}).status_code == 413


def test_a_failure_of_ours_has_the_same_shape(api, path, monkeypatch):
    monkeypatch.setattr("labelhub.models.Project.write_guideline", lambda *_: 1 / 0)
    r = api.post(f"{path}/guidelines", {"text": "Be kind."})
    assert r.status_code == 500
    assert "division" not in r.content.decode()


def test_guidelines_are_written_once_and_recorded(api, path, project):
    for _ in range(2):
        r = api.post(f"{path}/guidelines", {"text": "Be kind."})
        assert (r.status_code, r.json()["version"]) == (201, 1)
    assert api.rows(f"{path}/guidelines")[0]["text"] == "Be kind."
    events = api.rows(f"{path}/events?verb=project.changed")
    assert [event["actor"] for event in events] == ["mona"]


def test_an_unknown_field_is_named(api, path):
    r = api.post(f"{path}/guidelines", {"txt": "Be kind."})
    assert "Did you mean text?" in r.json()["error"]["fields"]["txt"][0]


def test_a_key_answers_the_same_again(api, path, project):
    key = {"Idempotency-Key": "one"}
    first = api.post(f"{path}/guidelines", {"text": "Be kind."}, **key)
    api.post(f"{path}/guidelines", {"text": "Be true."})
    again = api.post(f"{path}/guidelines", {"text": "Be kind."}, **key)
    assert again.json() == first.json()
    assert again["Idempotent-Replayed"] == "true"
    assert Guideline.objects.count() == 2


def test_a_key_is_of_one_request(api, path, rita, mona):
    key = {"Idempotency-Key": "one"}
    api.post(f"{path}/guidelines", {"text": "Be kind."}, **key)
    r = api.post(f"{path}/guidelines", {"text": "Be true."}, **key)
    assert r.status_code == 409
    other = Api(mona).post(f"{path}/guidelines", {"text": "Be true."}, **key)
    assert other.status_code == 201


def test_what_was_refused_may_be_mended_under_its_key(api, path):
    key = {"Idempotency-Key": "one"}
    assert api.post(f"{path}/guidelines", {}, **key).status_code == 400
    r = api.post(f"{path}/guidelines", {"text": "Be kind."}, **key)
    assert r.status_code == 201


def test_a_key_is_kept_for_a_day(api, path):
    key = {"Idempotency-Key": "one"}
    api.post(f"{path}/guidelines", {"text": "Be kind."}, **key)
    IdempotentAnswer.objects.update(created_at="2020-01-01T00:00Z")
    r = api.post(f"{path}/guidelines", {"text": "Be true."}, **key)
    assert r.status_code == 201
    assert r.json()["version"] == 2


@pytest.mark.django_db(transaction=True)
def test_of_many_with_one_key_one_does_it(api, path):
    answers = []

    def post():
        again = Api.__new__(Api)
        again.client, again.secret = Client(), api.secret
        key = {"Idempotency-Key": "one"}
        r = again.post(f"{path}/guidelines", {"text": "Be kind."}, **key)
        answers.append((r.status_code, r.json()["version"]))

    at_once(*[post] * 6)
    assert answers == [(201, 1)] * 6
    assert Event.objects.filter(verb="project.changed").count() == 1
    assert IdempotentAnswer.objects.count() == 1


def test_the_hash_is_of_the_whole_token():
    assert hash_of("lh_a") != hash_of("lh_b")


def test_a_stranger_learns_nothing(charlie, project, path):
    api = Api(charlie)
    there, nowhere = api.get(path), api.get("projects/nowhere")
    assert there.status_code == nowhere.status_code == 404
    assert there.json() == nowhere.json()


def test_annotators_do_not_know_the_lists(alice, path):
    api = Api(alice)
    for rows in ("prompts", "responses", "tasks", "judgments", "members", "events"):
        assert api.get(f"{path}/{rows}").status_code == 404


def test_the_page_of_a_client_is_not_the_api(alice):
    r = client_of(alice).get("/api/v1/nothing")
    check_error_shape(r)
    assert r.status_code == 401
