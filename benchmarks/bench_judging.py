"""What a judgment costs the server, and how long a person waits for the next item.

    python benchmarks/bench_judging.py [--quick] [--database sqlite|postgres]

Starts the real web server on a project of 1,000,000 open tasks (--quick: 20,000) and
32 people who have judged 50,000 (1,000) each. A client sends the verdict on its item,
and gets the next item with the answer: one request, real HTTP, kept alive. Closed loop:
1, 8 and 32 clients that answer at once. Open loop: 24 clients to whom items fall due at
random, 100 a second in all; latency counts from when an item was due.

The baseline is the very SQL of such requests, recorded from the application in the same
call and run again bare, without Django, HTTP and templates, on a database in the same
state. CPU is that of the server's processes, or of the one process that runs the bare
SQL; that of PostgreSQL's processes stands apart. The load has a process of its own.
"""

from __future__ import annotations

import argparse
import pickle
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from big_site import (
    DATABASES,
    SLUG,
    Person,
    Site,
    Web,
    conditions,
    database_cpu_seconds,
    fresh_site,
)

PEOPLE = 32
RATE = 100
"""Items a second in all, where they fall due by the clock."""
JUDGE = f"/projects/{SLUG}/judge/"
VERDICT = {"verdict": "left", "replaces": "0", "note": ""}
WARM_UP = 5
"""Items of each client before the clock starts."""
LEFT = 10
"""Items that the person finds in the nearly finished project."""

MOST_RATIO, MOST_CPU_MS, MOST_P95_MS = 2.0, 6.0, 50.0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="20,000 tasks")
    parser.add_argument("--database", choices=DATABASES, help="only this one")
    parser.add_argument("--seconds", type=float, default=20, help="of each load")
    parser.add_argument("--processes", help="of the web server, as `start` says")
    parser.add_argument("--threads", help="of each of them")
    options = parser.parse_args()
    tasks = 20_000 if options.quick else 1_000_000
    wide = [
        word
        for name in ("processes", "threads")
        if (value := getattr(options, name))
        for word in (f"--{name}", value)
    ]
    sound = True
    for database in [options.database] if options.database else DATABASES:
        with fresh_site(database) as site:
            started = time.perf_counter()
            site.seed(tasks=tasks, annotators=PEOPLE, judged=tasks // 20)
            took = time.perf_counter() - started
            print(f"\n{conditions(database)}; web {' '.join(wide) or 'as usual'}")
            print(f"{tasks:,} open tasks, {tasks // 20:,} judged by each; {took:.0f} s")
            sound &= measure(site, options.seconds, wide)
            print(conditions(database))
    if not sound:
        sys.exit("An item was lost, doubled or refused: see above.")


def measure(site: Site, seconds: float, wide: Sequence[str]) -> bool:
    """Print the figures of one database; whether nothing went wrong."""
    sessions = site.log_in(*(f"judge{n + 1}" for n in range(PEOPLE)))
    with twin(site) as other:
        other.call(record, sessions=sessions, into=str(site.folder / "statements"))
    bare = site.call(replay, file=str(site.folder / "statements"))
    print(
        f"bare SQL, {bare['statements']} statements an item: {cost(bare)}, "
        f"p50 {bare['p50']:.2f} ms"
    )
    before = site.call(count_judgments)
    found, answered = {}, 0
    with site.web(*wide) as web:
        for name, clients, rate in (
            ("1 client", 1, 0),
            ("8 clients", 8, 0),
            (f"{PEOPLE} clients", PEOPLE, 0),
            (f"24 clients, {RATE} items/s", 24, RATE),
        ):
            found[name] = got = site.call(
                load,
                web=vars(web) | {"log": ""},
                sessions=sessions[:clients],
                seconds=seconds,
                rate=rate,
            )
            answered += got["answered"]
            print(
                f"{name:<24} {got['per_second']:6.1f} items/s, p50 {got['p50']:.1f}, "
                f"p95 {got['p95']:.1f}, p99 {got['p99']:.1f} ms; {cost(got)}; "
                f"client {got['client_ms']:.1f} ms; {got['errors']} errors"
                + (", FELL BEHIND and stopped early" if got["fell_behind"] else "")
            )
        site.manage("check_integrity")
        stored = site.call(count_judgments) - before
        doubled = site.call(count_doubled)
        print(
            f"{answered:,} verdicts answered, {stored:,} stored, {doubled} items given "
            "twice, every counter agrees (check_integrity)"
        )
        site.call(nearly_finish)
        end = site.call(
            load,
            web=vars(web) | {"log": ""},
            sessions=sessions[:1],
            seconds=0,
            rate=0,
        )
        print(f"nearly finished, {LEFT} of the open ones left: p50 {end['p50']:.1f} ms")
    paced = found[f"24 clients, {RATE} items/s"]
    alone = found["1 client"]
    verdict("CPU / bare SQL, 1 client", all_cpu(alone) / all_cpu(bare), MOST_RATIO)
    worst = max(got["cpu_ms"] for got in found.values())
    verdict("ms server CPU an item, at worst", worst, MOST_CPU_MS)
    verdict(f"ms p95 at {RATE} items/s", paced["p95"], MOST_P95_MS)
    errors = sum(got["errors"] for got in found.values())
    return not errors and not doubled and stored == answered


def cost(found: dict[str, float]) -> str:
    words = f"CPU {found['cpu_ms']:.2f} ms an item"
    if found["database_ms"]:
        words += f" + PostgreSQL {found['database_ms']:.2f} ms"
    return words


def all_cpu(found: dict[str, float]) -> float:
    return found["cpu_ms"] + found["database_ms"]


def verdict(what: str, value: float, most: float) -> None:
    met = "met" if value <= most else "NOT met"
    print(f"aim: {what} at most {most:g}: {value:.2f}, {met}")


# --- The clients: a process of their own --------------------------------------


def load(
    web: dict[str, Any], sessions: list[str], seconds: float, rate: float
) -> dict[str, float]:
    """Let a person behind each session judge; for 0 seconds: until LEFT are done."""
    server = Web(**web)
    clients = [Client(server.url, session, n) for n, session in enumerate(sessions)]
    for client in clients:
        for _ in range(WARM_UP if seconds else 0):
            client.answer(time.perf_counter())
        client.milliseconds.clear()
        client.extra = client.answered
        client.answered = 0
    cpu, database = server.cpu_seconds(), server.database_cpu_seconds()
    own, started = time.process_time(), time.perf_counter()
    threads = [
        threading.Thread(
            target=client.run, args=[started, seconds, rate / len(clients)]
        )
        for client in clients
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - started
    answered = sum(client.answered for client in clients)
    if not answered:
        sys.exit(f"No client got an answer; the last was {clients[0].last!r}.")
    return {
        "answered": answered + sum(client.extra for client in clients),
        "errors": sum(client.errors for client in clients),
        "fell_behind": sum(client.fell_behind for client in clients),
        "per_second": answered / took,
        "cpu_ms": (server.cpu_seconds() - cpu) / answered * 1000,
        "database_ms": (server.database_cpu_seconds() - database) / answered * 1000,
        "client_ms": (time.process_time() - own) / answered * 1000,
        **percentiles(ms for client in clients for ms in client.milliseconds),
    }


class Client:
    """One annotator at the judging page."""

    def __init__(self, url: str, session: str, number: int) -> None:
        self.person = Person(url, session)
        self.dice = Random(number)
        self.answered = self.extra = self.errors = 0
        self.fell_behind = False
        self.milliseconds: list[float] = []
        self.last = ""
        found = self.person.get(JUDGE)
        self.address = found.headers["Location"] or JUDGE
        self.person.get(self.address)  # The form, and with it the CSRF token.

    def run(self, started: float, seconds: float, rate: float) -> None:
        """Answer at once, or at `rate` a second on average: then a slow answer makes
        the ones that fall due behind it late, as it would for people."""
        due = started
        # A server that falls behind is not waited for longer than that once more.
        give_up = started + 2 * seconds
        while self.answered < LEFT if not seconds else due < started + seconds:
            if seconds and time.perf_counter() > give_up:
                self.fell_behind = True
                break
            if rate:
                due += self.dice.expovariate(rate)
                time.sleep(max(0, due - time.perf_counter()))
            self.answer(due)
            if not rate:
                due = time.perf_counter()
            if not seconds and self.address == JUDGE:
                break

    def answer(self, due: float) -> None:
        found = self.person.post(self.address, VERDICT)
        self.milliseconds.append((time.perf_counter() - due) * 1000)
        self.last = f"{found.status} {found.text[:200]}"
        if found.status != 200 or "HX-Push-Url" not in found.headers:
            self.errors += 1
            return
        self.answered += 1
        self.address = found.headers["HX-Push-Url"]


def percentiles(milliseconds: Iterable[float]) -> dict[str, float]:
    cuts = statistics.quantiles(milliseconds, n=100, method="inclusive")
    return {"p50": cuts[49], "p95": cuts[94], "p99": cuts[98]}


# --- The baseline -------------------------------------------------------------


@contextmanager
def twin(site: Site) -> Iterator[Site]:
    """A copy of the site's database, for as long as the block lasts."""
    environment = dict(site.environment)
    if site.database == "sqlite":
        file = site.folder / "labelhub.sqlite3"
        environment["DATABASE_URL"] = f"sqlite://{site.folder}/twin.sqlite3"
        site.call(fold_log)
        shutil.copy(file, site.folder / "twin.sqlite3")
        yield Site(site.database, site.folder, environment)
        for left in site.folder.glob("twin.*"):
            left.unlink()
        return
    import psycopg

    url = site.environment["DATABASE_URL"]
    name = f"{site.database_name}_twin"
    environment["DATABASE_URL"] = url.rpartition("/")[0] + f"/{name}"
    with psycopg.connect(
        url.rpartition("/")[0] + "/postgres", autocommit=True
    ) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {site.database_name}")
        try:
            yield Site(site.database, site.folder, environment, name)
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def fold_log() -> None:
    """Bring what SQLite has written so far into the one file."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def record(sessions: list[str], into: str, items: int = 20) -> None:
    """Write down the statements of `items` answers by each of these people."""
    import logging

    from django.db import connection
    from django.db.backends.sqlite3.base import SQLiteCursorWrapper
    from django.test import Client as Browser

    logging.disable(logging.INFO)
    statements: list[tuple[str, Any]] = []
    commit, set_autocommit = connection._commit, connection._set_autocommit

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        bare = sql
        if connection.vendor == "sqlite" and params is not None:
            names = list(params) if isinstance(params, dict) else None
            bare = SQLiteCursorWrapper.convert_query(None, sql, param_names=names)
        statements.append((bare, params))
        return execute(sql, params, many, context)

    def note_commit() -> None:
        statements.append(("COMMIT", None))
        commit()

    def note_begin(autocommit: bool) -> None:
        if not autocommit and connection.vendor == "postgresql":
            statements.append(("BEGIN", None))
        set_autocommit(autocommit)

    connection.ensure_connection()
    connection._commit, connection._set_autocommit = note_commit, note_begin
    answers: list[tuple[bool, list[tuple[str, Any]]]] = []
    addresses = [JUDGE] * len(sessions)
    browser = Browser(SERVER_NAME="localhost", headers={"HX-Request": "true"})
    form = "application/x-www-form-urlencoded"
    with connection.execute_wrapper(note):
        for turn in range(items + 1):
            for n, session in enumerate(sessions):
                browser.cookies["sessionid"] = session
                if turn:
                    body = "&".join(f"{k}={v}" for k, v in VERDICT.items())
                    found = browser.post(addresses[n], body, content_type=form)
                else:
                    found = browser.get(addresses[n])
                addresses[n] = found["HX-Push-Url"]
                answers.append((turn > 1, statements[:]))
                statements.clear()
    Path(into).write_bytes(pickle.dumps(answers))


def replay(file: str) -> dict[str, float]:
    """Run the statements again, through the database driver alone."""
    from django.db import connection

    answers = pickle.loads(Path(file).read_bytes())
    connection.ensure_connection()
    raw = connection.connection
    name = connection.settings_dict["NAME"] if connection.vendor != "sqlite" else ""
    cpu = database = 0.0
    milliseconds = []
    for is_counted, statements in answers:
        if is_counted and not milliseconds:
            database = database_cpu_seconds(str(name))
        started, own = time.perf_counter(), time.process_time()
        cursor = raw.cursor()
        for sql, parameters in statements:
            cursor.execute(sql, *([] if parameters is None else [parameters]))
            if cursor.description:
                cursor.fetchall()
        if is_counted:
            cpu += time.process_time() - own
            milliseconds.append((time.perf_counter() - started) * 1000)
    counted = len(milliseconds)
    database = database_cpu_seconds(str(name)) - database
    return {
        "statements": sum(len(s) for c, s in answers if c) / counted,
        "cpu_ms": cpu / counted * 1000,
        "database_ms": database / counted * 1000,
        **percentiles(milliseconds),
    }


# --- What came of it ----------------------------------------------------------


def count_judgments() -> int:
    from labelhub.models import Judgment

    return Judgment.objects.filter(source="human").count()


def count_doubled() -> int:
    """Tasks in more hands than they need, or twice in the same."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM (SELECT task_id FROM labelhub_judgment"
            " WHERE superseded_by_id IS NULL GROUP BY task_id"
            " HAVING count(*) > 3 OR count(*) > count(DISTINCT annotator_id)) doubled"
        )
        return int(cursor.fetchone()[0])


def nearly_finish() -> None:
    """Leave only what the first person has judged, and LEFT tasks more.

    Their every claim then walks past what they judged, to find one of the few.
    """
    from labelhub.models import Task, User

    user = User.objects.get(username="judge1")
    open_tasks = Task.objects.filter(status="open")
    mine = open_tasks.filter(assignments__annotator=user).values("pk")
    others = open_tasks.exclude(pk__in=mine).filter(n_leased=0).order_by("shuffle_key")
    few = list(others.values_list("pk", flat=True)[:: max(1, others.count() // LEFT)])
    open_tasks.exclude(pk__in=mine).exclude(pk__in=few).update(status="retired")


if __name__ == "__main__":
    main()
