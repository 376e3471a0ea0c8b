"""What bench_import.py and bench_export.py share: the data, the databases, the watch.

Two judges compare each of five pairs of responses to a prompt: as many responses as
judgments, half as many tasks, a tenth as many prompts.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

MEMORY_MB, LOCK_MS, SHARE = 300, 200, 0.5
"""The aims: under, under, at least."""
PAGE = 5000
JUDGES = ("ann", "ben")
TO_JUDGE = 5000
"""Pairs that are there before, for people to judge meanwhile."""


# --- The data ---------------------------------------------------------------


class Pair(NamedTuple):
    prompt: str
    one: str
    other: str
    winners: tuple[int, int]
    """What the two judges prefer: 0 or 1."""


def pairs(n: int) -> Iterator[Pair]:
    """The same ones at every call; responses of 100 to 500 characters."""
    dice = random.Random(1)
    letters = "etaoinshrdlu" * 4 + "cmfwygpbvk" * 2 + "éü" + "\n"
    words = ["".join(dice.choices(letters, k=dice.randint(2, 9))) for _ in range(3000)]
    text = " ".join(dice.choices(words, k=200_000))

    def said(length: int) -> str:
        start = dice.randrange(len(text) - length)
        return text[start : start + length].strip()

    for k in range(n):
        if k % 5 == 0:
            prompt = f"Question {k // 5}: {said(dice.randint(20, 200))}?"
        one, other = (f"{k} {said(dice.randint(100, 500))} {n}" for n in "xy")
        yield Pair(prompt, one, other, (k % 3 % 2, (k + k % 9 // 8) % 3 % 2))


def write_file(path: Path, n_pairs: int) -> None:
    """One row a judgment."""
    with path.open("w", encoding="utf-8") as file:
        for pair in pairs(n_pairs):
            for judge, winner in zip(JUDGES, pair.winners, strict=True):
                texts = (pair.one, pair.other)
                row = {
                    "prompt": pair.prompt,
                    "chosen": texts[winner],
                    "rejected": texts[1 - winner],
                    "judge": judge,
                }
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


COLUMNS = {
    "labelhub_prompt": "id project_id messages external_id content_hash metadata"
    " batch_id",
    "labelhub_response": "id prompt_id text model_name sampling external_id"
    " content_hash is_demonstration batch_id",
    "labelhub_task": "id project_id prompt_id response_a_id response_b_id priority"
    " shuffle_key n_required n_done n_leased status batch_id",
    "labelhub_judgment": "id project_id task_id source verdict judge_name external_id"
    " revision surplus shown_left note strength batch_id",
}
"""What an import writes, too."""


def rows_of(n_pairs: int) -> Iterator[dict[str, list[tuple[Any, ...]]]]:
    """Rows by table, PAGE pairs at a time, as an import into project 1 makes them."""
    dice = random.Random(2)
    page: dict[str, list[tuple[Any, ...]]] = {table: [] for table in COLUMNS}
    prompt, response, task, judgment = page.values()
    for k, pair in enumerate(pairs(n_pairs)):
        asked, a = k // 5 + 1, 2 * k + 1
        if k % 5 == 0:
            messages = [{"role": "user", "content": pair.prompt}]
            said = json.dumps(messages, ensure_ascii=False)
            prompt.append((asked, 1, said, "", digest(pair.prompt), "{}", 1))
        for n, text in enumerate((pair.one, pair.other)):
            values = (a + n, asked, text, "", "{}", "", digest(text), False, 1)
            response.append(values)
        task.append((k + 1, 1, asked, a, a + 1, 0, dice.random(), 3, 0, 0, "open", 1))
        for n, (judge, winner) in enumerate(zip(JUDGES, pair.winners, strict=True)):
            verdict = "ab"[winner]
            judgment.append(
                (
                    *(a + n, 1, k + 1, "imported", verdict, judge, verdict),
                    *(1, False, "", "", 0, 1),
                )
            )
        if len(task) == PAGE:
            yield page
            for rows in page.values():
                rows.clear()
    if task:
        yield page


def write_bare(n_pairs: int) -> dict[str, float]:
    """executemany or COPY into the migrated tables; only the writing is timed."""
    from django.db import connection

    from labelhub.models import ImportBatch, Project

    Project.objects.create(
        pk=1, name="Bench", slug="bench", kind="pairwise", judgments_per_task=3
    )
    ImportBatch.objects.create(pk=1, project_id=1, state="complete", options={})
    is_sqlite = connection.vendor == "sqlite"
    raw, seconds, n_rows = connection.connection, 0.0, 0
    for page in rows_of(n_pairs):
        started = time.perf_counter()
        raw.execute("BEGIN IMMEDIATE" if is_sqlite else "BEGIN")
        for table, rows in page.items():
            columns = COLUMNS[table].split()
            listed = ", ".join(columns)
            if is_sqlite:
                marks = ", ".join("?" * len(columns))
                insert = f"INSERT INTO {table} ({listed}) VALUES ({marks})"
                raw.executemany(insert, rows)
            else:
                statement = f"COPY {table} ({listed}) FROM STDIN"
                with raw.cursor() as cursor, cursor.copy(statement) as copy:
                    for row in rows:
                        copy.write_row(row)
            n_rows += len(rows)
        raw.execute("COMMIT")
        seconds += time.perf_counter() - started
    if not is_sqlite:
        for table in (*COLUMNS, "labelhub_project", "labelhub_importbatch"):
            raw.execute(
                f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id))"
                f" FROM {table}"
            )
    Project.objects.update(n_tasks=n_pairs)
    return {"rows": n_rows, "seconds": seconds}


# --- The databases ----------------------------------------------------------


@contextmanager
def database(kind: str) -> Iterator[dict[str, str]]:
    """An empty, migrated one of its own; the environment that leads to it."""
    with tempfile.TemporaryDirectory(prefix="labelhub-bench-") as folder:
        environment = {**os.environ, "DATA_DIR": folder}
        environment.pop("DATABASE_URL", None)
        if kind == "sqlite":
            manage(environment, "migrate", "--verbosity", "0")
            yield environment
            return
        import psycopg

        from tests.with_postgres import reachable_url

        with reachable_url() as url:
            name = f"labelhub_bench_{os.getpid()}"
            with psycopg.connect(url, autocommit=True) as admin:
                admin.execute(f"DROP DATABASE IF EXISTS {name}")
                admin.execute(f"CREATE DATABASE {name}")
            try:
                own = urlsplit(url)._replace(path=f"/{name}").geturl()
                environment["DATABASE_URL"] = own
                manage(environment, "migrate", "--verbosity", "0")
                yield environment
            finally:
                with psycopg.connect(url, autocommit=True) as admin:
                    admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def manage(environment: dict[str, str], *arguments: str) -> None:
    subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )


def child(
    environment: dict[str, str], script: str, *arguments: object
) -> dict[str, Any]:
    """What a function of these scripts prints as JSON, run on that database."""
    done = subprocess.run(
        [sys.executable, script, *map(str, arguments)],
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def set_up_django() -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "labelhub.settings"
    import django
    from django.db import connection

    django.setup()
    connection.ensure_connection()


# --- The watch --------------------------------------------------------------


@dataclass
class Watched:
    """A command that ran while people judged."""

    seconds: float = 0
    cpu_seconds: float = 0
    private_mb: float = 0
    """The most that would be free if the process ended: USS, which counts the pages of
    the database file that only it maps."""
    anonymous_mb: float = 0
    """Of that, what the kernel cannot take back: RssAnon."""
    resident_mb: float = 0
    lock_ms: float = 0
    judged: dict[str, float] = field(default_factory=dict)

    def sample(self, process: psutil.Process) -> None:
        try:
            memory, cpu = process.memory_full_info(), process.cpu_times()
            status = Path(f"/proc/{process.pid}/status").read_text()
        except (psutil.Error, OSError):
            return
        anonymous = [x.split()[1] for x in status.splitlines() if "RssAnon" in x]
        self.private_mb = max(self.private_mb, memory.uss / 1e6)
        self.resident_mb = max(self.resident_mb, memory.rss / 1e6)
        if anonymous:
            kib = int(anonymous[0])
            self.anonymous_mb = max(self.anonymous_mb, kib * 1024 / 1e6)
        self.cpu_seconds = cpu.user + cpu.system


def watch(environment: dict[str, str], command: list[str]) -> Watched:
    """Run a command of manage.py to its end, beside a judge and, on SQLite, a probe
    of the write lock.
    """
    found = Watched()
    judge = subprocess.Popen(
        [sys.executable, __file__], env=environment, stdout=subprocess.PIPE
    )
    probe = None
    try:
        assert judge.stdout is not None
        judge.stdout.readline()  # it judges now
        if "DATABASE_URL" not in environment:
            probe = LockProbe(Path(environment["DATA_DIR"], "labelhub.sqlite3"))
        started = time.perf_counter()
        process = psutil.Popen(
            [sys.executable, "manage.py", *command],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        while process.poll() is None:
            found.sample(process)
            time.sleep(0.1)
        found.seconds = time.perf_counter() - started
        if process.returncode:
            sys.exit(f"{' '.join(command)} failed")
        if probe:
            found.lock_ms = probe.stop()
        judge.send_signal(signal.SIGTERM)
        found.judged = json.loads(judge.stdout.read())
    finally:
        judge.kill()
        judge.wait()
    return found


class LockProbe(threading.Thread):
    """Asks for SQLite's write lock every 2 ms or so; the longest time for which
    it was refused without a break, which is at least the longest hold.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self.path = path
        self.longest = 0.0
        self.is_over = False
        self.start()

    def run(self) -> None:
        db = sqlite3.connect(self.path, isolation_level=None, timeout=0)
        free_at = time.perf_counter()
        while not self.is_over:
            try:
                db.execute("BEGIN IMMEDIATE")
                db.execute("ROLLBACK")
                now = time.perf_counter()
                refused, free_at = now - free_at, time.perf_counter()
            except sqlite3.OperationalError:
                refused = time.perf_counter() - free_at
            self.longest = max(self.longest, refused)
            time.sleep(0.002)
        db.close()

    def stop(self) -> float:
        """Milliseconds."""
        self.is_over = True
        self.join()
        return self.longest * 1000


def prepare(environment: dict[str, str]) -> None:
    """Tasks to judge meanwhile, in the project that is measured."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "open.jsonl")
        with path.open("w", encoding="utf-8") as file:
            for k in range(TO_JUDGE):
                row = {"prompt": f"Open {k}", "response_a": "yes", "response_b": "no"}
                file.write(json.dumps(row) + "\n")
        manage(environment, "import_data", "bench", str(path))


def judge() -> None:
    """Four people in turn take and judge, 20 moves a second, until told to stop."""
    from labelhub import queue
    from labelhub.models import Assignment, Membership, Project, User

    project = Project.objects.get(slug="bench")
    people = []
    for n in range(4):
        person, _ = User.objects.get_or_create(username=f"judge{n}")
        Membership.objects.get_or_create(project=project, user=person)
        people.append(person)
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
    print("ready", flush=True)
    waits: list[float] = []
    while not stopped:
        person = people[len(waits) // 2 % 4]
        started = time.perf_counter()
        held = queue.claim(project, person)
        waits.append(time.perf_counter() - started)
        if not isinstance(held, Assignment):
            sys.exit(f"nothing left to judge: {held}")
        time.sleep(0.05)
        started = time.perf_counter()
        queue.submit(held.pk, person, "left")
        waits.append(time.perf_counter() - started)
        time.sleep(0.05)
    waits.sort()
    facts = {
        "moves": len(waits),
        "median_ms": waits[len(waits) // 2] * 1000,
        "p99_ms": waits[len(waits) * 99 // 100] * 1000,
        "longest_ms": waits[-1] * 1000,
    }
    print(json.dumps(facts))


# --- What is printed --------------------------------------------------------


def arguments(doc: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="judgments")
    parser.add_argument(
        "--database", action="append", choices=["sqlite", "postgres"], default=[]
    )
    options = parser.parse_args()
    options.database = options.database or ["sqlite", "postgres"]
    return options


def print_conditions(when: str) -> None:
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    ).stdout.strip()
    print(
        f"{when}: {os.cpu_count()} cores, Python {platform.python_version()},"
        f" SQLite {sqlite3.sqlite_version}, commit {commit},"
        f" load {os.getloadavg()[0]:.1f}",
        flush=True,
    )


def print_watched(found: Watched, n_rows: float, bare: dict[str, float]) -> None:
    rate, bare_rate = n_rows / found.seconds, bare["rows"] / bare["seconds"]
    judged = found.judged
    print(f"  took    {found.seconds:.1f} s, {found.cpu_seconds:.1f} s of CPU")
    print(f"  rate    {rate:,.0f} rows/s; bare {bare_rate:,.0f} rows/s")
    print(
        f"  memory  {found.private_mb:.0f} MB private at most, of that"
        f" {found.anonymous_mb:.0f} MB anonymous; {found.resident_mb:.0f} MB resident"
    )
    print(
        f"  judging {judged['moves']} moves meanwhile: median"
        f" {judged['median_ms']:.0f} ms, 99 % {judged['p99_ms']:.0f} ms,"
        f" longest {judged['longest_ms']:.0f} ms"
    )
    aims = [
        (f"at least {SHARE} of the bare rate", rate / bare_rate, SHARE, "{:.2f}"),
        (f"under {MEMORY_MB} MB private", MEMORY_MB, found.private_mb, "{1:.0f} MB"),
    ]
    if found.lock_ms:
        aims.append((f"lock under {LOCK_MS} ms", LOCK_MS, found.lock_ms, "{1:.0f} ms"))
    for aim, more, less, shown in aims:
        word = "met" if more >= less else "NOT MET"
        print(f"  aim     {aim}: {word}, {shown.format(more, less)}", flush=True)


if __name__ == "__main__":
    set_up_django()
    judge()
