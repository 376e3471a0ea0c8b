"""Judging by program: the same queue, as blind as the page."""

from __future__ import annotations

import json

import pytest

from labelhub import queue
from labelhub.models import Assignment, Judgment, Task
from tests.api import Api
from tests.builders import add_member, make_project, make_task

SECRETS = ("secret-model-1", "secret-model-2")


@pytest.fixture
def task(project):
    task = make_task(project, "Why?", "Because.", "Therefore.")
    for response, name in zip((task.response_a, task.response_b), SECRETS, strict=True):
        response.model_name = response.external_id = name
        response.save()
    return task


@pytest.fixture
def api(alice):
    return Api(alice, "judge")


@pytest.fixture
def path(project):
    return f"projects/{project.slug}/judging"


def _claim(api, path):
    r = api.post(f"{path}/claim")
    assert r.status_code == 200
    return r.json()


def test_an_item_is_claimed_and_answered(api, path, task):
    item = _claim(api, path)["item"]
    assert item["messages"] == [{"role": "user", "content": "Why?"}]
    assert {item["left"], item["right"]} == {"Because.", "Therefore."}
    assert item["verdicts"] == ["left", "tie", "both_bad", "right"]
    side = "left" if item["left"] == "Because." else "right"
    r = api.post(f"{path}/{item['id']}/submit", {"verdict": side, "note": "Short."})
    assert r.json() == {"verdict": side, "revision": 1, "surplus": False}
    judgment = Judgment.objects.get()
    assert (judgment.verdict, judgment.note) == ("a", "Short.")
    assert judgment.source == "human"
    assert Task.objects.get().status == "done"
    assert _claim(api, path) == {"item": None, "reason": "done", "until": None}


@pytest.mark.parametrize("swapped", [False, True])
def test_a_strength_is_that_of_the_side_that_was_shown(
    api, path, project, task, swapped
):
    project.strength_points = 5
    project.save()
    item = _claim(api, path)["item"]
    Assignment.objects.update(swapped=swapped)
    assert "left" not in item["verdicts"]
    for sent, verdict, revision in (("left-2", "ab"[swapped], 0), ("tie", "tie", 1)):
        body = {"verdict": sent, "replaces": revision}
        r = api.post(f"{path}/{item['id']}/submit", body)
        assert r.json()["verdict"] == sent
        judgment = Judgment.objects.standing().get()
        assert judgment.verdict == verdict
        assert judgment.strength == (2 if sent == "left-2" else 0)


@pytest.mark.parametrize("swapped", [False, True])
def test_left_and_right_are_as_they_were_shown(api, path, task, alice, swapped):
    item = _claim(api, path)["item"]
    Assignment.objects.update(swapped=swapped)
    shown = api.get(f"{path}/{item['id']}").json()
    assert shown["left"] == ("Therefore." if swapped else "Because.")
    api.post(f"{path}/{item['id']}/submit", {"verdict": "left"})
    assert Judgment.objects.get().verdict == ("b" if swapped else "a")
    assert api.get(f"{path}/{item['id']}").json()["chosen"] == "left"


@pytest.mark.parametrize("swapped", [False, True])
def test_a_strength_comes_back_as_it_was_given(api, path, project, task, swapped):
    project.strength_points = 7
    project.save()
    item = _claim(api, path)["item"]
    Assignment.objects.update(swapped=swapped)
    verdict = item["verdicts"][0]
    assert verdict == "left-3"
    r = api.post(f"{path}/{item['id']}/submit", {"verdict": verdict})
    assert r.json()["verdict"] == verdict
    assert api.get(f"{path}/{item['id']}").json()["chosen"] == verdict
    stored = Judgment.objects.get()
    assert (stored.verdict, stored.strength) == ("b" if swapped else "a", 3)


def test_nothing_says_who_wrote_what(api, path, task):
    item = _claim(api, path)["item"]
    said = json.dumps([item, api.get(f"{path}/{item['id']}").json()])
    for secret in (*SECRETS, "model", "response", "swapped", "task"):
        assert secret not in said
    assert set(item) == {
        "id",
        "state",
        "messages",
        "left",
        "right",
        "verdicts",
        "chosen",
        "revision",
        "note",
        "guideline",
        "lease_expires_at",
    }


def test_a_binary_item_has_one_side(alice):
    project = make_project("Binary", kind="binary")
    add_member(project, alice)
    make_task(project, a="Fine.")
    item = _claim(Api(alice), f"projects/{project.slug}/judging")["item"]
    assert (item["left"], item["right"]) == ("Fine.", None)
    assert item["verdicts"] == ["bad", "good"]


def test_the_same_answer_again_stores_nothing_new(api, path, task):
    item = _claim(api, path)["item"]
    for _ in range(3):
        r = api.post(f"{path}/{item['id']}/submit", {"verdict": "tie"})
        assert r.json()["revision"] == 1
    assert Judgment.objects.count() == 1


def test_an_answer_is_revised_by_its_revision(api, path, task):
    item = _claim(api, path)["item"]
    address = f"{path}/{item['id']}/submit"
    api.post(address, {"verdict": "tie"})
    r = api.post(address, {"verdict": "left", "replaces": 1})
    assert (r.json()["verdict"], r.json()["revision"]) == ("left", 2)
    late = api.post(address, {"verdict": "right", "replaces": 1})
    assert (late.json()["verdict"], late.json()["revision"]) == ("left", 2)


def test_skip_release_and_extend(api, path, task):
    item = _claim(api, path)["item"]
    assert api.post(f"{path}/{item['id']}/extend").status_code == 200
    assert api.post(f"{path}/{item['id']}/release").status_code == 204
    assert api.post(f"{path}/{item['id']}/extend").status_code == 409
    item = _claim(api, path)["item"]
    r = api.post(f"{path}/{item['id']}/skip", {"reason": "Not my field."})
    assert r.status_code == 204
    assert Assignment.objects.get().skip_reason == "Not my field."
    assert _claim(api, path)["reason"] == "skipped"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"verdict": "a"}, 422),
        ({"verdict": ""}, 400),
        ({}, 400),
        ({"verdict": "left", "replaces": -1}, 400),
        ({"verdict": "left", "note": "\0"}, 400),
        ({"verdict": "left", "task": 1}, 400),
    ],
)
def test_what_is_no_answer_changes_nothing(api, path, task, body, status):
    item = _claim(api, path)["item"]
    assert api.post(f"{path}/{item['id']}/submit", body).status_code == status
    assert not Judgment.objects.exists()


def test_the_item_of_another_is_not_there(api, path, task, bob, project):
    item = queue.claim(project, bob)
    for end in ("", "/submit", "/skip", "/release", "/extend"):
        act = api.post if end else api.get
        r = act(f"{path}/{item.pk}{end}", *[{"verdict": "left"}] * (end == "/submit"))
        assert r.status_code == 404


def test_a_viewer_judges_nothing(vera, path, task):
    assert Api(vera).post(f"{path}/claim").status_code == 403


def test_feedback_is_stored_once_and_never_counts(mona, project, task):
    api, path = Api(mona, "feedback"), f"projects/{project.slug}/feedback"
    body = {"task": task.pk, "verdict": "b", "user": "u1", "note": "Shorter."}
    first = api.post(path, body)
    assert first.status_code == 201
    assert api.post(path, body).json()["id"] == first.json()["id"]
    assert api.post(path, body | {"verdict": "a"}).status_code == 409
    assert api.post(path, body | {"verdict": "a", "id": "2"}).status_code == 201
    assert api.post(path, body | {"verdict": "good"}).status_code == 422
    assert api.post(path, body | {"task": task.pk + 1}).status_code == 404
    stored = Judgment.objects.values_list("source", "judge_name", "verdict")
    assert list(stored.order_by("pk")) == [
        ("feedback", "u1", "b"),
        ("feedback", "u1", "a"),
    ]
    task.refresh_from_db()
    assert (task.n_done, task.status) == (0, "open")


def test_feedback_on_a_task_of_another_project_is_not_taken(mona, project):
    theirs = make_task(make_project("Other"))
    r = Api(mona).post(
        f"projects/{project.slug}/feedback",
        {"task": theirs.pk, "verdict": "a", "user": "u1"},
    )
    assert r.status_code == 404
    assert not Judgment.objects.exists()
