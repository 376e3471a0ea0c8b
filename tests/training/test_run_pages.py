"""Readers see every run of their project and nobody else sees any."""

from __future__ import annotations

import json
import math
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import call_command
from django.urls import reverse
from django.utils import timezone
from pytest_django.asserts import assertContains, assertNotContains, assertRedirects

from tests.builders import (
    add_member,
    add_points,
    make_attempt,
    make_project,
    make_run,
    make_snapshot,
    make_user,
    run_url,
)
from tests.conftest import client_of
from tests.training.conftest import PAGES
from training.models import Attempt, Run, Sample
from training.runs import launch


def runs_url(project, query=""):
    return reverse("training:runs", args=[project.slug]) + query


# --- Who may read ---


@pytest.mark.parametrize("name", PAGES)
def test_readers_read_every_page(viewer, run, name):
    assert viewer.get(run_url(name, run)).status_code == 200


@pytest.mark.parametrize("name", PAGES)
def test_annotators_and_strangers_find_nothing(client, charlie, run, name):
    assert client.get(run_url(name, run)).status_code == 404
    assert client_of(charlie).get(run_url(name, run)).status_code == 404


@pytest.mark.parametrize("name", PAGES)
def test_a_run_is_not_found_under_another_project(mona, manager, run, name):
    other = make_project()
    add_member(other, mona, "manager")
    url = reverse(f"training:{name}", args=[other.slug, run.pk])
    assert manager.get(url).status_code == 404


@pytest.mark.parametrize("name", PAGES)
def test_it_requires_login_and_get(django_client, viewer, run, name):
    url = run_url(name, run)
    assertRedirects(
        django_client.get(url), f"/login/?next={url}", fetch_redirect_response=False
    )
    assert viewer.post(url).status_code == 405


def test_the_list_is_for_readers(client, charlie, project):
    assert client.get(runs_url(project)).status_code == 404
    assert client_of(charlie).get(runs_url(project)).status_code == 404


# --- The list ---


def test_the_list_shows_state_progress_and_score(viewer, run):
    r = viewer.get(runs_url(run.project))
    assertContains(r, "helpful-v1")
    assertContains(r, "30 of 100")
    assertContains(r, "70.0%")
    assertContains(r, "n = 8")


def test_the_list_says_why_a_run_waits(viewer, project):
    make_run(project, waiting_for="second in the queue")
    assertContains(viewer.get(runs_url(project)), "second in the queue")


def test_an_empty_list_offers_what_the_person_may_do(viewer, manager, project):
    assertContains(manager.get(runs_url(project)), "Nothing has been trained yet")
    assertContains(viewer.get(runs_url(project)), "Managers launch runs")


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("?state=queued", {"waits"}),
        ("?state=active", {"waits", "trains"}),
        ("?state=failed", {"broke"}),
        ("?algorithm=sft", {"broke"}),
        ("?algorithm=dpo&state=active", {"waits", "trains"}),
        ("?state=nonsense", set()),
        ("?state=%00", set()),
        ("?algorithm=%00", set()),
    ],
)
def test_the_list_is_filtered_by_its_address(viewer, project, query, shown):
    make_run(project, "waits")
    make_run(project, "trains", state=Run.State.RUNNING)
    make_run(project, "broke", state=Run.State.FAILED, algorithm="sft")
    r = viewer.get(runs_url(project, query))
    assert {run.name for run in r.context["page"]} == shown


def test_other_projects_runs_are_not_listed(viewer, project):
    make_run(make_project(), "secret-run")
    assertNotContains(viewer.get(runs_url(project)), "secret-run")


def test_a_page_that_is_not_there_is_the_last_one(viewer, project):
    make_run(project, "only")
    assertContains(viewer.get(runs_url(project, "?page=99")), "only")


# --- The head ---


def test_the_head_says_nothing_twice(viewer, run):
    r = viewer.get(run_url("run_head", run))
    assertContains(r, "30 of 100")
    assertNotContains(r, "<html")
    seen = r.context["digest"]
    assert viewer.get(run_url("run_head", run), {"seen": seen}).status_code == 204

    Run.objects.filter(pk=run.pk).update(step=31)
    assert viewer.get(run_url("run_head", run), {"seen": seen}).status_code == 200


def test_the_accuracy_of_a_live_run_is_that_of_the_held_out_rows(viewer, run):
    add_points(run.attempts.get(), "rewards/accuracies", {30: 0.99, 31: 0.99})
    r = viewer.get(run_url("run_head", run))
    assertContains(r, "70.0%")
    assertNotContains(r, "99.0%")


def test_before_the_first_step_there_is_no_accuracy(viewer, project):
    run = make_run(project, state=Run.State.RUNNING)
    add_points(make_attempt(run), "eval_rewards/accuracies", {0: 0.0})
    assertNotContains(viewer.get(run_url("run", run)), "0.0%")


def test_the_final_measurement_stands_beside_what_it_must_beat(viewer, project):
    measured = {
        "accuracy": 0.674,
        "accuracy_low": 0.632,
        "accuracy_high": 0.715,
        "pairs": 465,
        "baseline_longer_wins": 0.611,
        "baseline_bag_of_words": 0.624,
    }
    agreement = {"value": 0.742, "low": 0.721, "high": 0.763, "n": 900}
    run = make_run(
        project,
        state=Run.State.SUCCEEDED,
        result={"eval_metrics": measured},
        snapshot=make_snapshot(project, statistics={"agreement": agreement}),
    )
    r = viewer.get(run_url("run", run))
    for words in ("67.4%", "63.2% to 71.5%, n = 465", "61.1%", "62.4%", "74.2%"):
        assertContains(r, words)
    panels = viewer.get(run_url("metrics", run)).json()["panels"]
    accuracy = next(panel for panel in panels if panel["title"] == "Accuracy")
    assert [line["value"] for line in accuracy["lines"]] == [0.611, 0.624, 0.742]


@pytest.mark.parametrize(("accuracy", "is_beaten"), [(0.61, True), (0.63, False)])
def test_a_model_that_a_rule_matches_is_told(viewer, project, accuracy, is_beaten):
    measured = {
        "accuracy": accuracy,
        "pairs": 34,
        "baseline_longer_wins": 0.62,
        "baseline_bag_of_words": 0.59,
    }
    result = {"eval_metrics": measured}
    run = make_run(project, state=Run.State.SUCCEEDED, result=result)
    make_attempt(run, state=Attempt.State.SUCCEEDED)
    page = viewer.get(run_url("run", run)).content.decode()
    assert ("does not beat the rule “longer wins”" in page) == is_beaten


@pytest.mark.parametrize(
    ("points", "sentence"),
    [
        ({"eval_loss": {10: 0.5, 20: 0.6, 30: 0.7}}, "Held-out loss has risen"),
        (
            {"eval_rewards/chosen": {30: -0.5}, "eval_rewards/margins": {30: 0.4}},
            "Chosen responses get less likely too",
        ),
    ],
)
def test_a_run_that_goes_wrong_is_said_to(viewer, project, points, sentence):
    run = make_run(project, state=Run.State.RUNNING)
    attempt = make_attempt(run)
    for name, values in points.items():
        add_points(attempt, name, values)
    assertContains(viewer.get(run_url("run", run)), sentence)


def test_a_silent_worker_is_told(viewer, run):
    run.attempts.update(lease_until=timezone.now() - timedelta(seconds=1))
    assertContains(viewer.get(run_url("run", run)), "has not been heard from")


@pytest.mark.parametrize("state", Run.FINAL)
def test_polling_ends_with_the_run(viewer, run, state):
    Run.objects.filter(pk=run.pk).update(state=state, result={})
    r = viewer.get(run_url("run_head", run))
    assert r.status_code == 286
    assert b"hx-get" not in r.content


def test_the_time_left_is_that_of_the_last_steps(viewer, run):
    # Points are a second a step apart, and 70 steps are left.
    assertContains(viewer.get(run_url("run", run)), "1 min 10 s")


def test_a_failure_says_what_where_and_what_to_do(viewer, run):
    error = {
        "code": "RLHF003",
        "class": "configuration",
        "message": "learning_rate must be > 0, not <b>-1</b>.",
        "where": "preparing",
        "lines": ["Traceback", "ValueError: <script>alert(1)</script>"],
    }
    Run.objects.filter(pk=run.pk).update(state=Run.State.FAILED, error=error)
    r = viewer.get(run_url("run", run))
    assertContains(r, "learning_rate must be &gt; 0, not &lt;b&gt;-1&lt;/b&gt;.")
    assertContains(r, "ValueError: &lt;script&gt;alert(1)&lt;/script&gt;")
    assertContains(r, "Correct it; the message gives the nearest right key")


@pytest.mark.parametrize("error", [None, {}, {"lines": "one text"}, {"code": "X"}])
def test_a_failure_without_details_is_shown_as_well(viewer, run, error):
    Run.objects.filter(pk=run.pk).update(state=Run.State.FAILED, error=error)
    assertContains(viewer.get(run_url("run", run)), "failure-title")


def test_a_loss_that_is_no_number_is_a_concern(viewer, run):
    add_points(run.attempts.get(), "loss", {31: math.nan})
    assertContains(viewer.get(run_url("run", run)), "loss is NaN since step 31")


# --- The other tabs ---


def test_samples_stand_step_beside_step(viewer, run):
    for step, text in ((10, "early <b>words</b>"), (20, "late words")):
        Sample.objects.create(
            attempt=run.attempts.get(),
            step=step,
            index=0,
            messages=[{"role": "user", "content": "Say something."}],
            completion=text,
        )
    r = viewer.get(run_url("run_samples", run))
    assertContains(r, "Say something.", count=1)
    assertContains(r, "early &lt;b&gt;words&lt;/b&gt;")
    assertContains(r, "late words")


def test_the_configuration_can_be_copied(viewer, run):
    r = viewer.get(run_url("run_config", run))
    assert json.loads(r.context["as_json"]) == run.config
    project = run.project.slug
    assertContains(r, f"manage.py train run-{run.pk}.yaml --project {project}")


def test_the_command_of_the_configuration_page_launches_the_same_run(viewer, project):
    config = {
        "job_name": "again",
        "algorithm": "dpo",
        "base_model": "org/base@v1",
        "dataset_path": "x",
        "output_dir": ".",
    }
    run = launch(
        project,
        actor=None,
        name="again",
        config=config,
        snapshot=make_snapshot(project),
    )
    r = viewer.get(run_url("run_config", run))
    spec = Path(settings.DATA_DIR) / f"run-{run.pk}.yaml"
    spec.parent.mkdir(parents=True, exist_ok=True)
    spec.write_text(r.context["as_yaml"])
    call_command("train", str(spec), project=project.slug)
    assert Run.objects.latest("pk").config == run.config


def test_the_data_tab_accounts_for_every_row(viewer, run):
    ledger = {"judged": 120, "exported": 100, "left_out": {"tie": 20}, "rows": 100}
    snapshot = make_snapshot(run.project, ledger=ledger)
    trained = {"train": {"rows": 90, "used": 88, "dropped": {"too_long": 2}}}
    Run.objects.filter(pk=run.pk).update(
        snapshot=snapshot, result={"ledger": {"source": "data", **trained}}
    )
    r = viewer.get(run_url("run_data", run))
    for words in ("120", "Tie", "too long", "88"):
        assertContains(r, words)


def test_history_tells_who_did_what(viewer, run, mona):
    run.events.create(kind="launched", message="Launched as helpful-v1.", actor=mona)
    r = viewer.get(run_url("run_history", run))
    assertContains(r, "Launched as helpful-v1.")
    assertContains(r, "by mona")


def test_the_lineage_goes_down_to_the_judgments(viewer, run):
    r = viewer.get(run_url("run", run))
    assertContains(r, "120 judgments")
    assertContains(r, run.snapshot.sha256[:8])
    assertContains(r, "org/base@v1")


def test_the_lineage_names_the_runs_before_and_after(viewer, run):
    child = make_run(run.project, "aligned", base_run=run)
    assertContains(viewer.get(run_url("run", run)), child.get_absolute_url())
    assertContains(viewer.get(run_url("run", child)), run.get_absolute_url())


def test_names_are_text(viewer, project):
    run = make_run(project, "<script>alert(1)</script>")
    for name in ("run", "run_config"):
        assertNotContains(viewer.get(run_url(name, run)), "<script>alert(1)")


def test_a_run_of_somebody_without_a_project_is_not_told(run):
    stranger = client_of(make_user())
    missing = reverse("training:run", args=["no-such-project", run.pk])
    assert stranger.get(missing).status_code == 404
