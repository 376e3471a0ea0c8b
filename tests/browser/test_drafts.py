"""Nothing typed or pressed is lost: offline, signed out, reloaded, open twice."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from labelhub.models import Assignment, Judgment
from tests.browser.conftest import _sign_in
from tests.browser.test_judging import fill, press

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SAVED_LATE = "Saved: what had not been sent"


@pytest.fixture
def url(project) -> str:
    return f"/projects/{project.slug}/judge/"


def write_note(page: Page, words: str) -> None:
    page.keyboard.press("n")
    page.locator("#note").fill(words)
    page.keyboard.press("Escape")


def kept(page: Page, beginning: str) -> int:
    script = "b => Object.keys(localStorage).filter(n => n.startsWith(b)).length"
    return page.evaluate(script, beginning)


def answers() -> list[str]:
    rows = Judgment.objects.order_by("pk").values_list("assignment__swapped", "verdict")
    shown = {(False, "a"): "left", (True, "b"): "left", (False, "b"): "right"}
    return [shown.get(row, "right") for row in rows]


def test_a_reload_keeps_what_was_typed_and_an_answer_ends_it(
    open_page, project, alice, url
):
    fill(project, 2)
    page = open_page(alice, url)
    write_note(page, "Half a thought")
    page.reload()
    expect(page.locator("#note")).to_have_value("Half a thought")
    expect(page.locator("#note")).to_be_visible()
    expect(page.locator("#saved")).to_have_text("What you had typed is here again.")
    press(page, "1")
    assert kept(page, "draft:") == kept(page, "unsent:") == 0
    assert Judgment.objects.get().note == "Half a thought"


def test_an_answer_given_offline_waits_for_the_connection(
    open_page, project, alice, url
):
    fill(project, 3)
    page = open_page(alice, url)
    write_note(page, "In a tunnel.")
    page.context.set_offline(True)
    page.keyboard.press("1")
    expect(page.locator("#saved")).to_contain_text("no connection")
    page.keyboard.press("2")
    page.context.set_offline(False)
    expect(page.locator("#saved")).to_have_text("Saved")
    press(page, "2")
    assert answers() == ["left", "right"]
    assert Judgment.objects.first().note == "In a tunnel."


def test_an_answer_whose_page_was_closed_is_sent_by_the_next(
    open_page, project, alice, url
):
    fill(project, 3)
    page = open_page(alice, url)
    first = page.locator("#item").get_attribute("data-item")
    page.context.route("**/judge/**", refuse_answers)
    write_note(page, "Closed too early.")
    page.keyboard.press("1")
    expect(page.locator("#saved")).to_have_text("Not saved — retrying")
    page.once("dialog", lambda dialog: dialog.accept())
    page.close(run_before_unload=True)
    page.context.unroute("**/judge/**")
    again = page.context.new_page()
    again.goto(url)
    expect(again.locator("#saved")).to_have_text(SAVED_LATE)
    expect(again.locator("#item")).not_to_have_attribute("data-item", first)
    press(again, "2")
    assert answers() == ["left", "right"]
    assert Judgment.objects.first().note == "Closed too early."
    assert kept(again, "unsent:") == 0


def refuse_answers(route) -> None:
    if route.request.method == "POST":
        route.fulfill(status=503)
    else:
        route.fallback()


def test_leaving_with_an_unsent_answer_asks_first(open_page, project, alice, url):
    fill(project, 2)
    page = open_page(alice, url)
    asked = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    page.reload()
    assert asked == []
    page.route("**/judge/**", refuse_answers)
    page.keyboard.press("1")
    expect(page.locator("#saved")).to_have_text("Not saved — retrying")
    page.unroute("**/judge/**")
    page.reload()
    assert asked == ["beforeunload"]
    expect(page.locator("#saved")).to_have_text(SAVED_LATE)
    assert answers() == ["left"]


def test_after_signing_in_again_the_answer_is_saved(
    open_page, project, alice, url, live_server
):
    fill(project, 2)
    page = open_page(alice, url)
    write_note(page, "Long thought.")
    page.context.clear_cookies(name="sessionid")
    page.keyboard.press("1")
    link = page.locator("#saved").get_by_role("link", name="Sign in")
    address = page.url
    expect(link).to_be_visible()
    assert not Judgment.objects.exists()
    _sign_in(page, live_server.url, alice)
    link.click()
    expect(page.locator("#saved")).to_have_text(SAVED_LATE)
    assert page.url != address
    assert Judgment.objects.get().note == "Long thought."


def test_a_lost_token_keeps_the_answer_for_the_next_page(
    open_page, project, alice, url
):
    fill(project, 2)
    page = open_page(alice, url)
    page.context.clear_cookies(name="csrftoken")
    page.keyboard.press("1")
    expect(page.locator("#saved")).to_contain_text("Not saved (403). Reload the page")
    page.reload()
    expect(page.locator("#saved")).to_have_text(SAVED_LATE)
    assert answers() == ["left"]


def test_signed_in_again_in_another_tab_the_page_goes_on(
    open_page, project, alice, url, live_server
):
    fill(project, 2)
    page = open_page(alice, url)
    page.context.clear_cookies(name="sessionid")
    page.keyboard.press("1")
    expect(page.locator("#saved")).to_contain_text("you are signed out")
    _sign_in(page, live_server.url, alice)
    # The other tab's pages come with a token of their own.
    other = page.context.new_page()
    other.goto("/")
    press(page, "1")
    assert answers() == ["left"]


def test_two_tabs_keep_their_own_words(open_page, project, alice, url):
    fill(project, 2)
    page = open_page(alice, url)
    other = page.context.new_page()
    other.goto(page.url)
    write_note(page, "From the one.")
    write_note(other, "From the other.")
    page.reload()
    expect(page.locator("#note")).to_have_value("From the one.")
    other.reload()
    expect(other.locator("#note")).to_have_value("From the other.")


def test_every_field_of_the_form_is_kept(open_page, project, alice, url):
    """Whatever a project asks for, not only the note."""
    fill(project, 1)
    page = open_page(alice, url)
    more = """
        document.querySelector('.verdict-bar fieldset').insertAdjacentHTML('beforeend',
            `<input type=radio name=strength value=1><input type=radio name=strength
            value=2><input type=checkbox name=reasons value=style><input type=checkbox
            name=reasons value=facts checked><select name=aspect><option>x<option>y
            </select><input name=aspects><input name=aspects>`)
    """
    page.evaluate(more)
    page.locator("[name=strength][value='2']").check()
    page.locator("[value=style]").check()
    page.locator("[value=facts]").uncheck()
    page.locator("[name=aspect]").select_option("y")
    page.locator("[name=aspects]").nth(1).fill("second")
    page.evaluate(
        "document.querySelector('.verdict-bar').innerHTML +="
        "'<!-- as a swap would leave it -->'"
    )
    page.evaluate("import('/static/js/judge_drafts.js').then(d => d.restoreDraft())")
    expect(page.locator("[name=strength][value='2']")).to_be_checked()
    expect(page.locator("[value=style]")).to_be_checked()
    expect(page.locator("[value=facts]")).not_to_be_checked()
    expect(page.locator("[name=aspect]")).to_have_value("y")
    expect(page.locator("[name=aspects]").nth(0)).to_have_value("")
    expect(page.locator("[name=aspects]").nth(1)).to_have_value("second")


def test_a_draft_is_the_persons_own_and_goes_when_they_sign_out(
    open_page, project, alice, bob, url, live_server
):
    project.judgments_per_task = 2
    project.save()
    fill(project, 1)
    page = open_page(alice, url)
    write_note(page, "Mine alone.")
    _sign_in(page, live_server.url, bob)
    page.goto(url)
    expect(page.locator("#note")).to_have_value("")
    _sign_in(page, live_server.url, alice)
    page.goto(url)
    expect(page.locator("#note")).to_have_value("Mine alone.")
    page.get_by_text("Account of").locator("..").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert kept(page, "draft:") == 0
    assert Assignment.objects.filter(state="leased").count() == 2


def test_an_answer_that_is_refused_later_is_said_to_be(open_page, project, alice, url):
    fill(project, 2)
    page = open_page(alice, url)
    page.route("**/judge/**", refuse_answers)
    page.keyboard.press("1")
    expect(page.locator("#saved")).to_have_text("Not saved — retrying")
    page.unroute("**/judge/**")
    page.evaluate(
        """() => { for (const n of Object.keys(localStorage)) {
            const kept = JSON.parse(localStorage[n]);
            kept.body = kept.body.replace('left', 'nonsense');
            localStorage[n] = JSON.stringify(kept); } }"""
    )
    page.once("dialog", lambda dialog: dialog.accept())
    page.reload()
    expect(page.locator("#saved")).to_contain_text("could not be saved (422)")
    expect(page.get_by_role("link", name="Open its item")).to_be_visible()
    press(page, "2")
    assert answers() == ["right"]
