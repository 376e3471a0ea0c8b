from __future__ import annotations

import pytest
from django.test import Client

from tests.builders import make_user


@pytest.fixture
def browser(db):
    make_user("dana", password="correct horse")
    return Client(REMOTE_ADDR="10.0.0.1")


def log_in(browser: Client, password: str, **extra: str):
    return browser.post("/login/", {"username": "dana", "password": password}, **extra)


def test_it_works(browser):
    assert log_in(browser, "correct horse")["Location"] == "/"


def test_a_wrong_password_says_so(browser):
    r = log_in(browser, "wrong")
    assert r.status_code == 200
    assert "correct username and password" in r.content.decode()


def test_ten_wrong_passwords_lock_that_name_from_that_address(browser):
    for _ in range(10):
        r = log_in(browser, "wrong")
    assert r.status_code == 429
    assert log_in(browser, "correct horse").status_code == 429
    assert (
        log_in(browser, "correct horse", REMOTE_ADDR="10.0.0.2").status_code == 302
    ), "a stranger must not lock her out from elsewhere"


def test_every_page_forbids_inline_code(browser):
    policy = browser.get("/login/")["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_logging_out_takes_a_post(browser):
    log_in(browser, "correct horse")
    assert browser.get("/logout/").status_code == 405
    browser.post("/logout/")
    assert browser.get("/")["Location"].startswith("/login/")


def test_health_needs_no_account(db):
    assert Client().get("/healthz").content == b"ok"
