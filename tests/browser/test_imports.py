"""Importing in a browser: refused, mended, watched until it is there."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import expect

from labelhub import importing
from labelhub.models import ImportBatch
from tests.browser.conftest import accessibility_problems

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

PAIR = {"prompt": "Why?", "chosen": "yes", "rejected": "no"}


def test_a_file_is_refused_mended_and_imported(project, mona, page, sign_in, tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(PAIR) + "\n" + json.dumps(PAIR | {"prompt": ""}))
    sign_in(mona)
    page.goto(f"/projects/{project.slug}/imports/")
    assert accessibility_problems(page) == []
    page.get_by_role("link", name="Import data").first.click()
    page.get_by_label("Files").set_input_files(path)
    page.get_by_role("button", name="Check and import").click()
    expect(page.get_by_role("alert")).to_contain_text("line 2: prompt is empty")
    assert accessibility_problems(page) == []

    path.write_text(json.dumps(PAIR))
    page.get_by_label("Files").set_input_files(path)
    page.keyboard.press("Tab")
    page.get_by_role("button", name="Check and import").press("Enter")
    expect(page.get_by_text("Waiting for the queue").first).to_be_visible()
    assert accessibility_problems(page) == []

    importing.run_batch(ImportBatch.objects.get())
    expect(page.get_by_text("New judgments")).to_be_visible()
    assert accessibility_problems(page) == []


def test_pages_fit_a_phone(project, mona, page, sign_in):
    sign_in(mona)
    page.set_viewport_size({"width": 360, "height": 740})
    for path in ("", "new/"):
        page.goto(f"/projects/{project.slug}/imports/{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
