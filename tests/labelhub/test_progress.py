from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from unittest.mock import patch

import pytest
from django.core.management import call_command

from labelhub import progress, queue
from labelhub.models import Assignment, Judgment, ProgressReport
from labelhub.progress import Pace, eta_of, pace_of
from tests.builders import make_project, make_task
from tests.conftest import client_of

NOW = datetime(2026, 11, 23, 12, 30, tzinfo=UTC)


def judge(project, user, verdict="left"):
    item = queue.claim(project, user)
    assert isinstance(item, Assignment)
    return queue.submit(item.pk, user, verdict)


def skip(project, user):
    item = queue.claim(project, user)
    queue.skip(item.pk, user)
    return item.task_id


@pytest.fixture
def url(project):
    return f"/projects/{project.slug}/"


def test_it_counts_what_is_wanted_done_and_held(project, alice, bob):
    for _ in range(3):
        make_task(project, n_required=2)
    make_task(project, status="retired")
    judge(project, alice)
    queue.claim(project, bob)
    counted = progress.count(project)
    assert counted["tasks"] == {
        "n_finished": 0,
        "n_leased": 1,
        "n_votes": 1,
        "n_wanted": 6,
    }
    assert progress.leases(project) == {"n": 1, "n_expired": 0}
    json.dumps(counted, allow_nan=False)


def test_an_answer_that_was_changed_is_counted_once(project, alice):
    make_task(project)
    first = judge(project, alice)
    queue.submit(first.assignment_id, alice, "tie", replaces=1)
    days = progress.count(project)["days"]
    assert [day["n"] for day in days] == [0] * 13 + [1]


def test_a_day_of_long_ago_is_not_in_the_chart(project, alice):
    make_task(project)
    judge(project, alice)
    old = datetime.now(UTC) - timedelta(days=20)
    Judgment.objects.update(created_at=old)
    assert sum(day["n"] for day in progress.count(project)["days"]) == 0


# --- When it will be done -----------------------------------------------------


def hours(*per_span):
    """So many judgments in the last 24 hours, in the 24 before, and so on."""
    return {NOW - timedelta(days=n, hours=2): k for n, k in enumerate(per_span) if k}


def test_a_steady_pace_has_no_margin():
    assert pace_of(hours(10, 10, 10), NOW) == Pace(10, 0)


def test_days_without_work_count():
    assert pace_of(hours(10, 0, 0, 10), NOW).mean == 5


def test_what_was_before_the_last_seven_days_does_not():
    assert pace_of(hours(7, 7, 7, 7, 7, 7, 7, 900), NOW) == Pace(7, 0)


@pytest.mark.parametrize("done", [(), (50,), (0, 0, 0, 0, 0, 0, 0, 0, 50)])
def test_one_day_or_none_tells_no_pace(done):
    assert pace_of(hours(*done), NOW) is None


def test_nobody_is_told_an_end_that_the_pace_does_not_hold():
    eta = eta_of(100, pace_of(hours(1, 19), NOW))
    assert eta["days"] == 10
    assert eta["latest"] is None
    assert eta["soonest"] < 10


def test_nothing_left_needs_no_time():
    assert eta_of(0, Pace(10, 1)) is None


# --- Stuck --------------------------------------------------------------------


def test_a_task_that_every_judge_skipped_is_stuck(project, alice, bob):
    task = make_task(project)
    assert skip(project, alice) == task.pk
    assert progress.count(project)["stuck"] == {"n": 0, "first": []}
    assert skip(project, bob) == task.pk
    assert progress.count(project)["stuck"] == {"n": 1, "first": [task.pk]}


def test_also_if_some_have_judged_it_and_the_rest_skipped(project, alice, bob, vera):
    task = make_task(project, n_required=2)
    judge(project, alice)
    skip(project, bob)
    assert progress.count(project)["stuck"]["first"] == [task.pk]


def test_not_if_somebody_new_may_still_judge_it(project, alice, rita):
    make_task(project)
    skip(project, alice)
    assert progress.count(project)["stuck"]["n"] == 0


# --- The page -----------------------------------------------------------------


def test_a_manager_sees_all_of_it(manager, project, alice, bob, mona, url):
    task = make_task(project, n_required=3)
    judge(project, alice)
    skip(project, bob)
    skip(project, mona)
    page = manager.get(url).content.decode()
    assert "1 of 3 judgments" in page
    assert "2 active now" in page or "3 active now" in page
    assert f"/data/{task.pk}/" in page
    assert 'class="day-bars"' in page


def test_an_annotator_sees_none_of_it(client, project, alice, url):
    make_task(project)
    judge(project, alice)
    page = client.get(url).content.decode()
    assert "Stuck" not in page
    assert "day-bars" not in page


def test_a_viewer_is_sent_to_no_page_that_is_not_theirs(project, vera, alice, url):
    task = make_task(project)
    skip(project, alice)
    page = client_of(vera).get(url).content.decode()
    assert f"/data/{task.pk}/" not in page


def test_a_large_project_shows_what_was_counted_last(
    manager, project, alice, url, monkeypatch, django_capture_on_commit_callbacks
):
    monkeypatch.setattr(progress, "SMALL", 0)
    make_task(project)
    with patch("labelhub.progress.async_task", autospec=True) as ask:
        with django_capture_on_commit_callbacks(execute=True):
            assert "are being counted" in manager.get(url).content.decode()
        ask.assert_called_once_with("labelhub.tasks.count_progress", project.pk)
        call_command("count_progress", str(project.pk))
        with django_capture_on_commit_callbacks(execute=True):
            page = manager.get(url).content.decode()
        ask.assert_called_once()  # not again for some minutes
    assert "0 of 1 judgments" in page


def test_old_numbers_are_shown_while_new_ones_are_counted(
    project, monkeypatch, django_capture_on_commit_callbacks
):
    monkeypatch.setattr(progress, "SMALL", 0)
    make_task(project)
    progress.store(project)
    ProgressReport.objects.update(asked_at=NOW - timedelta(days=365))
    with (
        patch("labelhub.progress.async_task", autospec=True) as ask,
        django_capture_on_commit_callbacks(execute=True),
    ):
        assert progress.of(project)["tasks"]["n_wanted"] == 1
    ask.assert_called_once()


def test_a_project_that_is_gone_is_not_counted(db):
    call_command("count_progress", "987654")
    assert not ProgressReport.objects.exists()


def test_other_projects_do_not_count(project, alice):
    make_task(make_project("Other"))
    assert progress.count(project)["tasks"]["n_wanted"] == 0
