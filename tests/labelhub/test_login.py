from __future__ import annotations

from urllib.parse import urlencode

import pytest
from django.test import Client

from tests.builders import make_user

FORM = "application/x-www-form-urlencoded"


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


def test_no_name_is_too_long_or_too_odd_to_be_refused(browser):
    browser.raise_request_exception = False
    for name in ("x" * 151, "x" * 300_000, "dana\0"):
        r = browser.post("/login/", {"username": name, "password": "wrong"})
        assert r.status_code == 200
        assert "field-error" in r.content.decode()


def test_a_page_that_is_out_of_date_says_so(browser):
    careful = Client(enforce_csrf_checks=True)
    r = careful.post("/login/", {"username": "dana", "password": "correct horse"})
    assert r.status_code == 403
    assert "This page is out of date" in r.content.decode()


@pytest.mark.parametrize("extra", [{"HTTP_HOST": "evil.example"}, {"typed": 11}])
def test_what_cannot_be_understood_is_told_in_words(browser, extra):
    data = {"next": "x" * (extra.pop("typed", 0) * 1024 * 1024)}
    r = browser.post("/login/", urlencode(data), FORM, **extra)
    assert r.status_code == 400
    assert "This could not be understood" in r.content.decode()


@pytest.mark.parametrize(
    "there",
    [
        "//evil.example",
        "https://evil.example/",
        "/\\evil.example",
        "javascript:alert(1)",
    ],
)
def test_logging_in_leads_nowhere_else(browser, there):
    data = {"username": "dana", "password": "correct horse", "next": there}
    assert browser.post("/login/", data)["Location"] == "/"


def test_a_session_somebody_else_chose_is_not_taken_up(browser):
    browser.cookies["sessionid"] = chosen = "chosenbysomebodyelse0123456789ab"
    log_in(browser, "correct horse")
    cookie = browser.cookies["sessionid"]
    assert cookie.value != chosen
    assert (cookie["httponly"], cookie["samesite"]) == (True, "Lax")


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
