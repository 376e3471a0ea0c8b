"""Freezing in a browser: the ledger follows the form, the page follows the work."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from django.core.cache import cache
from django.core.management import call_command
from django.urls import reverse
from playwright.sync_api import expect

from tests.browser.conftest import accessibility_problems
from tests.builders import make_judgment, make_task
from tests.conftest import client_of
from training import exporting
from training.models import Snapshot
from training.recipes import Recipe

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SHOTS = os.environ.get("SHOTS")
"""A folder for pictures of the pages, for whoever wants to look at them."""


@pytest.fixture
def judged(project):
    """Six pairs, two of them a tie and one both bad."""
    cache.clear()
    for n, verdict in enumerate(["a", "b", "a", "tie", "tie", "both_bad"]):
        task = make_task(
            project, f"What is {n} plus one?", f"It is {n + 1}.", "Ask me."
        )
        make_judgment(task, verdict, shown_left="a")
        make_judgment(task, verdict if n else "b", shown_left="b", judge_name=f"j{n}")
        make_judgment(task, verdict, shown_left="b", judge_name=f"k{n}")
    return project


def shoot(page, name):
    if SHOTS:
        page.screenshot(path=Path(SHOTS, f"{name}.png"), full_page=True)


def test_the_ledger_follows_the_form(page, sign_in, judged, mona):
    sign_in(mona)
    page.goto(reverse("training:freeze", args=[judged.slug]))
    preview = page.locator("#preview")
    expect(preview).to_contain_text(re.compile(r"Exported\s+3"))
    shoot(page, "freeze")

    page.get_by_label("For", exact=True).select_option("kto")
    expect(preview).to_contain_text(re.compile(r"Exported\s+4"))
    page.get_by_label("Ties").select_option("both_good")
    expect(preview).to_contain_text(re.compile(r"Exported\s+6"))
    page.get_by_label("For", exact=True).select_option("sft")
    expect(preview).to_contain_text("use ties=drop")
    assert accessibility_problems(page) == []


def test_freezing_shows_how_far_it_is(page, sign_in, judged, mona, monkeypatch):
    monkeypatch.setattr(exporting, "async_task", lambda *args: None)
    sign_in(mona)
    page.goto(reverse("training:freeze", args=[judged.slug]))
    page.get_by_role("button", name="Freeze dataset").click()
    expect(page.get_by_text("Waiting for the queue").first).to_be_visible()
    assert accessibility_problems(page) == []
    shoot(page, "freezing")

    snapshot = Snapshot.objects.get()
    call_command("freeze_snapshot", str(snapshot.pk))
    expect(page.get_by_role("heading", name="Ledger")).to_be_visible()
    expect(page.get_by_role("link", name="Launch a run with this")).to_have_attribute(
        "href", re.compile(rf"\?snapshot={snapshot.pk}$")
    )
    assert accessibility_problems(page) == []
    shoot(page, "snapshot")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pages_hold_on_a_phone(page, sign_in, judged, vera, scheme):
    snapshot = exporting.freeze(judged, Recipe(algorithm="dpo"))
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 375, "height": 800})
    sign_in(vera)
    for name, url in (
        ("list", reverse("training:snapshots", args=[judged.slug])),
        ("page", snapshot.get_absolute_url()),
    ):
        page.goto(url)
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= 375, f"{name} is {width} wide"
        assert accessibility_problems(page) == []
        shoot(page, f"phone-{name}-{scheme}")


def test_the_form_works_without_script(browser, live_server, judged, mona, monkeypatch):
    monkeypatch.setattr(exporting, "async_task", lambda *args: None)
    context = browser.new_context(base_url=live_server.url, java_script_enabled=False)
    session = client_of(mona).cookies["sessionid"].value
    context.add_cookies(
        [{"name": "sessionid", "value": session, "url": live_server.url}]
    )
    page = context.new_page()
    page.goto(reverse("training:freeze", args=[judged.slug]))
    page.get_by_label("For", exact=True).select_option("kto")
    page.get_by_role("button", name="Preview").click()
    expect(page.locator("#preview")).to_contain_text(re.compile(r"Exported\s+4"))
    page.get_by_role("button", name="Freeze dataset").click()
    expect(page).to_have_url(re.compile(r"/snapshots/\d+/$"))
    context.close()
