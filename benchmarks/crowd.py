"""The people of bench_human_pace.py, in a process of their own: each is a thread.

`python crowd.py` takes from standard input who they are and until when they stay, and
writes what they saw.
"""

from __future__ import annotations

import http.client
import json
import math
import os
import random
import re
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from big_site import SLUG, Answer, Person

THINKING, SPREAD = 37.0, 0.8
"""Seconds an item on average, and the sigma of their logarithm."""
SKIPS, CORRECTIONS = 0.04, 0.03
HEARTBEAT = 60.0
RETRY = (1, 2, 4, 8)
"""Seconds between two attempts to save an answer, as in static/js/judge_sending.js."""
POLL, POLL_MAX = 2.0, 30.0


class NoAnswer(Exception):
    """The server did not answer, or said that it cannot."""


class Over(Exception):
    """The time was over before there was an answer."""


@dataclass
class Crowd:
    """What all of them share: until when, and what they saw."""

    url: str
    until: float
    requests: list[tuple[str, float, float, str]] = field(default_factory=list)
    """Kind, when, seconds, and what was wrong."""
    acknowledged: list[tuple[str, str]] = field(default_factory=list)
    """Item and verdict as shown, in the order of the answers to each item."""
    unanswered: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        return time.time() >= self.until

    def rest(self, seconds: float) -> None:
        time.sleep(max(0.0, min(seconds, self.until - time.time())))


class Browser(Person):
    """Times every request. A connection that was closed idle is opened again at once,
    as browsers do."""

    def __init__(self, crowd: Crowd, session: str) -> None:
        super().__init__(crowd.url, session)
        self.crowd = crowd

    def ask(self, kind: str, path: str, fields: Any = None, **options: Any) -> Answer:
        started, begun = time.time(), time.perf_counter()
        was_open = self.connection.sock is not None
        wrong = ""
        try:
            try:
                answer = self._send(path, fields, **options)
            except (http.client.RemoteDisconnected, ConnectionError):
                self.connection.close()
                if not was_open:
                    raise
                answer = self._send(path, fields, **options)
            if answer.status >= 500 or answer.status in (400, 403, 404, 422, 429):
                wrong = str(answer.status)
        except (OSError, http.client.HTTPException) as error:
            self.connection.close()
            wrong = type(error).__name__
        seconds = time.perf_counter() - begun
        self.crowd.requests.append((kind, started, seconds, wrong))
        if wrong:
            raise NoAnswer(wrong)
        return answer

    def _send(self, path: str, fields: Any, *, htmx: bool = True) -> Answer:
        if fields is None:
            return self.get(path, htmx=htmx)
        return self.post(path, fields, htmx=htmx)


_ITEM = re.compile(r'data-item="([0-9a-f-]+)"')
_REPLACES = re.compile(r'name="replaces" value="(\d+)"')
_PREVIOUS = re.compile(r'href="([^"]+)"[^>]*data-key="u ')
_SAVED = re.compile(r'<span id="saved">([^<]*)')


class Annotator:
    def __init__(self, crowd: Crowd, session: str, seed: int) -> None:
        self.crowd = crowd
        self.browser = Browser(crowd, session)
        self.dice = random.Random(seed)
        self.item = self.replaces = self.previous = ""

    def live(self) -> None:
        self.crowd.rest(self.dice.uniform(0, THINKING))
        self._open()
        while not self.crowd.is_over:
            self._think()
            if self.crowd.is_over:
                return
            lot = self.dice.random()
            if lot < SKIPS:
                self._submit("skip", {"action": "skip", "note": ""})
            elif lot < SKIPS + CORRECTIONS and self.previous:
                self._show(self._insist("undo", self.previous))
                self.crowd.rest(5)
                self._answer("correct")
            else:
                self._answer("answer")

    def _open(self) -> None:
        answer = self._insist("open", f"/projects/{SLUG}/judge/", htmx=False)
        if answer.status == 302:
            answer = self._insist("open", answer.headers["Location"], htmx=False)
        self._show(answer)

    def _think(self) -> None:
        """Read, and extend the lease once a minute; 409 says that it was lost."""
        mean = math.log(THINKING) - SPREAD**2 / 2
        left = self.dice.lognormvariate(mean, SPREAD)
        while left > HEARTBEAT:
            self.crowd.rest(HEARTBEAT)
            left -= HEARTBEAT
            if self.crowd.is_over:
                return
            try:
                self.browser.ask("extend", f"{self._address}extend/", {})
            except NoAnswer:
                continue
        self.crowd.rest(left)

    def _answer(self, kind: str) -> None:
        verdict = self.dice.choice(("left", "right", "tie"))
        fields = {"verdict": verdict, "note": "", "replaces": self.replaces}
        self._submit(kind, fields)

    def _submit(self, kind: str, fields: dict[str, str]) -> None:
        """Until it is saved, the same address and revision each time."""
        item = self.item
        for wait in (*RETRY, *[RETRY[-1]] * 1000):
            try:
                answer = self.browser.ask(kind, self._address, fields)
                break
            except NoAnswer:
                if self.crowd.is_over:
                    self.crowd.unanswered.append(item)
                    return
                time.sleep(wait)
        self._show(answer)
        if verdict := fields.get("verdict"):
            self.crowd.acknowledged.append((item, verdict))
            said = _SAVED.search(answer.text)
            if said is None or not said[1].startswith("Saved"):
                self.crowd.odd.append(said[1] if said else "nothing")

    def _insist(self, kind: str, path: str, *, htmx: bool = True) -> Answer:
        while not self.crowd.is_over:
            try:
                return self.browser.ask(kind, path, htmx=htmx)
            except NoAnswer:
                self.crowd.rest(2)
        raise Over

    def _show(self, answer: Answer) -> None:
        found = _ITEM.search(answer.text)
        if found is None:
            raise AssertionError(f"No item: {answer.status} {answer.text[:300]}")
        self.item = found[1]
        self.replaces = _REPLACES.findall(answer.text)[0]
        previous = _PREVIOUS.search(answer.text)
        self.previous = previous[1] if previous else ""

    @property
    def _address(self) -> str:
        return f"/projects/{SLUG}/judge/{self.item}/"


class Viewer:
    """The page of a run: its head by htmx, its curves by static/js/chart.js."""

    def __init__(self, crowd: Crowd, session: str, seed: int, run: str) -> None:
        self.crowd = crowd
        self.run = run
        self.browser = Browser(crowd, session)
        self.dice = random.Random(seed)

    def live(self) -> None:
        self.crowd.rest(self.dice.uniform(0, POLL))
        seen, cursor, wait, next_head = "", "", POLL, 0.0
        while not self.crowd.is_over:
            try:
                if not seen:
                    page = self.browser.ask("page", self.run, htmx=False)
                    seen = _seen(page) or seen
                if time.monotonic() >= next_head:
                    next_head = time.monotonic() + POLL
                    head = self.browser.ask("head", f"{self.run}head/?seen={seen}")
                    seen = _seen(head) or seen
                after = f"?after={cursor}" if cursor else ""
                found = self.browser.ask(
                    "metrics", f"{self.run}metrics.json{after}", htmx=False
                )
                if found.status == 200:
                    cursor = json.loads(found.text)["cursor"]
                wait = POLL
            except NoAnswer:
                wait = min(POLL_MAX, wait * 2)
            self.crowd.rest(wait)


def _seen(answer: Answer) -> str:
    found = re.search(r"head/\?seen=(\w+)", answer.text)
    return found[1] if found else ""


def health(crowd: Crowd) -> None:
    browser = Browser(crowd, "")
    while not crowd.is_over:
        with suppress(NoAnswer):
            browser.ask("health check", "/healthz", htmx=False)
        crowd.rest(0.5)


def send_crowd(spec: dict[str, Any]) -> None:
    """Everybody at once, each in a thread, until the time is over."""
    threading.stack_size(512 * 1024)
    crowd = Crowd(spec["url"], spec["until"])
    failed: list[str] = []

    def live(target: Any, *arguments: Any) -> None:
        try:
            with suppress(Over):
                target(*arguments)
        except Exception as error:  # noqa: BLE001 (it is told, and fails the run)
            failed.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=live, args=(health, crowd), daemon=True)]
    for seed, session in enumerate(spec["annotators"]):
        person = Annotator(crowd, session, seed)
        threads.append(threading.Thread(target=live, args=(person.live,), daemon=True))
    for seed, session in enumerate(spec["viewers"]):
        viewer = Viewer(crowd, session, seed, spec["run"])
        threads.append(threading.Thread(target=live, args=(viewer.live,), daemon=True))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=max(1.0, spec["until"] + 60 - time.time()))
    alive = sum(thread.is_alive() for thread in threads)
    seen = {
        "requests": crowd.requests,
        "acknowledged": crowd.acknowledged,
        "unanswered": crowd.unanswered,
        "odd": crowd.odd,
        "failed": failed + [f"{alive} never came home"] * bool(alive),
        "cpu_seconds": sum(os.times()[:2]),
    }
    Path(spec["out"]).write_text(json.dumps(seen))


if __name__ == "__main__":
    send_crowd(json.load(sys.stdin))
