"""Readers see every run of their project and nobody else sees any."""

from __future__ import annotations

import json
import math
import shutil
from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone
from pytest_django.asserts import assertContains, assertNotContains, assertRedirects

from tests.builders import (
    add_member,
    add_points,
    make_attempt,
    make_judgment,
    make_project,
    make_run,
    make_snapshot,
    make_task,
    make_user,
)
from tests.conftest import client_of
from training import exporting
from training.models import Attempt, LogChunk, Run, Sample
from training.recipes import Recipe

PAGES = [
    "run",
    "run_head",
    "metrics",
    "metrics_csv",
    "run_log",
    "run_samples",
    "run_data",
    "run_config",
    "run_history",
]


@pytest.fixture
def run(project):
    """A DPO run that is at step 30 of 100."""
    run = make_run(
        project,
        "helpful-v1",
        state=Run.State.RUNNING,
        step=30,
        max_steps=100,
        snapshot=make_snapshot(project),
        config={"algorithm": "dpo", "base_model": "org/base@v1", "seed": 42},
    )
    attempt = make_attempt(run)
    add_points(attempt, "loss", {10: 0.69, 20: 0.6, 30: 0.5})
    add_points(attempt, "eval_rewards/accuracies", {0: 0.0, 30: 0.7})
    run.events.create(kind="data_ready", data={"ledger": {"eval": {"used": 8}}})
    LogChunk.objects.create(attempt=attempt, offset=0, text="loading\nstep 30\n")
    return run


@pytest.fixture
def viewer(vera):
    """A browser logged in as vera."""
    return client_of(vera)


def url_of(name, run, *more):
    return reverse(f"training:{name}", args=[run.project.slug, run.pk, *more])


def runs_url(project, query=""):
    return reverse("training:runs", args=[project.slug]) + query


# --- Who may read -------------------------------------------------------------


@pytest.mark.parametrize("name", PAGES)
def test_readers_read_every_page(viewer, run, name):
    assert viewer.get(url_of(name, run)).status_code == 200


@pytest.mark.parametrize("name", PAGES)
def test_annotators_and_strangers_find_nothing(client, charlie, run, name):
    assert client.get(url_of(name, run)).status_code == 404
    assert client_of(charlie).get(url_of(name, run)).status_code == 404


@pytest.mark.parametrize("name", PAGES)
def test_a_run_is_not_found_under_another_project(mona, manager, run, name):
    other = make_project()
    add_member(other, mona, "manager")
    url = reverse(f"training:{name}", args=[other.slug, run.pk])
    assert manager.get(url).status_code == 404


@pytest.mark.parametrize("name", PAGES)
def test_it_requires_login_and_get(django_client, viewer, run, name):
    url = url_of(name, run)
    assertRedirects(
        django_client.get(url), f"/login/?next={url}", fetch_redirect_response=False
    )
    assert viewer.post(url).status_code == 405


def test_the_list_is_for_readers(client, charlie, project):
    assert client.get(runs_url(project)).status_code == 404
    assert client_of(charlie).get(runs_url(project)).status_code == 404


# --- The list -----------------------------------------------------------------


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


# --- The head -----------------------------------------------------------------


def test_the_head_says_nothing_twice(viewer, run):
    r = viewer.get(url_of("run_head", run))
    assertContains(r, "30 of 100")
    assertNotContains(r, "<html")
    seen = r.context["digest"]
    assert viewer.get(url_of("run_head", run), {"seen": seen}).status_code == 204

    Run.objects.filter(pk=run.pk).update(step=31)
    assert viewer.get(url_of("run_head", run), {"seen": seen}).status_code == 200


def test_before_the_first_step_there_is_no_accuracy(viewer, project):
    run = make_run(project, state=Run.State.RUNNING)
    add_points(make_attempt(run), "eval_rewards/accuracies", {0: 0.0})
    assertNotContains(viewer.get(url_of("run", run)), "0.0%")


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
    r = viewer.get(url_of("run", run))
    for words in ("67.4%", "63.2% to 71.5%, n = 465", "61.1%", "62.4%", "74.2%"):
        assertContains(r, words)
    panels = viewer.get(url_of("metrics", run)).json()["panels"]
    accuracy = next(panel for panel in panels if panel["title"] == "Accuracy")
    assert [line["value"] for line in accuracy["lines"]] == [0.611, 0.624, 0.742]


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
    assertContains(viewer.get(url_of("run", run)), sentence)


def test_a_silent_worker_is_told(viewer, run):
    run.attempts.update(lease_until=timezone.now() - timedelta(seconds=1))
    assertContains(viewer.get(url_of("run", run)), "has not been heard from")


@pytest.mark.parametrize("state", Run.FINAL)
def test_polling_ends_with_the_run(viewer, run, state):
    Run.objects.filter(pk=run.pk).update(state=state, result={})
    r = viewer.get(url_of("run_head", run))
    assert r.status_code == 286
    assert b"hx-get" not in r.content


def test_the_time_left_is_that_of_the_last_steps(viewer, run):
    # Points are a second a step apart, and 70 steps are left.
    assertContains(viewer.get(url_of("run", run)), "1 min 10 s")


def test_a_failure_says_what_where_and_what_to_do(viewer, run):
    error = {
        "code": "RLHF003",
        "class": "configuration",
        "message": "learning_rate must be > 0, not <b>-1</b>.",
        "where": "preparing",
        "lines": ["Traceback", "ValueError: <script>alert(1)</script>"],
    }
    Run.objects.filter(pk=run.pk).update(state=Run.State.FAILED, error=error)
    r = viewer.get(url_of("run", run))
    assertContains(r, "learning_rate must be &gt; 0, not &lt;b&gt;-1&lt;/b&gt;.")
    assertContains(r, "ValueError: &lt;script&gt;alert(1)&lt;/script&gt;")
    assertContains(r, "Correct it; the message gives the nearest right key")


@pytest.mark.parametrize("error", [None, {}, {"lines": "one text"}, {"code": "X"}])
def test_a_failure_without_details_is_shown_as_well(viewer, run, error):
    Run.objects.filter(pk=run.pk).update(state=Run.State.FAILED, error=error)
    assertContains(viewer.get(url_of("run", run)), "failure-title")


def test_a_loss_that_is_no_number_is_a_concern(viewer, run):
    add_points(run.attempts.get(), "loss", {31: math.nan})
    assertContains(viewer.get(url_of("run", run)), "loss is NaN since step 31")


# --- Curves -------------------------------------------------------------------


def test_the_curves_are_what_was_reported(viewer, run):
    answer = viewer.get(url_of("metrics", run)).json()
    assert answer["state"] == "running"
    assert answer["series"]["loss"]["points"] == [[10, 0.69], [20, 0.6], [30, 0.5]]
    assert answer["series"]["eval_rewards/accuracies"]["split"] == "eval"
    drawn = {name for panel in answer["panels"] for name in panel["names"]}
    assert set(answer["series"]) <= drawn


def test_only_new_points_are_sent_and_nothing_is_204(viewer, run):
    url = url_of("metrics", run)
    cursor = viewer.get(url).json()["cursor"]
    assert viewer.get(url, {"after": cursor}).status_code == 204

    add_points(run.attempts.get(), "loss", {40: math.inf})
    answer = viewer.get(url, {"after": cursor}).json()
    assert (answer["append"], answer["from"]) == (True, 40)
    assert answer["series"] == {
        "loss": {
            "label": "loss",
            "split": "train",
            "points": [],
            "nonfinite": [[40, "inf"]],
        }
    }


def test_the_last_answer_says_done(viewer, run):
    url = url_of("metrics", run)
    cursor = viewer.get(url).json()["cursor"]
    Run.objects.filter(pk=run.pk).update(state=Run.State.STOPPED)
    answer = viewer.get(url, {"after": cursor}).json()
    assert (answer["state"], answer["append"], answer["series"]) == ("done", True, {})


def test_a_run_without_points_still_has_its_panels(viewer, project):
    answer = viewer.get(url_of("metrics", make_run(project))).json()
    assert answer["series"] == {}
    assert "Loss" in [panel["title"] for panel in answer["panels"]]


@pytest.mark.parametrize(
    "after", ["", "x", "-1.1", "1", "1.x", "9" * 40 + ".1", "0.0", "5.0", "٣.٣"]
)
def test_a_broken_cursor_gets_everything(viewer, run, after):
    answer = viewer.get(url_of("metrics", run), {"after": after}).json()
    assert len(answer["series"]["loss"]["points"]) == 3
    assert answer["append"] is False


def test_every_metric_has_a_panel_whatever_its_name(viewer, run):
    for name in ("a b/c", "<script>alert(1)</script>", "eval_odd", "@1"):
        add_points(run.attempts.get(), name, {1: 1.0})
    answer = viewer.get(url_of("metrics", run)).json()
    folded = [p for p in answer["panels"] if p["folded"]]
    titles = ["<script>alert(1)</script>", "@1", "a b/c", "odd"]
    assert [p["title"] for p in folded] == titles


def test_the_lost_tail_is_drawn_in_the_same_panel(viewer, run):
    run.refresh_from_db()
    run.attempts.update(state=Attempt.State.LOST)
    add_points(make_attempt(run), "loss", {20: 0.55})
    answer = viewer.get(url_of("metrics", run)).json()
    assert answer["series"]["loss"]["points"] == [[10, 0.69], [20, 0.55]]
    assert answer["series"]["loss@1"]["points"] == [[20, 0.6], [30, 0.5]]
    loss = next(p for p in answer["panels"] if p["key"] == "loss")
    assert "loss@1" in loss["names"]


def test_the_csv_holds_every_point(viewer, run):
    add_points(run.attempts.get(), "loss", {31: math.nan})
    r = viewer.get(url_of("metrics_csv", run))
    lines = b"".join(r.streaming_content).decode().splitlines()
    assert lines[0] == "attempt,step,name,value,unix_time"
    assert lines[1] == "1,10,loss,0.69,1700000010.0"
    assert lines[-1].startswith("1,31,loss,nan,")
    assert len(lines) == 7


# --- The log ------------------------------------------------------------------


def test_the_log_ends_with_its_last_lines(viewer, run):
    text = "".join(f"line {n}\n" for n in range(1000))
    LogChunk.objects.create(attempt=run.attempts.get(), offset=16, text=text)
    r = viewer.get(url_of("run_log", run))
    assertContains(r, "line 999")
    assertContains(r, "line 800")
    assertNotContains(r, "line 799\n")


def follow(client, run, fence=1, seen=None):
    """Poll as the page does until nothing is new; the text that was shown."""
    part = seen.context["part"]
    return client.get(
        url_of("log_more", run, fence),
        {"offset": part.offset, "skip": part.skip, "newest": part.newest},
    )


def shown(*answers):
    lines = [line.text for r in answers for line in r.context["part"].lines]
    return [*lines, answers[-1].context["part"].open_line.text]


def test_the_log_goes_on_where_it_was(viewer, run):
    attempt = run.attempts.get()
    first = viewer.get(url_of("run_log", run))
    assert follow(viewer, run, seen=first).status_code == 204

    LogChunk.objects.create(attempt=attempt, offset=16, text="half a ")
    second = follow(viewer, run, seen=first)
    LogChunk.objects.create(attempt=attempt, offset=23, text="line\nand mor")
    third = follow(viewer, run, seen=second)
    assert shown(second) == ["half a "]
    assert shown(first, second, third) == [
        "loading",
        "step 30",
        "half a line",
        "and mor",
    ]


@pytest.mark.parametrize("size", [1, 3, 7, 50])
def test_a_log_read_in_pieces_is_the_log_read_at_once(viewer, run, size):
    text = "a\r\nb\n 1%\r 50%\r100%\n\n\x1b[31mred\x1b[0m\nBar: 1\rBar: 2\r\nend\n"
    attempt = run.attempts.get()
    answers = [viewer.get(url_of("run_log", run))]
    for start in range(0, len(text), size):
        LogChunk.objects.create(
            attempt=attempt, offset=16 + start, text=text[start : start + size]
        )
        answers.append(follow(viewer, run, seen=answers[-1]))
    expected = ["loading", "step 30", "a", "b", "100%", "", "red", "Bar: 2", "end", ""]
    assert shown(*answers) == expected
    assert shown(viewer.get(url_of("run_log", run))) == expected


def test_a_progress_bar_without_end_is_one_line(viewer, run):
    attempt = run.attempts.get()
    for n in range(1000):
        LogChunk.objects.create(attempt=attempt, offset=16 + n, text=f"\r{n} of 1000")
    r = viewer.get(url_of("run_log", run))
    while r.status_code == 200:
        last, r = r, follow(viewer, run, seen=r)
    assert last.context["part"].open_line.text == "999 of 1000"


def test_the_log_is_text_and_nothing_else(viewer, run):
    LogChunk.objects.create(
        attempt=run.attempts.get(), offset=16, text="<script>alert(1)</script>\n"
    )
    r = viewer.get(url_of("run_log", run))
    assertContains(r, "&lt;script&gt;alert(1)&lt;/script&gt;")


def test_following_the_log_ends_with_the_attempt(viewer, run):
    first = viewer.get(url_of("run_log", run))
    attempt = run.attempts.get()
    LogChunk.objects.create(attempt=attempt, offset=16, text="Error: no more\n")
    run.attempts.update(state=Attempt.State.FAILED)
    r = follow(viewer, run, seen=first)
    assert r.status_code == 286
    assertContains(r, '<span class="log-error">Error: no more</span>', status_code=286)
    assertNotContains(r, "hx-get", status_code=286)


def test_every_attempt_has_its_log(viewer, run):
    run.refresh_from_db()
    run.attempts.update(state=Attempt.State.LOST)
    second = make_attempt(run)
    LogChunk.objects.create(attempt=second, offset=0, text="started again\n")
    assertContains(viewer.get(url_of("run_log", run)), "started again")
    old = viewer.get(url_of("run_log", run), {"attempt": "1"})
    assertContains(old, "loading")
    assertNotContains(old, "started again")
    assert viewer.get(url_of("run_log", run), {"attempt": "9"}).status_code == 404
    assert viewer.get(url_of("log_more", run, 9)).status_code == 404


@pytest.mark.parametrize("bad", ["", "x", "-5", "9" * 30])
def test_a_broken_position_reads_from_the_start(viewer, run, bad):
    query = {"offset": bad, "skip": bad, "newest": bad}
    r = viewer.get(url_of("log_more", run, 1), query)
    assert shown(r) == ["loading", "step 30", ""]


# --- The other tabs -----------------------------------------------------------


def test_samples_stand_step_beside_step(viewer, run):
    for step, text in ((10, "early <b>words</b>"), (20, "late words")):
        Sample.objects.create(
            attempt=run.attempts.get(),
            step=step,
            index=0,
            messages=[{"role": "user", "content": "Say something."}],
            completion=text,
        )
    r = viewer.get(url_of("run_samples", run))
    assertContains(r, "Say something.", count=1)
    assertContains(r, "early &lt;b&gt;words&lt;/b&gt;")
    assertContains(r, "late words")


def test_the_configuration_can_be_copied(viewer, run):
    r = viewer.get(url_of("run_config", run))
    assert json.loads(r.context["as_json"]) == run.config
    assertContains(r, "manage.py train")


def test_the_data_tab_accounts_for_every_row(viewer, run):
    ledger = {"judged": 120, "exported": 100, "left_out": {"tie": 20}, "rows": 100}
    snapshot = make_snapshot(run.project, ledger=ledger)
    trained = {"train": {"rows": 90, "used": 88, "dropped": {"too_long": 2}}}
    Run.objects.filter(pk=run.pk).update(
        snapshot=snapshot, result={"ledger": {"source": "data", **trained}}
    )
    r = viewer.get(url_of("run_data", run))
    for words in ("120", "tie", "too long", "88"):
        assertContains(r, words)


def test_history_tells_who_did_what(viewer, run, mona):
    run.events.create(kind="launched", message="Launched as helpful-v1.", actor=mona)
    r = viewer.get(url_of("run_history", run))
    assertContains(r, "Launched as helpful-v1.")
    assertContains(r, "by mona")


def test_the_lineage_goes_down_to_the_judgments(viewer, run):
    r = viewer.get(url_of("run", run))
    assertContains(r, "120 judgments")
    assertContains(r, run.snapshot.sha256[:8])
    assertContains(r, "org/base@v1")


def test_the_lineage_names_the_runs_before_and_after(viewer, run):
    child = make_run(run.project, "aligned", base_run=run)
    assertContains(viewer.get(url_of("run", run)), child.get_absolute_url())
    assertContains(viewer.get(url_of("run", child)), run.get_absolute_url())


def test_names_are_text(viewer, project):
    run = make_run(project, "<script>alert(1)</script>")
    for name in ("run", "run_config"):
        assertNotContains(viewer.get(url_of(name, run)), "<script>alert(1)")


def test_a_run_of_somebody_without_a_project_is_not_told(run):
    stranger = client_of(make_user())
    missing = reverse("training:run", args=["no-such-project", run.pk])
    assert stranger.get(missing).status_code == 404


# --- Down to the judgments ----------------------------------------------------


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
    r = manager.get(url_of(name, traced))
    assert r.status_code == 200


def test_the_lineage_counts_judgments_by_source(viewer, traced):
    assertContains(viewer.get(url_of("run", traced)), "50 imported")


def test_a_real_snapshot_can_be_launched(manager, traced):
    snapshot = traced.snapshot.pk
    url = reverse("training:launch", args=[traced.project.slug])
    r = manager.get(url, {"snapshot": snapshot})
    assert r.context["summary"].n_train == 45


def rows_url(run, query=""):
    return url_of("run_rows", run) + query


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
    assertContains(viewer.get(url_of("run_data", make_run(project))), "not frozen here")
