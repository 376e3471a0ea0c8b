"""The quality page in a browser: complete without colours, and wide tables scroll."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from django.urls import reverse

from labelhub import reports
from labelhub.models import QualityReport
from tests.browser.conftest import accessibility_problems
from tests.builders import make_judgment, make_task

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SHOTS = os.environ.get("SHOTS")
"""A folder for pictures of the page, for whoever wants to look at them."""


@pytest.fixture
def measured(project):
    """Pairs of three models, judged by three people, and one report."""
    models = ("alder", "birch", "cedar")
    for n in range(45):
        task = make_task(project, f"What is {n}?", "A longer answer than that.")
        for response, model in zip(
            (task.response_a, task.response_b),
            (models[n % 3], models[(n + 1) % 3]),
            strict=True,
        ):
            response.model_name = model
            response.save()
        for seed, name in enumerate(("ann", "ben", "cleo")):
            verdict = ("a", "b", "a", "tie", "a")[(n * (seed + 1)) % 5]
            make_judgment(task, verdict, judge_name=name, shown_left="ab"[n % 2])
    report = QualityReport.objects.create(project=project, state="measuring")
    reports.make(report)
    return project


@pytest.mark.parametrize(
    "options",
    [
        {"color_scheme": "light"},
        {"color_scheme": "dark"},
        {"viewport": {"width": 390, "height": 844}},
    ],
    ids=["light", "dark", "phone"],
)
def test_everybody_can_read_it(open_page, measured, rita, options, request):
    page = open_page(rita, reverse("labelhub:quality", args=[measured.slug]), **options)
    assert page.get_by_role("heading", name="Leaderboard").is_visible()
    if SHOTS:
        name = f"quality-{request.node.callspec.id}.png"
        page.screenshot(path=Path(SHOTS, name), full_page=True)
    assert accessibility_problems(page) == []
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= page.viewport_size["width"]
