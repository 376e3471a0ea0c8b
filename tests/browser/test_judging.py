from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from labelhub import queue
from labelhub.models import Assignment, Judgment, Membership, Task
from tests.browser.conftest import accessibility_problems
from tests.builders import add_member, make_project, make_task

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

RICH = """Here is the sum: $\\sum_{i=1}^n i = \\frac{n(n+1)}{2}$.

```python
def total(n: int) -> int:
    return n * (n + 1) // 2  # no loop
```

| n | total |
|--:|------:|
| 3 | 6 |

$$\\int_0^1 x\\,dx = \\tfrac12$$
"""


@pytest.fixture
def url(project) -> str:
    return f"/projects/{project.slug}/judge/"


def fill(project, n: int) -> None:
    for number in range(n):
        make_task(project, f"Question {number}?", f"{RICH}\nFirst.", "Second.")


def said(page) -> str:
    return page.locator("#saved").inner_text().strip()


def press(page, key: str) -> None:
    """One key, and the next item is there."""
    before = page.locator("#item").get_attribute("data-item")
    page.keyboard.press(key)
    page.wait_for_function(
        "before => document.getElementById('item').dataset.item !== before"
        " && !document.querySelector('.htmx-request')",
        arg=before,
    )


def test_a_batch_of_twelve_is_judged_by_keys_alone(open_page, project, alice, url):
    fill(project, 12)
    page = open_page(alice, url)
    for key in ["1", "2", "3", "x", "a", "b", "t", "0", "4", "1", "2", "s"]:
        press(page, key)
    expect(page.locator("h1")).to_have_text("You skipped the rest")
    shown = []
    for judgment in Judgment.objects.order_by("pk"):
        sides = {judgment.shown_left: "left"}
        shown.append(
            sides.get(judgment.verdict, "right")
            if judgment.verdict in "ab"
            else judgment.verdict
        )
    assert shown == [
        *("left", "right", "tie", "both_bad", "left", "right"),
        *("tie", "tie", "both_bad", "left", "right"),
    ]
    assert Membership.objects.get(user=alice).n_judged == 11
    assert page.evaluate("document.activeElement.id") == "item-title"


def test_a_scale_is_judged_by_its_places(open_page, project, alice, url):
    project.strength_points = 7
    project.save()
    fill(project, 7)
    page = open_page(alice, url)
    assert accessibility_problems(page) == []
    for key in "1237654"[:6]:
        press(page, key)
    page.keyboard.press("4")
    expect(page.locator("h1")).to_have_text("Everything is judged")
    stored = Judgment.objects.order_by("pk")
    assert [judgment.strength for judgment in stored] == [3, 2, 1, 3, 2, 1, 0]
    for judgment in stored[:6]:
        is_left = judgment.verdict == judgment.shown_left
        assert is_left == (judgment.pk < stored[3].pk)
    assert stored[6].verdict == "tie"


def test_a_binary_batch_is_judged_by_keys_alone(open_page, alice):
    project = make_project(kind="binary")
    add_member(project, alice)
    fill(project, 12)
    page = open_page(alice, f"/projects/{project.slug}/judge/")
    for number in range(12):
        press(page, "1" if number % 3 else "0")
    verdicts = list(Judgment.objects.order_by("pk").values_list("verdict", flat=True))
    assert verdicts == ["bad", "good", "good"] * 4


def test_undo_ten_times_and_answer_again(open_page, project, alice, url):
    fill(project, 12)
    page = open_page(alice, url)
    for _ in range(11):
        press(page, "1")
    held = page.locator("#item").get_attribute("data-item")
    for key in ["u", "Backspace", "Control+z", "ArrowLeft", *"uuuuuu"]:
        press(page, key)
    second = Assignment.objects.filter(state="submitted").order_by("ended_at")[1]
    assert page.locator("#item").get_attribute("data-item") == str(second.pk)
    expect(page.locator("h1")).to_contain_text("You answered this")
    expect(page.locator("#item [aria-pressed=true]")).to_have_attribute("value", "left")
    press(page, "2")
    assert second.judgments.standing().get().revision == 2
    assert page.locator("#item").get_attribute("data-item") == held
    assert Judgment.objects.count() == 12


def test_reload_and_back_show_the_right_items(open_page, project, alice, url):
    fill(project, 3)
    page = open_page(alice, url)
    first = page.url
    press(page, "1")
    second = page.url
    assert second != first
    page.reload()
    assert page.url == second
    page.go_back()
    expect(page.locator("h1")).to_contain_text("You answered this")
    assert page.url == first
    page.go_forward()
    expect(page.locator("h1")).to_have_text("Which response is better?")


def test_typing_a_note_does_not_vote(open_page, project, alice, url):
    fill(project, 2)
    page = open_page(alice, url)
    page.keyboard.press("n")
    expect(page.locator("#note")).to_be_focused()
    page.keyboard.type("12 axtusbng? 0")
    page.keyboard.press("Enter")
    assert not Judgment.objects.exists()
    page.reload()
    expect(page.locator("#note")).to_have_value("12 axtusbng? 0\n")
    page.locator("#note").focus()
    page.keyboard.press("Escape")
    press(page, "1")
    assert Judgment.objects.get().note == "12 axtusbng? 0"
    expect(page.locator("#note")).to_have_value("")


def test_one_long_press_and_a_double_click_are_one_judgment(
    open_page, project, alice, url
):
    fill(project, 4)
    page = open_page(alice, url)
    page.keyboard.down("1")
    page.keyboard.down("1")
    page.keyboard.down("1")
    page.keyboard.up("1")
    expect(page.locator("#saved")).to_have_text("Saved")
    assert Judgment.objects.count() == 1
    before = page.locator("#item").get_attribute("data-item")
    page.locator("[value=tie]").dblclick()
    expect(page.locator("#item")).not_to_have_attribute("data-item", before)
    page.wait_for_timeout(400)
    assert Judgment.objects.count() == 2


def turn_keys(page, choice: str) -> None:
    page.get_by_role("button", name="Reading", exact=True).click()
    with page.expect_response("**/preferences/"):
        page.get_by_role("button", name=choice, exact=True).last.click()
    page.keyboard.press("Escape")


def test_modifiers_dialogs_and_turned_off_keys_do_not_vote(
    open_page, project, alice, url
):
    fill(project, 2)
    page = open_page(alice, url)
    page.keyboard.press("Control+1")
    page.keyboard.press("Alt+1")
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()
    page.keyboard.press("1")
    page.keyboard.press("Escape")
    turn_keys(page, "Off")
    page.keyboard.press("1")
    page.wait_for_timeout(300)
    assert not Judgment.objects.exists()
    page.reload()
    page.keyboard.press("1")
    page.keyboard.press("Backspace")
    assert not Judgment.objects.exists()
    turn_keys(page, "On")
    press(page, "1")
    assert Judgment.objects.count() == 1


def test_guidelines_stay_open_while_judging(open_page, project, alice, url):
    project.write_guideline("Prefer what is **true**.", None)
    fill(project, 2)
    page = open_page(alice, url)
    page.keyboard.press("g")
    expect(page.locator("#guidelines")).to_contain_text("Prefer what is true.")
    press(page, "1")
    expect(page.locator("#guidelines")).to_be_visible()
    page.keyboard.press("g")
    expect(page.locator("#guidelines")).to_be_hidden()


def test_an_answer_that_does_not_arrive_is_sent_again(open_page, project, alice, url):
    fill(project, 2)
    page = open_page(alice, url)
    first = page.locator("#item").get_attribute("data-item")
    failures = []

    def fail_twice(route):
        if route.request.method == "POST" and len(failures) < 2:
            failures.append(route.request)
            # The first is lost on the way there, the second on the way back.
            if len(failures) == 2:
                route.fetch()
            route.abort()
        else:
            route.fallback()

    page.route("**/judge/**", fail_twice)
    page.keyboard.press("n")
    page.keyboard.type("Kept.")
    page.keyboard.press("Escape")
    page.keyboard.press("2")
    expect(page.locator("#saved")).to_have_text("Not saved — retrying")
    expect(page.locator("#note")).to_have_value("Kept.")
    expect(page.locator("#item")).not_to_have_attribute("data-item", first)
    assert len(failures) == 2
    assert Judgment.objects.get().note == "Kept."


def test_a_lost_login_says_so_and_keeps_the_note(open_page, project, alice, url):
    fill(project, 2)
    page = open_page(alice, url)
    page.keyboard.press("n")
    page.keyboard.type("Long thought.")
    page.keyboard.press("Escape")
    page.context.clear_cookies(name="sessionid")
    page.keyboard.press("1")
    expect(page.locator("#saved")).to_contain_text("Not saved")
    expect(page.locator("#note")).to_have_value("Long thought.")
    assert page.locator("#item input[name=password]").count() == 0
    assert not Judgment.objects.exists()


def test_what_was_saved_is_announced(open_page, project, alice, url):
    fill(project, 2)
    page = open_page(alice, url)
    press(page, "1")
    expect(page.locator("#announcer")).to_have_text("Saved")


def test_latex_is_drawn_and_code_coloured(open_page, project, alice, url):
    fill(project, 1)
    page = open_page(alice, url)
    assert page.locator(".katex").count() == 2
    assert page.locator(".math-error").count() == 0
    assert page.locator("pre .k").count() > 0


def test_it_works_without_script(open_page, project, alice, url):
    fill(project, 3)
    page = open_page(alice, url, java_script_enabled=False)
    page.get_by_role("button", name="A is better").click()
    expect(page.locator(".messages")).to_contain_text("Saved")
    page.get_by_role("link", name="Undo").click()
    page.get_by_role("button", name="B is better").click()
    assert Judgment.objects.standing().count() == 1
    page.locator(".note-box summary").click()
    page.get_by_label("Note").fill("By hand.")
    page.get_by_role("button", name="Skip").click()
    page.get_by_role("button", name="Tie").click()
    expect(page.locator("h1")).to_have_text("You skipped the rest")
    page.get_by_role("link", name="Your last items").click()
    expect(page.locator("tbody tr")).to_have_count(3)
    assert Assignment.objects.get(state="skipped").skip_reason == "By hand."


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["pairwise", "binary"])
def test_the_pages_are_accessible(open_page, alice, kind, scheme):
    project = make_project(kind=kind)
    add_member(project, alice)
    project.write_guideline("Prefer what is **true**.", None)
    make_task(project, "Why?\n\n" * 40, f"{RICH}\n[a link](https://e.org)", "Second.")
    page = open_page(alice, f"/projects/{project.slug}/judge/", color_scheme=scheme)
    assert accessibility_problems(page) == []
    page.keyboard.press("?")
    page.keyboard.press("g")
    page.wait_for_timeout(300)
    assert accessibility_problems(page) == []
    page.keyboard.press("Escape")
    press(page, "1")
    assert accessibility_problems(page) == []
    page.goto(f"/projects/{project.slug}/judge/history/")
    assert accessibility_problems(page) == []


@pytest.mark.parametrize(("width", "height"), [(390, 844), (720, 450), (320, 640)])
def test_it_fits_a_phone_and_a_page_at_200_percent(
    open_page, project, alice, url, width, height
):
    make_task(project, "Why? " * 30, f"{RICH}\n{'x' * 500}", "word " * 400)
    viewport = {"width": width, "height": height}
    page = open_page(alice, url, viewport=viewport)
    overflow = "document.documentElement.scrollWidth - innerWidth"
    assert page.evaluate(overflow) <= 0
    expect(page.get_by_role("button", name="A is better")).to_be_in_viewport()
    page.get_by_role("button", name="A is better").click()
    expect(page.locator("h1")).to_have_text("Everything is judged")


def test_a_long_reader_keeps_the_item(open_page, project, alice, url):
    fill(project, 1)
    context = {"viewport": {"width": 800, "height": 600}}
    page = open_page(alice, "/login/", **context)
    page.clock.install()
    page.goto(url)
    item = Assignment.objects.get()
    Assignment.objects.update(lease_expires_at="2020-01-01T00:00Z")
    with page.expect_response(re.compile("/extend/")) as answer:
        page.clock.run_for(61_000)
    assert answer.value.status == 204
    assert queue.reap() == 0
    Assignment.objects.update(state="expired")
    Task.objects.update(n_leased=0)
    page.clock.run_for(61_000)
    expect(page.locator("#saved")).to_contain_text("Your answer will still be kept")
    item.refresh_from_db()
