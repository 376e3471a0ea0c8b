"""A real browser on a live server. What it complains about fails the test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.test import Client
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from labelhub.models import User

# Playwright's event loop makes Django think that it is called from async code.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"

AXE = (Path(__file__).parent / "axe.min.js").read_text()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("There is no chromium: python tests/install_chromium.py")
    with sync_playwright() as playwright:
        # Chromium refuses its sandbox to root, which tests in a container are.
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox"]
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, live_server) -> Iterator[Page]:
    """A page that fails its test for an error in the console or a broken policy."""
    context = browser.new_context(
        base_url=live_server.url, viewport={"width": 1280, "height": 900}
    )
    page = context.new_page()
    page.set_default_timeout(15_000)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.extend(_complaint(message)))
    yield page
    context.close()
    assert complaints == []


def _complaint(message: ConsoleMessage) -> list[str]:
    # A form that was refused is an answer like any other.
    is_refusal = "status of 422" in message.text
    return [message.text] if message.type == "error" and not is_refusal else []


@pytest.fixture
def sign_in(page: Page, live_server) -> Callable[[User], None]:
    """Give the browser somebody's session."""

    def sign_in(user: User) -> None:
        client = Client()
        client.force_login(user)
        session = client.cookies["sessionid"].value
        page.context.add_cookies(
            [{"name": "sessionid", "value": session, "url": live_server.url}]
        )

    return sign_in


def accessibility_problems(page: Page) -> list[str]:
    """What axe finds wrong with the page as it stands."""
    # Evaluated, not added as a script: the policy would block that.
    page.evaluate(AXE)
    found = page.evaluate("axe.run()")
    return [
        f"{problem['id']}: {node['target']}"
        for problem in found["violations"]
        for node in problem["nodes"]
    ]
