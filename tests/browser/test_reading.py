"""Reading: each choice by key and by hand, kept, without loss of place or words."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.sync_api import expect

from labelhub.models import Judgment
from tests.browser.conftest import accessibility_problems
from tests.browser.test_judging import fill, press
from tests.builders import make_task

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

ARABIC = "الماء يتجمد عند درجة الصفر المئوية، `print(1)` ثم يذوب."
TURNS = [
    {"role": "system", "content": "You are a careful assistant.\nCite your sources."},
    {"role": "user", "content": "What is the weather in Oslo?"},
    {"role": "assistant", "content": '{"call": "weather", "city": "Oslo"}'},
    {"role": "tool", "content": '{"sky": "clear", "degrees": -3}'},
    {"role": "assistant", "content": "Clear, and three below zero."},
    {"role": "user", "content": "Should I take a coat? " * 4},
]


@pytest.fixture
def url(project) -> str:
    return f"/projects/{project.slug}/judge/"


def take_picture(page, name: str) -> None:
    """Where SCREENSHOTS says, for whoever wants to look."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png")


def choose(page, key: str) -> None:
    with page.expect_response("**/preferences/"):
        page.keyboard.press(key)


def test_layout_source_and_differences_by_key(open_page, project, alice, url):
    fill(project, 2)
    page = open_page(alice, url)
    responses = page.locator(".responses")
    choose(page, "v")
    expect(responses).to_have_attribute("data-layout", "stacked")
    press(page, "1")
    expect(responses).to_have_attribute("data-layout", "stacked")
    choose(page, "r")
    expect(page.locator(".response .raw-text").first).to_be_visible()
    expect(page.locator("#item")).to_contain_text("$$\\int_0^1")
    choose(page, "r")
    expect(page.locator(".response .katex").first).to_be_visible()
    choose(page, "d")
    expect(page.locator(".response mark", has_text="Second")).to_have_count(1)
    choose(page, "v")
    choose(page, "v")
    expect(responses).to_have_attribute("data-layout", "side")


def test_tabs_show_one_response_at_a_time(open_page, project, alice, url):
    alice.preferences = {"layout": "tabs"}
    alice.save()
    fill(project, 2)
    page = open_page(alice, url)
    left, right = page.locator(".response-left"), page.locator(".response-right")
    expect(left).to_be_visible()
    expect(right).to_be_hidden()
    page.keyboard.press("]")
    expect(right).to_be_visible()
    expect(left).to_be_hidden()
    page.get_by_role("radio", name="Response A").check()
    page.keyboard.press("ArrowRight")
    expect(right).to_be_visible()
    assert not Judgment.objects.exists()
    assert accessibility_problems(page) == []
    press(page, "1")
    expect(left).to_be_visible()


def test_a_choice_loses_neither_words_nor_place(open_page, project, alice, url):
    make_task(project, "Why?", "word " * 3000, "word " * 2999)
    page = open_page(alice, url)
    page.keyboard.press("n")
    page.locator("#note").fill("Half a thought")
    page.keyboard.press("Escape")
    page.evaluate("window.scrollTo(0, 600)")
    choose(page, "d")
    expect(page.locator(".response .raw-text").first).to_be_visible()
    expect(page.locator("#note")).to_have_value("Half a thought")
    assert abs(page.evaluate("window.scrollY") - 600) < 20


def test_reading_is_chosen_without_script(open_page, project, alice, url):
    fill(project, 2)
    page = open_page(alice, url, java_script_enabled=False)
    page.get_by_role("button", name="Reading", exact=True).click()
    page.get_by_role("button", name="Tabs").click()
    expect(page.locator(".response-right")).to_be_hidden()
    page.get_by_text("Response B", exact=True).click()
    expect(page.locator(".response-right")).to_be_visible()


def test_a_conversation_is_walked_by_j_and_k(open_page, project, alice, url):
    task = make_task(project, "", "First.", "Second.")
    task.prompt.messages = TURNS
    task.prompt.save()
    page = open_page(alice, url)
    take_picture(page, "conversation")
    focused = "document.activeElement.textContent"
    for words in [
        "Oslo",
        '"call"',
        '"sky"',
        "three below",
        "coat",
        "A, left",
        "B, right",
    ]:
        page.keyboard.press("j")
        assert words in page.evaluate(focused)
    page.keyboard.press("k")
    assert "A, left" in page.evaluate(focused)
    expect(page.get_by_text("Cite your sources.")).to_be_hidden()
    page.get_by_text("You are a careful assistant.").first.click()
    expect(page.get_by_text("Cite your sources.")).to_be_visible()
    assert accessibility_problems(page) == []


@pytest.mark.parametrize("width", [1280, 390])
def test_right_to_left_text_runs_right_to_left(open_page, project, alice, url, width):
    task = make_task(project, ARABIC, ARABIC * 8, "In English, in the middle.")
    task.prompt.metadata = {"language": "ar"}
    task.prompt.save()
    size = {"width": width, "height": 844}
    page = open_page(alice, url, viewport=size)
    take_picture(page, f"rtl-{width}")
    direction = "node => getComputedStyle(node).direction"
    # Whichever side it is on, by lot.
    arabic = page.locator(".response .prose", has_text="الماء")
    english = page.locator(".response .prose", has_text="English")
    assert arabic.evaluate(direction) == "rtl"
    assert english.evaluate(direction) == "ltr"
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 900), (390, 844), (640, 450)])
def test_every_choice_is_accessible_and_fits(
    open_page, project, alice, url, scheme, size
):
    alice.preferences = {"differences": "on", "size": "larger", "layout": "stacked"}
    alice.save()
    task = make_task(
        project,
        "",
        "Ice is frozen water, and it floats on the sea. " * 6,
        "Ice is frozen water, and it swims on the lake. " * 6,
    )
    task.prompt.messages = TURNS
    task.prompt.save()
    width, height = size
    viewport = {"width": width, "height": height}
    page = open_page(alice, url, viewport=viewport, color_scheme=scheme)
    assert accessibility_problems(page) == []
    take_picture(page, f"marked-{scheme}-{width}")
    page.get_by_role("button", name="Reading", exact=True).click()
    page.wait_for_timeout(300)
    assert accessibility_problems(page) == []
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    take_picture(page, f"choices-{scheme}-{width}")


def test_keys_of_languages_and_input_methods_do_not_vote(
    open_page, project, alice, url
):
    fill(project, 2)
    page = open_page(alice, url)
    send = """init => {
        const event = new KeyboardEvent('keydown', {bubbles: true, ...init});
        if (init.altGraph) event.getModifierState = (name) => name === 'AltGraph';
        if (init.keyCode) Object.defineProperty(event, 'keyCode', {value: 229});
        document.getElementById('item-title').dispatchEvent(event);
    }"""
    page.evaluate(send, {"key": "1", "code": "Digit1", "isComposing": True})
    page.evaluate(send, {"key": "1", "code": "Digit1", "keyCode": 229})
    page.evaluate(send, {"key": "1", "code": "Digit1", "altGraph": True})
    page.evaluate(send, {"key": "1", "code": "Digit1", "repeat": True})
    page.wait_for_timeout(300)
    assert not Judgment.objects.exists()
    # Where the keyboard has no A, its place is meant; where a digit needs Shift, too.
    page.evaluate(send, {"key": "ф", "code": "KeyA"})
    expect(page.locator("#saved")).to_have_text("Saved")
    before = page.locator("#item").get_attribute("data-item")
    page.evaluate(send, {"key": "&", "code": "Digit1"})
    expect(page.locator("#item, .queue-end")).not_to_have_attribute("data-item", before)
    assert Judgment.objects.count() == 2
