"""A real browser on a live server. What it complains about fails the test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    sync_playwright,
)

from labelhub.models import User

# Playwright's event loop makes Django think that it is called from async code.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"

AXE = Path(__file__).parent / "vendor" / "axe.min.js"
EXPECTED = (
    # A form that was refused, and an item that was lost, are answers like any other.
    "status of 422",
    "status of 409",
    # What a test itself cut off.
    "net::ERR_FAILED",
    "net::ERR_INTERNET_DISCONNECTED",
    "status of 503",
    "Response Status Error Code 503",
    "status of 403",
    "Response Status Error Code 403",
    "htmx:afterRequest",
    "htmx:sendError",
)


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
def new_page(browser: Browser, live_server) -> Iterator[Callable[..., Page]]:
    """new_page(**options of the context): what it complains about fails the test."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def new_page(**options: Any) -> Page:
        options.setdefault("viewport", {"width": 1280, "height": 900})
        context = browser.new_context(base_url=live_server.url, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.extend(_complaint(message)))
        return page

    yield new_page
    for context in contexts:
        context.close()
    assert complaints == []


def _complaint(message: ConsoleMessage) -> list[str]:
    is_expected = any(words in message.text for words in EXPECTED)
    return [message.text] if message.type == "error" and not is_expected else []


@pytest.fixture
def page(new_page) -> Page:
    return new_page()


@pytest.fixture
def sign_in(page: Page, live_server) -> Callable[[User], None]:
    """Give the browser somebody's session."""
    return lambda user: _sign_in(page, live_server.url, user)


@pytest.fixture
def open_page(new_page, live_server) -> Callable[..., Page]:
    """open_page(user, path, **options of the context): signed in, and there."""

    def open_page(user: User, path: str, **options: Any) -> Page:
        page = new_page(**options)
        _sign_in(page, live_server.url, user)
        page.goto(path)
        return page

    return open_page


def _sign_in(page: Page, url: str, user: User) -> None:
    client = Client()
    client.force_login(user)
    session = client.cookies["sessionid"].value
    page.context.add_cookies([{"name": "sessionid", "value": session, "url": url}])


def accessibility_problems(page: Page) -> list[str]:
    """What axe finds wrong with the page as it stands."""
    # Evaluated, not added as a script: the policy would block that.
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run()")
    return [
        f"{problem['id']}: {node['target']}"
        for problem in found["violations"]
        for node in problem["nodes"]
    ]
