from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from unittest.mock import patch

import pytest
from django.db.models.functions import Now
from django.urls import reverse
from pytest_django.asserts import assertContains, assertNotContains, assertRedirects

from labelhub import reports, tasks
from labelhub.models import QualityReport
from tests.builders import make_judgment, make_project, make_task
from tests.conftest import client_of

MODELS = ("alpha-1", "beta-2")


@pytest.fixture
def reviewer(rita):
    """A browser logged in as rita."""
    return client_of(rita)


@pytest.fixture
def judged(project):
    """Thirty pairs of two models, judged by ann and ben."""
    for n in range(30):
        task = make_task(project, f"What is {n}?")
        for response, model in zip(
            (task.response_a, task.response_b), MODELS, strict=True
        ):
            response.model_name = model
            response.save()
        for name in ("ann", "ben"):
            verdict = "a" if (n + len(name)) % 3 else "b"
            make_judgment(task, verdict, judge_name=name, shown_left="ab"[n % 2])
        make_judgment(task, "b" if n % 4 else "a", judge_name="cleo")
    return project


def page(project) -> str:
    return reverse("labelhub:quality", args=[project.slug])


def make_report(project) -> QualityReport:
    report = QualityReport.objects.create(project=project, state="measuring")
    reports.make(report)
    report.refresh_from_db()
    return report


@patch("labelhub.reports.async_task", autospec=True)
def test_reading_asks_for_the_first_report(async_task, judged, reviewer, request):
    with request.getfixturevalue("django_capture_on_commit_callbacks")(execute=True):
        r = reviewer.get(page(judged))
    assertContains(r, "Measuring since")
    report = QualityReport.objects.get()
    async_task.assert_called_once_with("labelhub.tasks.measure_quality", report.pk)
    reviewer.get(page(judged))
    assert QualityReport.objects.count() == 1


def test_nothing_judged_asks_for_nothing(project, reviewer):
    assertContains(reviewer.get(page(project)), "Nothing measured yet")
    assert not QualityReport.objects.exists()


def test_it_shows_numbers_with_n_interval_and_baseline(judged, reviewer):
    make_report(judged)
    r = reviewer.get(page(judged))
    assertContains(r, "Always the commonest verdict")
    assertContains(r, "30 tasks judged by two or more; 100 give")
    assertContains(r, "cleo")
    assertContains(r, "alpha-1")
    assertContains(r, "Undefined: Nobody judged a task that repeats another.")
    assertContains(r, "<svg")


def test_annotators_see_no_model_and_no_person(judged, client):
    make_report(judged)
    assert client.get(page(judged)).status_code == 404
    overview = client.get(judged.get_absolute_url())
    assertNotContains(overview, page(judged))


def test_htmx_gets_the_part_that_changes_and_asks_for_nothing(judged, reviewer):
    r = reviewer.get(page(judged), headers={"HX-Request": "true"})
    assertNotContains(r, "<html")
    assert not QualityReport.objects.exists()


def test_a_report_is_asked_for_again_when_it_is_old_and_something_is_new(judged):
    report = make_report(judged)
    assert not reports.is_outdated(report, judged)
    QualityReport.objects.update(finished_at=Now() - timedelta(hours=2))
    assert not reports.is_outdated(report, judged)
    make_judgment(judged.tasks.first(), "a")
    assert reports.is_outdated(report, judged)


def test_measuring_again_keeps_the_numbers_until_there_are_new_ones(judged, reviewer):
    make_report(judged)
    with patch("labelhub.reports.async_task", autospec=True):
        url = reverse("labelhub:measure_quality", args=[judged.slug])
        assertRedirects(reviewer.post(url), page(judged))
        reviewer.post(url)
    assert QualityReport.objects.filter(state="waiting").count() == 1
    r = reviewer.get(page(judged))
    assertContains(r, "Measuring since")
    assertContains(r, "cleo")


def test_the_task_starts_one_process_however_often_it_comes(judged):
    report = reports.ask(judged)
    with patch.object(subprocess, "Popen", autospec=True) as popen:
        tasks.measure_quality(report.pk)
        tasks.measure_quality(report.pk)
    popen.assert_called_once()
    assert popen.call_args.args[0][2:] == [
        *("quality", judged.slug, "--report", str(report.pk))
    ]


def test_what_went_wrong_is_said(judged, reviewer):
    report = QualityReport.objects.create(project=judged, state="measuring")
    with (
        patch("labelhub.measuring.measure", side_effect=MemoryError("no room")),
        pytest.raises(MemoryError),
    ):
        reports.make(report)
    assertContains(
        reviewer.get(page(judged), headers={"HX-Request": "true"}), "no room"
    )


def test_a_process_that_died_does_not_block_the_next(judged):
    lost = reports.ask(judged)
    QualityReport.objects.update(created_at=Now() - timedelta(hours=1))
    assert reports.ask(judged).pk != lost.pk
    lost.refresh_from_db()
    assert (lost.state, lost.error) == ("failed", "Nothing was heard of it.")


def test_thumbs_have_a_page_too(rita, db):
    project = make_project("Thumbs", kind="binary")
    project.memberships.create(user=rita, role="reviewer")
    for n in range(4):
        task = make_task(project, f"What is {n}?")
        for name in ("ann", "ben"):
            make_judgment(task, "good", judge_name=name)
    make_report(project)
    assertContains(client_of(rita).get(page(project)), "Everybody gave the same")


def test_the_web_process_carries_no_statistics():
    """They cost 100 MB, and no request needs them."""
    code = (
        "import django; django.setup(); import sys, labelhub.urls, labelhub.wsgi;"
        "print([m for m in sys.modules if m.partition('.')[0] == 'scipy'"
        " or m == 'labelhub.measuring'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={
            "DJANGO_SETTINGS_MODULE": "labelhub.settings",
            "PATH": "/usr/bin:/bin",
            "DATA_DIR": ".cache/test",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
