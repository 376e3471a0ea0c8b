"""The pages of runs live in a browser: they grow, they stop, they launch."""

from __future__ import annotations

import math
import re

import pytest
from django.db.models import F
from django.urls import reverse
from playwright.sync_api import expect

from tests.browser.conftest import accessibility_problems
from tests.builders import add_points, make_attempt, make_run, make_snapshot
from training.models import Attempt, LogChunk, Run

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def run(project):
    """A DPO run at step 200 of 1,000."""
    run = make_run(
        project,
        "helpful-v1",
        state=Run.State.RUNNING,
        phase="training",
        step=200,
        max_steps=1000,
        snapshot=make_snapshot(
            project,
            statistics={
                "agreement": {"value": 0.74, "low": 0.71, "high": 0.77, "n": 500}
            },
        ),
        config={"algorithm": "dpo", "base_model": "org/base@v1", "seed": 42},
    )
    train(make_attempt(run), 0, 200)
    return run


def train(attempt, start, end):
    """What a trainer reports between two steps."""
    steps = range(start + 10, end + 1, 10)
    shape = {
        "loss": lambda x: 0.69 - 0.3 * x,
        "grad_norm": lambda x: 1 + x,
        "learning_rate": lambda x: 1e-5 * (1 - x),
        "rewards/chosen": lambda x: x,
        "rewards/rejected": lambda x: -x,
        "rewards/margins": lambda x: 2 * x,
        "rewards/accuracies": lambda x: 0.5 + 0.3 * x,
        "<b>odd</b> name": lambda x: x,
    }
    for name, value in shape.items():
        add_points(attempt, name, {step: value(step / 1000) for step in steps})
    held_out = {end: 0.5 + 0.2 * end / 1000}
    add_points(attempt, "eval_rewards/accuracies", held_out)
    text = "".join(f"step {step}\n" for step in steps)
    LogChunk.objects.create(attempt=attempt, offset=start, text=text)
    Run.objects.filter(pk=attempt.run_id).update(step=end)


def curve(page, title):
    """The words of a chart, which are what its picture shows."""
    figure = page.locator("figure", has=page.get_by_role("heading", name=title))
    return figure.locator(".panel-plot")


def containing(text):
    return re.compile(re.escape(text))


def test_the_page_grows_while_the_run_does(page, sign_in, vera, run):
    sign_in(vera)
    page.goto(run.get_absolute_url())
    loss = curve(page, "Loss")
    expect(loss).to_have_attribute("aria-label", containing("at step 200"))
    expect(page.locator("#run-head")).to_contain_text("200 of 1000")

    train(run.attempts.get(), 200, 300)
    expect(loss).to_have_attribute("aria-label", containing("at step 300"))
    expect(page.locator("#run-head")).to_contain_text("300 of 1000")
    expect(page.locator("#run-head")).to_contain_text("56.0%")

    add_points(run.attempts.get(), "loss", {310: math.nan})
    expect(page.locator("#run-head")).to_contain_text("loss is NaN since step 310")
    assert page.locator("b").count() == 0


def test_a_long_run_is_drawn_and_shows_every_point_where_one_looks_closer(
    page, sign_in, vera, run
):
    values = dict.fromkeys(range(201, 20_001), 0.5) | {12_345: 80.0, 12_346: math.nan}
    add_points(run.attempts.get(), "loss", values | {20_000: 0.25})
    Run.objects.filter(pk=run.pk).update(step=20_000, max_steps=20_000)
    sign_in(vera)
    page.goto(run.get_absolute_url())
    loss = curve(page, "Loss")
    # The spike, the NaN and the last value are of single steps, and not averaged away.
    expect(loss).to_have_attribute("aria-label", containing("last 0.25 at step 20,000"))
    expect(loss).to_have_attribute("aria-label", containing("highest 80 at"))
    expect(loss).to_have_attribute("aria-label", containing("not a finite number 1"))
    expect(loss.locator("canvas")).to_be_visible()

    box = loss.locator(".u-over").bounding_box()
    with page.expect_response(containing("from=")) as answered:
        page.mouse.move(box["x"] + box["width"] * 0.60, box["y"] + 40)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.64, box["y"] + 40, steps=4)
        page.mouse.up()
    assert answered.value.json()["width"] == 1
    expect(loss).to_have_attribute("aria-label", containing("highest 80 at 12,345"))
    page.get_by_role("button", name="Show all steps").click()
    expect(loss).not_to_have_attribute("aria-label", containing("80 at 12,345"))


def test_polling_ends_with_the_run(page, sign_in, vera, run):
    sign_in(vera)
    page.goto(run.get_absolute_url())
    expect(page.locator("#run-head")).to_contain_text("Running")
    train(run.attempts.get(), 200, 250)
    run.attempts.update(state=Attempt.State.SUCCEEDED)
    Run.objects.filter(pk=run.pk).update(state=Run.State.SUCCEEDED, result={})
    expect(page.locator("#run-head")).to_contain_text("Succeeded")
    expect(curve(page, "Loss")).to_have_attribute(
        "aria-label", containing("at step 250")
    )

    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(5000)
    assert asked == []


def test_people_stand_beside_the_model(page, sign_in, vera, run):
    sign_in(vera)
    page.goto(run.get_absolute_url())
    expect(curve(page, "Accuracy")).to_have_attribute(
        "aria-label", containing("people agree: 74")
    )
    expect(page.locator("#run-head")).to_contain_text("People agree 74.0%")


def test_the_log_follows_its_end(page, sign_in, vera, run):
    attempt = run.attempts.get()
    lines = "".join(f"line {n}\n" for n in range(300))
    LogChunk.objects.create(attempt=attempt, offset=5000, text=lines)
    sign_in(vera)
    page.goto(reverse("training:run_log", args=[run.project.slug, run.pk]))
    log = page.locator(".log-tail")
    expect(log).to_contain_text("line 299")
    LogChunk.objects.create(attempt=attempt, offset=9000, text="WARNING: last\n")
    expect(log.locator(".log-warn")).to_be_in_viewport()


def test_a_run_is_launched_with_the_keyboard(page, sign_in, mona, project):
    snapshot = make_snapshot(project)
    sign_in(mona)
    page.goto(reverse("training:launch", args=[project.slug]))
    summary = page.locator(".launch-summary")
    expect(summary).to_contain_text("90 ÷ 8 × 1")
    page.get_by_label("Per device batch size").fill("30")
    expect(summary).to_contain_text("90 ÷ 30 × 1")
    page.get_by_label("Learning rate", exact=False).first.fill("-1")
    page.get_by_label("Base model").fill("org/base@v1")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("Nothing was launched.")
    rate = page.get_by_label("Learning rate", exact=False).first
    expect(rate).to_have_value("-1")
    rate.fill("1e-5")
    page.keyboard.press("Enter")
    expect(page.locator("#run-head")).to_contain_text("Queued")
    run = Run.objects.get()
    assert (run.snapshot, run.config["per_device_batch_size"]) == (snapshot, 30)


def test_the_buttons_do_what_they_say(page, sign_in, mona, run):
    sign_in(mona)
    page.goto(run.get_absolute_url())
    page.get_by_role("button", name="Stop and save").click()
    expect(page.locator("#run-head")).to_contain_text("Stopping")
    run.refresh_from_db()
    assert run.wish == Run.Wish.STOP


def test_focus_stays_on_a_button_while_the_page_polls(page, sign_in, mona, run):
    sign_in(mona)
    page.goto(run.get_absolute_url())
    page.get_by_role("button", name="Cancel").focus()
    Run.objects.filter(pk=run.pk).update(step=F("step") + 1)
    expect(page.locator("#run-head")).to_contain_text("201 of 1000")
    expect(page.get_by_role("button", name="Cancel")).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_them(page, sign_in, mona, run, scheme):
    page.emulate_media(color_scheme=scheme)
    Run.objects.create(
        project=run.project,
        name="broken",
        algorithm="sft",
        config={},
        state=Run.State.FAILED,
        error={"message": "No rows.", "code": "RLHF003", "lines": ["Traceback"]},
    )
    sign_in(mona)
    slug = run.project.slug
    pages = [
        reverse("training:runs", args=[slug]),
        reverse("training:launch", args=[slug]),
        Run.objects.get(name="broken").get_absolute_url(),
        run.get_absolute_url(),
    ]
    for name in ("log", "samples", "data", "config", "history"):
        pages.append(reverse(f"training:run_{name}", args=[slug, run.pk]))
    for url in pages:
        page.goto(url)
        page.wait_for_load_state("networkidle")
        assert accessibility_problems(page) == [], url


def test_nothing_is_wider_than_a_phone(page, sign_in, mona, run):
    page.set_viewport_size({"width": 390, "height": 844})
    sign_in(mona)
    slug = run.project.slug
    for url in (
        run.get_absolute_url(),
        reverse("training:runs", args=[slug]),
        reverse("training:launch", args=[slug]),
        reverse("training:run_config", args=[slug, run.pk]),
    ):
        page.goto(url)
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, url
