"""From a row of a run to the people who judged it."""

from __future__ import annotations

import shutil

import pytest
from django.urls import reverse
from pytest_django.asserts import assertContains, assertNotContains

from tests.builders import (
    make_judgment,
    make_run,
    make_task,
    run_url,
)
from tests.conftest import client_of
from tests.training.conftest import PAGES
from training import exporting
from training.recipes import Recipe


@pytest.fixture
def traced(project):
    """A run on 45 pairs that were frozen as in life, each judged once."""
    for n in range(50):
        task = make_task(project, f"Question {n}?", f"right {n}", f"wrong {n}")
        make_judgment(task, "a", judge_name=f"judge-{n}")
    recipe = Recipe(algorithm="dpo", eval_share=0.1)
    return make_run(project, snapshot=exporting.freeze(project, recipe))


@pytest.mark.parametrize("name", [*PAGES, "run_rows"])
def test_every_page_works_on_what_was_really_frozen(manager, traced, name):
    r = manager.get(run_url(name, traced))
    assert r.status_code == 200


def test_the_lineage_counts_judgments_by_source(viewer, traced):
    assertContains(viewer.get(run_url("run", traced)), "50 imported")


def test_a_real_snapshot_can_be_launched(manager, traced):
    snapshot = traced.snapshot.pk
    url = reverse("training:launch", args=[traced.project.slug])
    r = manager.get(url, {"snapshot": snapshot})
    assert r.context["summary"].n_train == 45


def rows_url(run, query=""):
    return run_url("run_rows", run) + query


def numbers(r):
    return [row.number for row in r.context["rows"]]


def test_every_row_is_on_one_page(viewer, traced):
    pages = [viewer.get(rows_url(traced, f"?page={n}")) for n in (1, 2, 3)]
    assert [n for r in pages for n in numbers(r)] == list(range(1, 46))
    tasks = [row.values["task_id"] for r in pages for row in r.context["rows"]]
    held_out = viewer.get(rows_url(traced, "?split=eval")).context["rows"]
    tasks += [row.values["task_id"] for row in held_out]
    assert len(set(tasks)) == 50


def test_a_row_names_who_judged_it(rita, traced):
    r = client_of(rita).get(rows_url(traced))
    for row in r.context["rows"]:
        (judgment,) = row.judgments
        assert judgment.task_id == row.values["task_id"]
        assertContains(r, judgment.judge_name)


def test_viewers_read_rows_and_not_who_judged_them(viewer, client, traced):
    r = viewer.get(rows_url(traced))
    assertContains(r, "Question")
    assertNotContains(r, "judge-")
    assert client.get(rows_url(traced)).status_code == 404


def test_the_rows_cost_the_same_queries_however_many(
    rita, traced, django_assert_max_num_queries
):
    reviewer = client_of(rita)
    with django_assert_max_num_queries(10):
        reviewer.get(rows_url(traced))


def test_rows_that_are_gone_from_the_store_are_said_to_be(viewer, traced, settings):
    shutil.rmtree(settings.ARTIFACT_STORE)
    r = viewer.get(rows_url(traced))
    assert r.status_code == 200
    assert r.context["store_error"]


def test_a_run_without_a_frozen_dataset_has_no_rows(viewer, project):
    assert viewer.get(rows_url(make_run(project))).status_code == 404
    assertContains(
        viewer.get(run_url("run_data", make_run(project))), "not frozen here"
    )
