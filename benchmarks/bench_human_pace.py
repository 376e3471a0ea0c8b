"""A working day in a quarter of an hour: people judge and watch while parts restart.

    python benchmarks/bench_human_pace.py [--minutes 15] [--annotators 200]
        [--viewers 50] [--tasks 100000] [--database postgres]

Starts the whole site (`manage.py start`) on a database of its own. Annotators think for
37 s an item on average, extend what they read for long, now and then skip an item or
correct an earlier answer; viewers have the page of a live run open, which polls every
two seconds. At half time web and queue get a SIGTERM each, as an operator would send
it, and the site starts them again. Who gets no answer tries again as the pages do.

Afterwards every answer that was acknowledged must be stored, once. The baseline is the
health check, asked twice a second by one client all the while.
"""

from __future__ import annotations

import argparse
import http.client
import json
import math
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from big_site import (
    ROOT,
    SLUG,
    Answer,
    Person,
    Site,
    conditions,
    database_cpu_seconds,
    fresh_site,
)

AIM_MS = 100
AIM_GROWTH_MB = 10
THINKING, SPREAD = 37.0, 0.8
"""Seconds an item on average, and the sigma of their logarithm."""
SKIPS, CORRECTIONS = 0.04, 0.03
HEARTBEAT = 60.0
RETRY = (1, 2, 4, 8)
"""Seconds between two attempts to save an answer, as in static/js/judge.js."""
POLL, POLL_MAX = 2.0, 30.0
SAMPLE = 10.0
SETTLED = 60.0
"""So long after a (re)start memory is not yet compared."""
AFTERMATH = 12.0
"""So long after a restart some still wait for their next attempt."""


# --- The people, in a process of their own --------------------------------------


class NoAnswer(Exception):
    """The server did not answer, or said that it cannot."""


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
        while True:
            try:
                return self.browser.ask(kind, path, htmx=htmx)
            except NoAnswer:
                time.sleep(2)

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


# --- In a process with Django ---------------------------------------------------


def prepare(viewers: int, seconds: float) -> dict[str, Any]:
    """Members who only look, and a run that reports all the while."""
    from labelhub.models import Judgment, Membership, Project, User
    from training import runs

    project = Project.objects.get(slug=SLUG)
    for number in range(viewers):
        user = User.objects.create(username=f"viewer{number + 1}", password="!")
        Membership.objects.create(project=project, user=user, role="viewer")
    config = {"algorithm": "dpo", "base_model": "org/tiny", "dataset_path": "org/pairs"}
    name = f"live seconds={seconds:.0f}"
    run = runs.launch(project, actor=None, name=name, config=config)
    newest = Judgment.objects.order_by("-pk").values_list("pk", flat=True).first()
    return {"run": run.get_absolute_url(), "newest": newest or 0}


def points_of_run() -> int:
    from training.models import MetricPoint

    return MetricPoint.objects.count()


def audit(
    newest: int, acknowledged: list[list[str]], unanswered: list[str]
) -> dict[str, int]:
    """Compare what was acknowledged with what is stored now."""
    from labelhub import verdicts
    from labelhub.models import Judgment

    said: dict[str, list[str]] = defaultdict(list)
    for item, verdict in acknowledged:
        said[item].append(verdict)
    stored: Counter[str] = Counter()
    standing: dict[str, str] = {}
    for judgment in Judgment.objects.filter(pk__gt=newest).select_related("assignment"):
        item = str(judgment.assignment_id)
        stored[item] += 1
        if judgment.superseded_by_id is None:
            swapped = judgment.assignment.swapped
            standing[item] = verdicts.as_shown(judgment.verdict, swapped=swapped)
    return {
        "stored": stored.total(),
        "lost": sum(max(0, len(v) - stored[item]) for item, v in said.items()),
        "doubled": sum(
            max(0, n - len(said[item]) - unanswered.count(item))
            for item, n in stored.items()
        ),
        "changed": sum(standing.get(item) != v[-1] for item, v in said.items()),
    }


# --- The whole site ---------------------------------------------------------------


class House:
    """`manage.py start`, its parts, and what they take."""

    def __init__(self, site: Site) -> None:
        self.site = site
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = site.folder / "house.log"
        self.samples: list[tuple[float, dict[str, float]]] = []
        self._cpu: dict[tuple[int, float], tuple[str, float]] = {}

    @contextmanager
    def lived_in(self) -> Iterator[None]:
        environment = {
            **self.site.environment,
            "DJANGO_SETTINGS_MODULE": "live_settings",
            "WORKER_NAME": "human-pace",
        }
        with self.log.open("wb") as output:
            self.main = subprocess.Popen(
                [sys.executable, "manage.py", "start", "--port", str(self.port)],
                cwd=ROOT,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self.wait_until_up()
            yield
        finally:
            self.main.send_signal(signal.SIGINT)
            try:
                self.main.wait(timeout=120)
            except subprocess.TimeoutExpired:
                os.killpg(self.main.pid, signal.SIGKILL)

    def wait_until_up(self) -> None:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{self.url}/healthz", timeout=5):
                    return
            except OSError:
                time.sleep(0.1)
        sys.exit(f"The site did not come up:\n{self.log.read_text()[-3000:]}")

    def restart(self, part: str) -> None:
        """Ask the part to end, as an operator would; the site starts it again."""
        old = next(p for p, label in self._parts() if label == part)
        old.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 60
        while old.is_running() and old.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                sys.exit(f"{part} does not end:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.05)
        while not any(p != old and label == part for p, label in self._parts()):
            time.sleep(0.05)

    def _parts(self) -> Iterator[tuple[psutil.Process, str]]:
        for process in psutil.Process(self.main.pid).children():
            if label := _label(process):
                yield process, label

    def sample(self) -> None:
        """Private memory of every part in MB, its children with it."""
        memory: dict[str, float] = defaultdict(float)
        for process, label in self._everybody():
            try:
                memory[label] += process.memory_full_info().uss / 2**20
                times = process.cpu_times()
            except psutil.Error:
                continue
            key = process.pid, process.create_time()
            self._cpu[key] = label, times.user + times.system
        self.samples.append((time.time(), dict(memory)))

    def cpu_seconds(self) -> dict[str, float]:
        total: dict[str, float] = defaultdict(float)
        for label, seconds in self._cpu.values():
            total[label] += seconds
        return dict(total)

    def _everybody(self) -> Iterator[tuple[psutil.Process, str]]:
        """A supervisor outlives who started it, so all are known by their folder."""
        folder = str(self.site.folder)
        for process in psutil.process_iter():
            try:
                environment = process.environ()
                attempt = environment.get("LABELHUB_ATTEMPT", "")
                if environment.get("DATA_DIR") != folder and not attempt.startswith(
                    folder
                ):
                    continue
                ancestors = [process, *process.parents()]
            except (psutil.Error, OSError):
                continue
            if label := next(filter(None, map(_label, ancestors)), ""):
                yield process, label


def _label(process: psutil.Process) -> str:
    try:
        words = process.cmdline()
    except psutil.Error:
        return ""
    if "granian" in words or words[-1:] == ["labelhub.wsgi:application"]:
        return "web"
    if "supervise" in words:
        return "supervisor"
    if any(word.endswith("live_trainer.py") for word in words):
        return "trainer"
    for part, label in (("queue", "queue"), ("gpu", "agent"), ("web", "web")):
        if words[-2:] == ["--only", part] or ("--only" in words and part in words):
            return label
    return "queue" if "qcluster" in words else "start" if "start" in words else ""


# --- The measurement ----------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--annotators", type=int, default=200)
    parser.add_argument("--viewers", type=int, default=50)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--database", default="postgres")
    options = parser.parse_args()
    print(conditions(options.database), flush=True)
    with fresh_site(options.database) as site:
        site.seed(tasks=options.tasks, annotators=options.annotators, judged=50)
        return measure(site, options)


def measure(site: Site, options: argparse.Namespace) -> int:
    seconds = options.minutes * 60
    house = House(site)
    with house.lived_in():
        facts = site.call(prepare, viewers=options.viewers, seconds=seconds + 60)
        crowd, until = start_crowd(site, house.url, facts["run"], options)
        begin = until - seconds
        watch(house, begin + seconds / 2)
        restarted = [("web", time.time())]
        house.restart("web")
        house.wait_until_up()
        print(f"web was away for {time.time() - restarted[0][1]:.1f} s", flush=True)
        restarted.append(("queue", time.time()))
        house.restart("queue")
        print(f"queue was away for {time.time() - restarted[1][1]:.1f} s", flush=True)
        window = restarted[0][1], time.time() + AFTERMATH
        watch(house, until)
        crowd.wait(timeout=180)
        database_cpu = database_cpu_seconds(site.database_name)
        seen = json.loads((site.folder / "crowd.json").read_text())
        points = site.call(points_of_run)
    told = site.call(
        audit,
        newest=facts["newest"],
        acknowledged=seen["acknowledged"],
        unanswered=seen["unanswered"],
    )
    integrity = site.manage("check_integrity").strip()
    is_fast = print_latencies(seen["requests"], begin, window)
    is_clean = print_errors(seen, window)
    is_flat = print_memory(house, begin, window, until)
    print_cpu(house, seen["cpu_seconds"], database_cpu, seconds)
    print(
        f"\nanswers acknowledged {len(seen['acknowledged'])}; {told}; points {points}"
    )
    print(f"check_integrity: {integrity.splitlines()[-1] if integrity else 'silent'}")
    is_kept = not (told["lost"] or told["doubled"] or told["changed"]) and points > 0
    print(conditions(options.database))
    for aim, is_met in (
        (f"p95 of every kind under {AIM_MS} ms outside the restart", is_fast),
        ("no error outside the restart", is_clean),
        ("nothing lost, nothing doubled", is_kept),
        (f"no part grows by more than {AIM_GROWTH_MB} MB in a half", is_flat),
    ):
        print(f"{'met' if is_met else 'NOT MET':8} {aim}")
    return not (is_fast and is_clean and is_flat and is_kept)


def start_crowd(
    site: Site, url: str, run: str, options: argparse.Namespace
) -> tuple[subprocess.Popen[str], float]:
    judges = [f"judge{n + 1}" for n in range(options.annotators)]
    viewers = [f"viewer{n + 1}" for n in range(options.viewers)]
    until = time.time() + 5 + options.minutes * 60
    spec = {
        "url": url,
        "run": run,
        "until": until,
        "annotators": site.log_in(*judges),
        "viewers": site.log_in(*viewers),
        "out": str(site.folder / "crowd.json"),
    }
    crowd = subprocess.Popen(
        [sys.executable, __file__, "crowd"], stdin=subprocess.PIPE, text=True
    )
    assert crowd.stdin is not None
    crowd.stdin.write(json.dumps(spec))
    crowd.stdin.close()
    return crowd, until


def watch(house: House, until: float) -> None:
    while (left := until - time.time()) > 0:
        house.sample()
        time.sleep(max(0.0, min(SAMPLE, left)))
    house.sample()


def print_latencies(
    requests: list[list[Any]], begin: float, window: tuple[float, float]
) -> bool:
    """Milliseconds by kind of request, before, during and after the restart."""
    by_kind: dict[tuple[str, str], list[float]] = defaultdict(list)
    for kind, at, seconds, wrong in requests:
        when = "before" if at < window[0] else "after" if at > window[1] else "restart"
        if not wrong:
            by_kind[kind, when].append(1000 * seconds)
    print(
        f"\n{'milliseconds':14}{'':9}{'n':>7}{'p50':>7}{'p95':>7}{'p99':>7}{'max':>7}"
    )
    is_fast = True
    for kind in dict.fromkeys(kind for kind, _ in sorted(by_kind)):
        for when in ("before", "restart", "after"):
            if times := sorted(by_kind[kind, when]):
                p50, p95, p99 = (quantile(times, q) for q in (0.5, 0.95, 0.99))
                numbers = "".join(f"{v:7.0f}" for v in (p50, p95, p99, times[-1]))
                print(f"{kind:14}{when:9}{len(times):7}{numbers}")
                is_fast &= when == "restart" or p95 < AIM_MS
    return is_fast


def quantile(times: list[float], share: float) -> float:
    return times[min(len(times) - 1, math.ceil(share * len(times)) - 1)]


def print_errors(seen: dict[str, Any], window: tuple[float, float]) -> bool:
    inside: Counter[str] = Counter()
    outside: Counter[str] = Counter()
    for kind, at, seconds, wrong in seen["requests"]:
        # What was under way when the part went away belongs to the restart.
        if wrong and at + seconds >= window[0] and at <= window[1]:
            inside[f"{kind}: {wrong}"] += 1
        elif wrong:
            outside[f"{kind}: {wrong}"] += 1
    print(f"\nerrors in the restart: {dict(inside)}; outside: {dict(outside)}")
    for name in ("failed", "odd", "unanswered"):
        if seen[name]:
            print(f"{name}: {seen[name][:5]} ({len(seen[name])})")
    return not (outside or seen["failed"] or seen["odd"])


def print_memory(
    house: House, begin: float, window: tuple[float, float], until: float
) -> bool:
    """Private memory at the start, a third, before and after the restart, the end."""
    moments = {
        "start": begin,
        "1/3": begin + (until - begin) / 3,
        "before": window[0],
        "settled": min(window[1] + SETTLED, until),
        "end": until,
    }
    near = {
        name: min(house.samples, key=lambda sample: abs(sample[0] - at))[1]
        for name, at in moments.items()
    }
    settled = min(begin + SETTLED, window[0])
    first = min(house.samples, key=lambda sample: abs(sample[0] - settled))[1]
    print(f"\n{'MB':12}" + "".join(f"{name:>9}" for name in near))
    is_flat = True
    for label in sorted({label for sample in near.values() for label in sample}):
        print(f"{label:12}" + "".join(f"{v.get(label, 0):9.1f}" for v in near.values()))
        for early, late in ((first, near["before"]), (near["settled"], near["end"])):
            if label in early and label in late:
                is_flat &= late[label] - early[label] < AIM_GROWTH_MB
    return is_flat


def print_cpu(house: House, crowd: float, database: float, seconds: float) -> None:
    shares = {**house.cpu_seconds(), "database": database, "the crowd itself": crowd}
    told = ", ".join(f"{name} {100 * s / seconds:.1f} %" for name, s in shares.items())
    print(f"\nCPU of one core: {told}")


if __name__ == "__main__":
    if sys.argv[1:] == ["crowd"]:
        send_crowd(json.load(sys.stdin))
    else:
        sys.exit(main())
