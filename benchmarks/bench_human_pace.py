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
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from big_site import (
    ROOT,
    SLUG,
    Site,
    conditions,
    database_cpu_seconds,
    fresh_site,
)

AIM_MS = 100
AIM_GROWTH_MB = 10
RENDERED_MB = 16
"""Rendered texts that a web process keeps by design (labelhub/rendering.py)."""
SAMPLE = 10.0
SETTLED = 60.0
"""So long after a (re)start memory is not yet compared."""
AFTERMATH = 12.0
"""So long after a restart some still wait for their next attempt."""


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
    # As Ctrl-C does: the site is stopped and its database dropped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
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
    is_kept = (
        bool(told["stored"])
        and not (told["lost"] or told["doubled"] or told["changed"])
        and points > 0
    )
    print(conditions(options.database))
    for aim, is_met in (
        (f"p95 of every kind under {AIM_MS} ms outside the restart", is_fast),
        ("no error outside the restart", is_clean),
        ("nothing lost, nothing doubled", is_kept),
        (
            f"no part grows by more than {AIM_GROWTH_MB} MB in a half, the web by "
            f"{RENDERED_MB} MB of cached texts more",
            is_flat,
        ),
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
        [sys.executable, Path(__file__).with_name("crowd.py")],
        stdin=subprocess.PIPE,
        text=True,
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
    aims = {"web": AIM_GROWTH_MB + RENDERED_MB}
    for label in sorted({label for sample in near.values() for label in sample}):
        print(f"{label:12}" + "".join(f"{v.get(label, 0):9.1f}" for v in near.values()))
        for early, late in ((first, near["before"]), (near["settled"], near["end"])):
            if label in early and label in late:
                growth = late[label] - early[label]
                is_flat &= growth < aims.get(label, AIM_GROWTH_MB)
    return is_flat


def print_cpu(house: House, crowd: float, database: float, seconds: float) -> None:
    shares = {**house.cpu_seconds(), "database": database, "the crowd itself": crowd}
    told = ", ".join(f"{name} {100 * s / seconds:.1f} %" for name, s in shares.items())
    print(f"\nCPU of one core: {told}")


if __name__ == "__main__":
    sys.exit(main())
