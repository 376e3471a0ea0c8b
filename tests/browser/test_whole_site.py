"""The whole site as a person starts it: nothing is faked, and training is real."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.running_site import Site

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PASSWORD = "a long enough password"
MINUTES = 60_000


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path)
    site.env["DJANGO_SUPERUSER_PASSWORD"] = PASSWORD
    site.manage("createsuperuser", "--noinput", "--username", "dana")
    pairs = tmp_path / "pairs.jsonl"
    with pairs.open("w") as file:
        for number in range(40):
            row = {
                "prompt": f"What comes after {number}?",
                "chosen": f"After {number} comes {number + 1}, as everybody knows.",
                "rejected": f"After {number} comes nothing at all.",
            }
            file.write(json.dumps(row) + "\n")
    site.manage("create_project", "counting", "--kind", "pairwise")
    site.manage("import_data", "counting", pairs)
    return site


@pytest.fixture
def url(site: Site) -> Iterator[str]:
    with site.started() as url:
        yield url
    assert processes_of(site) == []


def processes_of(site: Site) -> list[str]:
    """What still runs with this site's environment."""
    left = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("DATA_DIR") == site.env["DATA_DIR"]:
                left.append(" ".join(process.cmdline()))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return left


def log_in(page: Page, url: str) -> None:
    page.goto(url)
    page.get_by_label("Username").fill("dana")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()


def test_a_run_is_frozen_launched_and_watched_to_its_end(
    browser: Browser, url: str
) -> None:
    page = browser.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    log_in(page, url)
    page.get_by_role("link", name="counting").click()

    page.get_by_role("link", name="Freeze dataset").first.click()
    page.get_by_label("Held out, in percent of prompts").fill("25")
    page.get_by_role("button", name="Freeze dataset").click()
    launch = page.get_by_role("link", name="Launch a run with this")
    expect(launch).to_be_visible(timeout=1 * MINUTES)
    expect(page.get_by_text("Exported")).to_be_visible()

    launch.click()
    page.get_by_label("Base model").fill("starter:tiny")
    page.get_by_label("Max steps").fill("6")
    page.get_by_role("button", name="Launch run").click()

    expect(page.locator(".chip.is-running")).to_be_visible(timeout=1 * MINUTES)
    expect(page.locator(".chip.is-succeeded")).to_be_visible(timeout=6 * MINUTES)
    expect(page.get_by_text("Accuracy").first).to_be_visible()
    expect(page.locator(".panels canvas").first).to_be_visible()

    page.get_by_role("link", name="History").click()
    expect(page.get_by_text("Launched as")).to_be_visible()
    assert complaints == []
    page.context.close()
