"""Run pages stay quick for a run of a million points, for 200 runs and for 50 viewers.

    python benchmarks/bench_live_pages.py [sqlite|postgres] [--steps 100000]

A run of 10 series of STEPS points is shipped from its metrics.jsonl by the code that
ships every run's (points a second, against bare inserts of the same rows), among 200
runs. Then a real web server is asked for its pages: CPU of the server and its database,
wall time, bytes as sent and unpacked, against bare SQL that reads the same points. 50
viewers follow the run for a minute while it grows by a point a series a second. Last,
Chromium draws it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import big_site
from big_site import Answer, Person, Site, Web, conditions, fresh_site

SERIES = (
    "loss", "grad_norm", "learning_rate", "rewards/chosen", "rewards/rejected",
    "rewards/margins", "rewards/accuracies", "logps/chosen", "logps/rejected",
    "entropy",
)  # fmt: skip
RUNS = 200
VIEWERS = 50
MINUTE = 60
TIMEOUT = 15
POLL = 2.0
"""What a page waits between two polls."""
AIMS = {
    "run page": 300,
    "first metrics.json": 300,
    "poll, 1 new point a series": 20,
    "poll, nothing new (204)": 20,
    "list of 200 runs": 100,
}
"""Milliseconds of the server's CPU."""
SPIKE = 54_321


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("databases", nargs="*", default=list(big_site.DATABASES))
    asked.add_argument("--steps", type=int, default=100_000)
    asked.add_argument("--minute", type=int, default=MINUTE)
    options = asked.parse_args()
    for database in options.databases:
        print(f"\n{conditions(database)}", flush=True)
        with fresh_site(database) as site:
            measure(site, options.steps, options.minute)
        print(f"load average after: {os.getloadavg()[0]:.1f}", flush=True)


def measure(site: Site, steps: int, seconds: int) -> None:
    made = site.call(fill, steps=steps)
    points = steps * len(SERIES)
    bare, ours = made["bare"], made["ship"]
    share = bare["cpu"] / ours["cpu"]
    for label, cost in (("shipped", ours), ("bare inserts", bare)):
        print(
            f"{points:,} points {label}: {points / cost['wall']:,.0f} a second of wall"
            f" time, {points / cost['cpu']:,.0f} a second of CPU with the database's"
        )
    print(f"share of CPU {share:.2f}; aim 0.50: {verdict(share >= 0.5)}")
    print(f"the same points in bare SQL: {made['read_ms']:,.0f} ms to read all of them")
    sessions = site.log_in(*(f"viewer{n}" for n in range(VIEWERS)))
    with site.web() as web:
        person = Person(web.url, sessions[0])
        page, metrics = made["page"], f"{made['page']}metrics.json"
        show(web, person, "run page", page)
        first = show(web, person, "first metrics.json", metrics, 5)
        cursor = json.loads(first)["cursor"]
        show(web, person, "poll, nothing new (204)", f"{metrics}?after={cursor}")
        site.call(grow, run=made["run"], seconds=0)
        show(web, person, "poll, 1 new point a series", f"{metrics}?after={cursor}")
        show(web, person, "head of the page", f"{page}head/")
        show(web, person, "list of 200 runs", made["list"])
        draw(
            web, sessions[0], page, lambda: site.call(grow, run=made["run"], seconds=0)
        )
        watch(site, web, made, sessions, seconds)


def verdict(is_met: bool) -> str:
    return "met" if is_met else "NOT MET"


def show(web: Web, person: Person, label: str, path: str, times: int = 30) -> str:
    """One line of what a request costs; the answer's text."""
    person.get(path)
    walls = []
    server, database = web.cpu_seconds(), web.database_cpu_seconds()
    for _ in range(times):
        started = time.perf_counter()
        answer = person.get(path)
        walls.append(1000 * (time.perf_counter() - started))
    server = 1000 * (web.cpu_seconds() - server) / times
    database = 1000 * (web.database_cpu_seconds() - database) / times
    if answer.status not in (200, 204):
        sys.exit(f"{path} answered {answer.status}.")
    aim = AIMS.get(label)
    told = (
        f"; aim {aim} ms: {verdict(server + database < aim)}" if aim is not None else ""
    )
    print(
        f"{label:28} CPU {server:7.1f} ms, database {database:6.1f} ms; wall least"
        f" {min(walls):6.1f}, median {statistics.median(walls):6.1f} ms;"
        f" {len(answer.text.encode()):,} bytes, {answer.sent:,} sent{told}",
        flush=True,
    )
    return answer.text


# --- 50 viewers ---------------------------------------------------------------


def watch(
    site: Site, web: Web, made: dict[str, Any], sessions: list[str], seconds: int
) -> None:
    """Viewers poll curves and head as the page does; somebody else reads pages."""
    polls: list[float] = []
    others: list[float] = []
    failures: list[str] = []
    metrics, head = f"{made['page']}metrics.json", f"{made['page']}head/"
    opened = json.loads(Person(web.url, sessions[0]).get(metrics).text)["cursor"]

    def ask(person: Person, path: str) -> Answer | None:
        try:
            return person.get(path)
        except OSError as error:
            failures.append(repr(error))
            person.connection.close()
            return None

    def view(session: str, delay: float) -> None:
        person, cursor = Person(web.url, session, TIMEOUT), opened
        time.sleep(delay)
        while time.monotonic() < ends:
            began = time.perf_counter()
            answer = ask(person, f"{metrics}?after={cursor}")
            polls.append(time.perf_counter() - began)
            if answer and answer.status == 200:
                cursor = json.loads(answer.text)["cursor"]
            ask(person, head)
            time.sleep(max(0, POLL - (time.perf_counter() - began)))

    def read() -> None:
        person = Person(web.url, sessions[0], TIMEOUT)
        while time.monotonic() < ends:
            began = time.perf_counter()
            ask(person, made["list"])
            others.append(time.perf_counter() - began)
            time.sleep(0.5)

    ends = time.monotonic() + seconds
    server, database = web.cpu_seconds(), web.database_cpu_seconds()
    growing = subprocess.Popen(
        [sys.executable, big_site.__file__, Path(__file__).stem, grow.__name__],
        env=site.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    assert growing.stdin
    growing.stdin.write(json.dumps({"run": made["run"], "seconds": seconds}).encode())
    growing.stdin.close()
    threads = [
        threading.Thread(target=view, args=(session, POLL * n / len(sessions)))
        for n, session in enumerate(sessions)
    ]
    threads.append(threading.Thread(target=read))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    server = (web.cpu_seconds() - server) / seconds
    database = (web.database_cpu_seconds() - database) / seconds
    if growing.wait():
        sys.exit("The run did not grow.")
    print(
        f"{len(sessions)} viewers, {seconds} s: server {server:.0%} of one core,"
        f" database {database:.0%}; {len(polls):,} polls of curves,"
        f" p95 {p95(polls):.0f} ms; the list of runs meanwhile"
        f" p95 {p95(others):.0f} ms;"
        f" {len(failures)} requests without an answer in {TIMEOUT} s"
    )


def p95(seconds: list[float]) -> float:
    return 1000 * sorted(seconds)[int(len(seconds) * 0.95)]


# --- Chromium -----------------------------------------------------------------

# From the parsed answer until the charts are on their canvases: uPlot draws in a
# microtask, which the timeout lets pass.
NOTE_DRAWS = """
    window.draws = [];
    const parse = Response.prototype.json;
    Response.prototype.json = async function () {
        const answer = await parse.call(this);
        const began = performance.now();
        setTimeout(() => window.draws.push(performance.now() - began));
        return answer;
    };
"""


def draw(web: Web, session: str, page_path: str, add_points: Any) -> None:
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        print("no chromium: drawing was not measured")
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox"]
        )
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        context.add_cookies([{"name": "sessionid", "value": session, "url": web.url}])
        context.add_init_script(NOTE_DRAWS)
        page = context.new_page()
        page.goto(web.url + page_path)
        draws: list[float] = []
        for _ in range(4):
            seen = len(draws)
            if seen:
                add_points()
            # Asked again and again: the policy forbids to wait for an expression.
            while len(draws) == seen:
                page.wait_for_timeout(100)
                draws = page.evaluate("window.draws")
        session_of = context.new_cdp_session(page)
        session_of.send("HeapProfiler.collectGarbage")
        heap = session_of.send("Runtime.getHeapUsage")["usedSize"] / 2**20
        browser.close()
    print(
        f"Chromium: first draw {draws[0]:.0f} ms; append and redraw"
        f" {statistics.median(draws[1:]):.0f} ms; heap {heap:.1f} MB"
    )


# --- In a process with Django -------------------------------------------------


def value_at(series: int, step: int) -> float:
    if step == SPIKE and series == 1:
        return 80.0
    if step == SPIKE and series == 0:
        return math.nan
    return 1 / (1 + series + step / 5000) + 0.1 * math.sin(step * (series + 3))


def metric_lines(first: int, last: int) -> Iterator[str]:
    """As the trainer's callback writes them."""
    from training.core.run_directory import encode_number

    for step in range(first, last):
        values = {
            name: encode_number(value_at(index, step))
            for index, name in enumerate(SERIES)
        }
        line = {"step": step, "time": "2026-01-01T00:00:00+00:00", "epoch": step / 1000}
        yield json.dumps(line | values) + "\n"


def directory_of(run: int) -> Any:
    from training.core.run_directory import RunDirectory

    path = Path(os.environ["DATA_DIR"]) / f"bench-run-{run}"
    path.mkdir(exist_ok=True)
    return RunDirectory(path)


def fill(steps: int) -> dict[str, Any]:
    from django.db import connection
    from django.urls import reverse

    from labelhub.models import Membership, Project, User
    from training.models import Attempt, Run, Worker
    from training.shipping import Shipper

    project = Project.objects.create(name="Runs", slug="runs", kind="pairwise")
    for n in range(VIEWERS):
        user = User.objects.create(username=f"viewer{n}", password="!")
        Membership.objects.create(project=project, user=user, role="viewer")
    worker = Worker.objects.create(host="bench", boot_id="b", pid=1)
    states = [Run.State.SUCCEEDED, Run.State.FAILED, Run.State.STOPPED, "queued"]
    shipped: dict[str, float] = {}
    for n in range(RUNS):
        is_long = n == RUNS - 1
        state = Run.State.RUNNING if is_long else states[n % 4]
        run = Run.objects.create(
            project=project, name=f"run {n}", algorithm="dpo", config={}, state=state,
            result={} if state == Run.State.SUCCEEDED else None, fence=1,
            max_steps=steps, phase="training",
        )  # fmt: skip
        if state == "queued":
            continue
        attempt = Attempt.objects.create(
            run=run, fence=1, worker=worker,
            state=Attempt.State.RUNNING if is_long else Attempt.State.STOPPED,
        )  # fmt: skip
        length = steps if is_long else steps // 10 if n % 40 == 1 else 100
        directory = directory_of(run.pk)
        with directory.metrics.open("w") as file:
            file.writelines(metric_lines(0, length))
            for step in range(0, length, max(1, length // 20)):
                values = {"eval_loss": 0.5, "eval_rewards/accuracies": 0.6}
                file.write(json.dumps({"step": step, **values}) + "\n")
        shipped = cost_of(Shipper(attempt, directory).ship)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
        began = time.perf_counter()
        cursor.execute(
            "SELECT name, step, value, nonfinite FROM training_metricpoint"
            " WHERE run_id = %s",
            [run.pk],
        )
        rows = cursor.fetchall()
        read_ms = 1000 * (time.perf_counter() - began)
    return {
        "run": run.pk,
        "page": run.get_absolute_url(),
        "list": reverse("training:runs", args=[project.slug]),
        "ship": shipped,
        "bare": insert_bare(run.pk, attempt.pk, rows),
        "read_ms": read_ms,
    }


def cost_of(work: Callable[[], None]) -> dict[str, float]:
    """Wall time, and CPU of this process and of the database's together."""
    from django.db import connection

    name = connection.settings_dict["NAME"] if connection.vendor != "sqlite" else ""
    cpu = time.process_time() + big_site.database_cpu_seconds(str(name))
    began = time.perf_counter()
    work()
    wall = time.perf_counter() - began
    now = time.process_time() + big_site.database_cpu_seconds(str(name))
    return {"wall": wall, "cpu": now - cpu}


def insert_bare(
    run: int, attempt: int, rows: list[tuple[Any, ...]]
) -> dict[str, float]:
    """The same rows as fast as the database takes them, 5,000 a transaction."""
    from django.db import connection, transaction

    values = [(run, attempt, *row, 0.0) for row in rows]
    columns = "run_id, attempt_id, name, step, value, nonfinite, at"
    id_type = (
        "integer PRIMARY KEY AUTOINCREMENT"
        if connection.vendor == "sqlite"
        else "bigserial PRIMARY KEY"
    )
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE TABLE bare (id {id_type}, run_id bigint, attempt_id bigint,"
            " name varchar(100), step integer, value double precision,"
            " nonfinite varchar(4), at double precision,"
            " UNIQUE (attempt_id, name, step))"
        )

        def insert() -> None:
            for start in range(0, len(values), 5000):
                with transaction.atomic():
                    part = values[start : start + 5000]
                    if connection.vendor == "postgresql":
                        with cursor.copy(f"COPY bare ({columns}) FROM STDIN") as copy:
                            for row in part:
                                copy.write_row(row)
                    else:
                        marks = ", ".join(["%s"] * 7)
                        cursor.executemany(
                            f"INSERT INTO bare ({columns}) VALUES ({marks})", part
                        )

        cost = cost_of(insert)
        cursor.execute("DROP TABLE bare")
    return cost


def grow(run: int, seconds: int) -> None:
    """Ship one more step, and then one a second."""
    from training.models import Attempt, MetricPoint
    from training.shipping import Shipper

    attempt = Attempt.objects.get(run=run)
    directory = directory_of(run)
    newest = MetricPoint.objects.filter(attempt=attempt, name=SERIES[0])
    step = newest.order_by("-step").values_list("step", flat=True)[0]
    shipper = Shipper(attempt, directory)
    ends = time.monotonic() + seconds
    while True:
        step += 1
        with directory.metrics.open("a") as file:
            file.writelines(metric_lines(step, step + 1))
        shipper.ship()
        if time.monotonic() >= ends:
            return
        time.sleep(1)


if __name__ == "__main__":
    main()
