"""A log is shown as a terminal would, and goes on where it was."""

from __future__ import annotations

import pytest
from pytest_django.asserts import assertContains, assertNotContains

from tests.builders import (
    make_attempt,
    run_url,
)
from training.models import Attempt, LogChunk


def test_the_log_ends_with_its_last_lines(viewer, run):
    text = "".join(f"line {n}\n" for n in range(1000))
    LogChunk.objects.create(attempt=run.attempts.get(), offset=16, text=text)
    r = viewer.get(run_url("run_log", run))
    assertContains(r, "line 999")
    assertContains(r, "line 800")
    assertNotContains(r, "line 799\n")


def follow(client, run, fence=1, seen=None):
    """Poll as the page does until nothing is new; the text that was shown."""
    part = seen.context["part"]
    return client.get(
        run_url("log_more", run, fence),
        {"offset": part.offset, "skip": part.skip, "newest": part.newest},
    )


def shown(*answers):
    lines = [line.text for r in answers for line in r.context["part"].lines]
    return [*lines, answers[-1].context["part"].open_line.text]


def test_the_log_goes_on_where_it_was(viewer, run):
    attempt = run.attempts.get()
    first = viewer.get(run_url("run_log", run))
    assert follow(viewer, run, seen=first).status_code == 204

    LogChunk.objects.create(attempt=attempt, offset=16, text="half a ")
    second = follow(viewer, run, seen=first)
    LogChunk.objects.create(attempt=attempt, offset=23, text="line\nand mor")
    third = follow(viewer, run, seen=second)
    assert shown(second) == ["half a "]
    assert shown(first, second, third) == [
        "loading",
        "step 30",
        "half a line",
        "and mor",
    ]


@pytest.mark.parametrize("size", [1, 3, 7, 50])
def test_a_log_read_in_pieces_is_the_log_read_at_once(viewer, run, size):
    text = "a\r\nb\n 1%\r 50%\r100%\n\n\x1b[31mred\x1b[0m\nBar: 1\rBar: 2\r\nend\n"
    attempt = run.attempts.get()
    answers = [viewer.get(run_url("run_log", run))]
    for start in range(0, len(text), size):
        LogChunk.objects.create(
            attempt=attempt, offset=16 + start, text=text[start : start + size]
        )
        answers.append(follow(viewer, run, seen=answers[-1]))
    expected = ["loading", "step 30", "a", "b", "100%", "", "red", "Bar: 2", "end", ""]
    assert shown(*answers) == expected
    assert shown(viewer.get(run_url("run_log", run))) == expected


def test_a_progress_bar_without_end_is_one_line(viewer, run):
    attempt = run.attempts.get()
    for n in range(1000):
        LogChunk.objects.create(attempt=attempt, offset=16 + n, text=f"\r{n} of 1000")
    r = viewer.get(run_url("run_log", run))
    while r.status_code == 200:
        last, r = r, follow(viewer, run, seen=r)
    assert last.context["part"].open_line.text == "999 of 1000"


def test_the_log_is_text_and_nothing_else(viewer, run):
    LogChunk.objects.create(
        attempt=run.attempts.get(), offset=16, text="<script>alert(1)</script>\n"
    )
    r = viewer.get(run_url("run_log", run))
    assertContains(r, "&lt;script&gt;alert(1)&lt;/script&gt;")


def test_following_the_log_ends_with_the_attempt(viewer, run):
    first = viewer.get(run_url("run_log", run))
    attempt = run.attempts.get()
    LogChunk.objects.create(attempt=attempt, offset=16, text="Error: no more\n")
    run.attempts.update(state=Attempt.State.FAILED)
    r = follow(viewer, run, seen=first)
    assert r.status_code == 286
    assertContains(r, '<span class="log-error">Error: no more</span>', status_code=286)
    assertNotContains(r, "hx-get", status_code=286)


def test_every_attempt_has_its_log(viewer, run):
    run.refresh_from_db()
    run.attempts.update(state=Attempt.State.LOST)
    second = make_attempt(run)
    LogChunk.objects.create(attempt=second, offset=0, text="started again\n")
    assertContains(viewer.get(run_url("run_log", run)), "started again")
    old = viewer.get(run_url("run_log", run), {"attempt": "1"})
    assertContains(old, "loading")
    assertNotContains(old, "started again")
    assert viewer.get(run_url("run_log", run), {"attempt": "9"}).status_code == 404
    assert viewer.get(run_url("log_more", run, 9)).status_code == 404


@pytest.mark.parametrize("bad", ["", "x", "-5", "9" * 30])
def test_a_broken_position_reads_from_the_start(viewer, run, bad):
    query = {"offset": bad, "skip": bad, "newest": bad}
    r = viewer.get(run_url("log_more", run, 1), query)
    assert shown(r) == ["loading", "step 30", ""]
