"""Pages of snapshots: readers see them, managers freeze, annotators know nothing."""

from __future__ import annotations

import io
import json
from datetime import timedelta

import pyarrow.parquet as pq
import pytest
from django.core.cache import cache
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django.asserts import assertContains, assertNotContains, assertRedirects

from tests.builders import (
    add_member,
    make_judgment,
    make_project,
    make_snapshot,
    make_task,
)
from tests.conftest import client_of
from training import exporting, tasks
from training.models import Snapshot
from training.recipes import Recipe

CHOICES = {
    "algorithm": "dpo",
    "judges": ["human", "imported", "feedback"],
    "ties": "drop",
    "min_votes": 1,
    "eval_percent": 10,
    "seed": 0,
}


@pytest.fixture(autouse=True)
def _no_counts_kept():
    cache.clear()


@pytest.fixture
def snapshot(project) -> Snapshot:
    """Ten pairs and a tie, frozen for DPO, two prompts held out."""
    for n in range(10):
        task = make_task(project, f"What is {n}?", f"<b>{n}</b>", "=1+1")
        make_judgment(task, "a")
    make_judgment(make_task(project), "tie")
    return exporting.freeze(project, Recipe(algorithm="dpo", eval_share=0.2))


@pytest.fixture
def viewer(vera):
    """A browser logged in as vera."""
    return client_of(vera)


@pytest.fixture
def rung(monkeypatch) -> list:
    """What the queue was asked to do."""
    calls: list = []
    monkeypatch.setattr(exporting, "async_task", lambda *args: calls.append(args))
    return calls


def pages_of(snapshot: Snapshot) -> list[str]:
    slug = snapshot.project.slug
    return [
        reverse("training:snapshots", args=[slug]),
        reverse("training:snapshot", args=[slug, snapshot.pk]),
        reverse("training:snapshot_file", args=[slug, snapshot.pk, "train.parquet"]),
        reverse("training:snapshot_file", args=[slug, snapshot.pk, "train.csv"]),
    ]


def freeze_url(project) -> str:
    return reverse("training:freeze", args=[project.slug])


# --- Who may ------------------------------------------------------------------


def test_readers_read(snapshot, vera, rita, mona):
    for user in (vera, rita, mona):
        for url in pages_of(snapshot):
            assert client_of(user).get(url).status_code == 200


def test_annotators_and_strangers_find_nothing(snapshot, client, charlie):
    for url in [*pages_of(snapshot), freeze_url(snapshot.project)]:
        assert client.get(url).status_code == 404
        assert client_of(charlie).get(url).status_code == 404


def test_nobody_reads_a_snapshot_through_another_project(snapshot, mona):
    other = make_project("Other")
    add_member(other, mona, "manager")
    url = reverse("training:snapshot", args=[other.slug, snapshot.pk])
    assert client_of(mona).get(url).status_code == 404


def test_only_managers_freeze(snapshot, viewer, rita, rung):
    for browser in (viewer, client_of(rita)):
        url = freeze_url(snapshot.project)
        assert browser.get(url).status_code == 403
        assert browser.post(url, CHOICES).status_code == 403
        again = reverse("training:freeze_again", args=[snapshot.project.slug, 1])
        assert browser.post(again).status_code == 403
    assert not rung
    assertNotContains(viewer.get(pages_of(snapshot)[0]), "Freeze dataset")


def test_it_requires_login(snapshot):
    for url in pages_of(snapshot):
        assert Client().get(url).status_code == 302


# --- The list and the page ----------------------------------------------------


def test_the_list_says_what_snapshots_are_for(manager, project):
    r = manager.get(reverse("training:snapshots", args=[project.slug]))
    assertContains(r, "Nothing has been frozen yet")
    assertContains(r, freeze_url(project))


def test_the_list_takes_as_many_queries_for_many(
    viewer, snapshot, django_assert_num_queries
):
    url = pages_of(snapshot)[0]
    for seed in range(3):
        exporting.freeze(snapshot.project, Recipe(algorithm="sft", seed=seed))
    with django_assert_num_queries(5):
        # session, user, project with role, count, snapshots
        assertContains(viewer.get(url), "for sft", count=3)


def test_the_page_shows_a_ledger_that_adds_up(viewer, snapshot):
    r = viewer.get(snapshot.get_absolute_url())
    text = " ".join(r.content.decode().split())
    assert '<th scope="row">Judged tasks</th> <td class="number">11</td>' in text
    assert '<th scope="row">Tie</th> <td class="number">1</td>' in text
    assert '</th> <td class="number">10</td>' in text
    assertContains(r, "8 rows to train on, 2 held out")
    assertContains(r, snapshot.sha256)


def test_the_page_escapes_what_models_wrote(viewer, snapshot):
    r = viewer.get(snapshot.get_absolute_url())
    assertContains(r, "&lt;b&gt;")
    assertNotContains(r, "<b>")


def test_a_number_that_cannot_be_had_says_why(viewer, snapshot):
    r = viewer.get(snapshot.get_absolute_url())
    assertContains(r, "No task was judged by two people.")


# --- Files --------------------------------------------------------------------


def test_a_file_is_the_one_in_the_store(viewer, snapshot):
    r = viewer.get(pages_of(snapshot)[2])
    content = b"".join(r.streaming_content)
    assert pq.read_table(io.BytesIO(content)).num_rows == 8
    name = f"{snapshot.project.slug}-snapshot-{snapshot.pk}-train.parquet"
    assert r["Content-Disposition"] == f'attachment; filename="{name}"'


def test_rows_come_as_json_lines_too(viewer, snapshot):
    url = reverse(
        "training:snapshot_file",
        args=[snapshot.project.slug, snapshot.pk, "eval.jsonl"],
    )
    lines = b"".join(viewer.get(url).streaming_content).splitlines()
    assert len(lines) == 2
    assert json.loads(lines[0])["rejected"][0]["content"] == "=1+1"


@pytest.mark.parametrize(
    "name", ["nope.parquet", "ledger.csv", "snapshot.csv", "..", "x"]
)
def test_there_are_no_other_files(viewer, snapshot, name):
    url = pages_of(snapshot)[1] + f"files/{name}"
    assert viewer.get(url).status_code == 404


# --- Freezing -----------------------------------------------------------------


def test_the_same_wish_sent_twice_is_one_snapshot(
    manager, project, rung, django_capture_on_commit_callbacks
):
    """As after a double click, or where the answer was lost."""
    make_judgment(make_task(project), "a")
    with django_capture_on_commit_callbacks(execute=True):
        for seed in (0, 0, 1):
            manager.post(freeze_url(project), CHOICES | {"seed": seed})
    assert Snapshot.objects.count() == 2
    assert len(rung) == 3  # for the bell may have been lost


def test_freezing_asks_the_queue(
    manager, project, mona, rung, django_capture_on_commit_callbacks
):
    make_judgment(make_task(project), "a")
    with django_capture_on_commit_callbacks(execute=True):
        r = manager.post(freeze_url(project), CHOICES)
    snapshot = Snapshot.objects.get()
    assertRedirects(r, snapshot.get_absolute_url())
    assert (snapshot.state, snapshot.created_by) == ("freezing", mona)
    assert snapshot.recipe == Recipe(algorithm="dpo").as_dict()
    assert rung == [("training.tasks.freeze_snapshot", snapshot.pk)]


@pytest.mark.parametrize(
    ("choice", "sentence"),
    [
        ({"algorithm": "dpoo"}, "Select a valid choice"),
        ({"judges": []}, "This field is required"),
        ({"ties": "both_good"}, "use ties=drop"),
        ({"eval_percent": 95}, "less than or equal to 90"),
        ({"eval_percent": "nan"}, "Enter a number"),
        ({"min_votes": 0}, "greater than or equal to 1"),
    ],
)
def test_it_rejects_a_recipe_that_cannot_be_followed(
    manager, project, rung, choice, sentence
):
    r = manager.post(freeze_url(project), CHOICES | choice)
    assertContains(r, sentence, status_code=422)
    assert not Snapshot.objects.exists()


def test_it_rejects_pairs_of_thumbs(mona, rung):
    project = make_project("Thumbs", kind="binary")
    add_member(project, mona, "manager")
    r = client_of(mona).post(freeze_url(project), CHOICES)
    assertContains(r, "make the dataset for kto or sft", status_code=422)
    assert not Snapshot.objects.exists()


def test_the_preview_needs_no_script(manager, project, rung):
    make_judgment(make_task(project), "a")
    make_judgment(make_task(project), "tie")
    r = manager.post(freeze_url(project), CHOICES | {"preview": "1"})
    assertContains(r, '<th scope="row">Tie</th>')
    assertContains(r, "<html")
    assert not Snapshot.objects.exists()


def test_the_preview_follows_the_form(manager, project):
    make_judgment(make_task(project), "both_bad")
    url = freeze_url(project)
    htmx = {"HX-Request": "true"}
    r = manager.get(url, CHOICES, headers=htmx)
    assertContains(r, "Not one row can be made")
    assertNotContains(r, "<html")
    r = manager.get(url, CHOICES | {"algorithm": "kto"}, headers=htmx)
    assertNotContains(r, "Not one row can be made")
    r = manager.get(url, CHOICES | {"judges": []}, headers=htmx)
    assertContains(r, "This field is required")


def test_the_work_goes_on_in_a_process_of_its_own(project, monkeypatch):
    started = []
    monkeypatch.setattr(
        exporting.subprocess, "Popen", lambda command, **_: started.append(command)
    )
    tasks.freeze_snapshot(7)
    assert [command[-2:] for command in started] == [["freeze_snapshot", "7"]]


def test_the_page_polls_until_it_is_ready(manager, project):
    make_judgment(make_task(project), "a")
    snapshot = exporting.begin(project, Recipe(algorithm="dpo"))
    url, htmx = snapshot.get_absolute_url(), {"HX-Request": "true"}
    assertContains(manager.get(url), "Waiting for the queue")

    exporting.Beat(snapshot)("Counting votes", 3, 10)
    r = manager.get(url, headers=htmx)
    assertContains(r, "Counting votes 3 of 10")
    assertNotContains(r, "<html")

    call_command("freeze_snapshot", str(snapshot.pk))
    r = manager.get(url, headers=htmx)
    assert (r.status_code, r["HX-Refresh"]) == (286, "true")


def test_a_silent_process_can_be_started_again(manager, viewer, project, rung):
    snapshot = exporting.begin(project, Recipe(algorithm="dpo"))
    long_ago = timezone.now() - timedelta(minutes=5)
    Snapshot.objects.update(created_at=long_ago)
    url = reverse("training:freeze_again", args=[project.slug, snapshot.pk])
    assertContains(manager.get(snapshot.get_absolute_url()), url)
    assertNotContains(viewer.get(snapshot.get_absolute_url()), url)


def test_starting_again_rings_once_more(
    manager, project, rung, django_capture_on_commit_callbacks
):
    snapshot = exporting.begin(project, Recipe(algorithm="dpo"))
    url = reverse("training:freeze_again", args=[project.slug, snapshot.pk])
    with django_capture_on_commit_callbacks(execute=True):
        assertRedirects(manager.post(url), snapshot.get_absolute_url())
    assert rung == [("training.tasks.freeze_snapshot", snapshot.pk)]
    assert manager.get(url).status_code == 405


def test_a_failure_says_why_and_what_to_do(manager, project):
    make_judgment(make_task(project), "tie")
    snapshot = exporting.begin(project, Recipe(algorithm="dpo"))
    exporting.fail(snapshot, "Not one row for dpo can be made.")
    r = manager.get(snapshot.get_absolute_url())
    assertContains(r, "Not one row for dpo can be made.")
    assertContains(r, freeze_url(project))


def test_a_lost_store_does_not_take_the_page_along(viewer, snapshot, settings):
    settings.ARTIFACT_STORE = str(settings.DATA_DIR / "elsewhere")
    r = viewer.get(snapshot.get_absolute_url())
    assertContains(r, "is not in the store")
    assertContains(r, "Judged tasks")


@pytest.mark.parametrize("name", ["train.parquet", "train.csv"])
def test_a_file_that_the_store_has_lost_is_not_found(manager, project, name):
    files = [{"name": "train.parquet"}]
    snapshot = make_snapshot(project, uri="store:lost", files=files)
    address = reverse("training:snapshot_file", args=[project.slug, snapshot.pk, name])
    assert manager.get(address).status_code == 404
