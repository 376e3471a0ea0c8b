"""What the benchmarks of the site share: a big project on a real server.

    with fresh_site("postgres") as site:
        site.seed(tasks=1_000_000, annotators=32)
        with site.web() as web:
            person = Person(web.url, site.log_in("judge1"))
            page = person.get(f"/projects/{SLUG}/judge/")
            before = web.cpu_seconds()

A site has its own DATA_DIR, or its own PostgreSQL database, both gone afterwards. The
server is the one that `manage.py start --only web` becomes. The parts that need Django
run in a process of their own (`site.call`), for a process has one database.
"""

from __future__ import annotations

import gc
import gzip
import http.client
import importlib
import json
import os
import platform
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

DATABASES = ("sqlite", "postgres")
SLUG = "big"
CHUNK = 20_000
"""Rows that are written at once."""


# --- The site -----------------------------------------------------------------


@contextmanager
def fresh_site(database: str) -> Iterator[Site]:
    """A migrated, empty site on "sqlite" or "postgres"."""
    with tempfile.TemporaryDirectory(prefix="labelhub-bench-") as folder:
        environment = {
            **{k: v for k, v in os.environ.items() if k != "DATABASE_URL"},
            "DATA_DIR": folder,
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": f"{ROOT / 'benchmarks'}{os.pathsep}{ROOT}",
        }
        if database == "sqlite":
            site = Site(database, Path(folder), environment)
            site.manage("migrate", "--verbosity", "0")
            yield site
            return
        import psycopg

        from tests.with_postgres import reachable_url

        name = f"labelhub_bench_{os.getpid()}"
        with reachable_url() as url, psycopg.connect(url, autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {name}")
            environment["DATABASE_URL"] = url.rpartition("/")[0] + f"/{name}"
            try:
                site = Site(database, Path(folder), environment, name)
                site.manage("migrate", "--verbosity", "0")
                yield site
            finally:
                admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@dataclass
class Site:
    database: str
    folder: Path
    environment: dict[str, str]
    database_name: str = ""

    def manage(self, *arguments: object) -> str:
        command = [sys.executable, "manage.py", *map(str, arguments)]
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True
        )
        if done.returncode:
            said = (done.stdout + done.stderr)[-2000:]
            sys.exit(f"{' '.join(command)} failed:\n{said}")
        return done.stdout

    def call(self, function: Callable[..., Any], **arguments: Any) -> Any:
        """The result of a module's function, run in a new process with Django up.

        Arguments and result travel as JSON.
        """
        module = Path(sys.modules[function.__module__].__file__ or "").stem
        done = subprocess.run(
            [sys.executable, __file__, module, function.__name__],
            env=self.environment,
            input=json.dumps(arguments),
            stdout=subprocess.PIPE,
            text=True,
        )
        if done.returncode:
            sys.exit(f"{module}.{function.__name__} failed on {self.database}.")
        return json.loads(done.stdout)

    def seed(self, **shape: int) -> None:
        """See `seed` below, which says what the numbers are."""
        self.call(seed, **shape)

    def log_in(self, *usernames: str) -> list[str]:
        """The session cookies of these people, in this order."""
        cookies: list[str] = self.call(open_sessions, usernames=usernames)
        return cookies

    @contextmanager
    def web(self, *options: str) -> Iterator[Web]:
        """The real web server on a free port, until the end of the block."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        log = self.folder / "web.log"
        with log.open("wb") as output:
            command = [sys.executable, "manage.py", "start", "--only", "web"]
            server = subprocess.Popen(
                [*command, "--port", str(port), *options],
                cwd=ROOT,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            web = Web(f"http://127.0.0.1:{port}", server.pid, self.database_name, log)
            web.wait_until_up()
            yield web
        finally:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


@dataclass
class Web:
    url: str
    pid: int
    database_name: str
    log: Path

    def wait_until_up(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if Person(self.url).get("/healthz").status == 200:
                    return
            except OSError:
                time.sleep(0.1)
        sys.exit(f"The web server did not come up:\n{self.log.read_text()}")

    def cpu_seconds(self) -> float:
        """User and system time of the server so far, all its processes together."""
        master = psutil.Process(self.pid)
        return _cpu_of([master, *master.children(recursive=True)])

    def memory_mb(self) -> float:
        """Resident memory of the server, all its processes together."""
        master = psutil.Process(self.pid)
        family = [master, *master.children(recursive=True)]
        return sum(process.memory_info().rss for process in family) / 2**20

    def database_cpu_seconds(self) -> float:
        """The same of PostgreSQL's processes for this database; 0 on SQLite."""
        return database_cpu_seconds(self.database_name)


def database_cpu_seconds(name: str) -> float:
    if not name:
        return 0.0
    named = [
        process
        for process in psutil.process_iter(["name", "cmdline"])
        if "postgres" in (process.info["name"] or "")
        and f" {name} " in " ".join(process.info["cmdline"] or ())
    ]
    return _cpu_of(named)


def _cpu_of(processes: list[psutil.Process]) -> float:
    total = 0.0
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total


def conditions(database: str) -> str:
    """One line: what the figures were taken on."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    ).stdout.strip()
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{database}; commit {commit or 'unknown'}; Python {platform.python_version()};"
        f" {os.cpu_count()} cores; load average {load}"
    )


# --- A person with a browser --------------------------------------------------


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    text: str
    sent: int = 0
    """Bytes of the body as they came over the wire."""


class Person:
    """A logged-in browser: one connection kept alive, cookies, CSRF, htmx headers."""

    def __init__(self, url: str, session: str = "", timeout: float = 60) -> None:
        address = urlsplit(url)
        self.url = url
        self.connection = http.client.HTTPConnection(
            str(address.hostname), address.port, timeout=timeout
        )
        self.cookies = {"sessionid": session} if session else {}
        self.csrf = ""

    def get(self, path: str, *, htmx: bool = False) -> Answer:
        return self._ask("GET", path, {}, None, htmx)

    def post(self, path: str, fields: dict[str, Any], *, htmx: bool = True) -> Answer:
        body = urlencode({"csrfmiddlewaretoken": self.csrf, **fields})
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        return self._ask("POST", path, kind, body, htmx)

    def _ask(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        body: str | None,
        htmx: bool,
    ) -> Answer:
        headers = {"Accept-Encoding": "gzip, deflate, br", **headers}
        if self.cookies:
            pairs = (f"{name}={value}" for name, value in self.cookies.items())
            headers["Cookie"] = "; ".join(pairs)
        if htmx:
            headers |= {"HX-Request": "true", "HX-Current-URL": f"{self.url}{path}"}
        self.connection.request(method, path, body, headers)
        response = self.connection.getresponse()
        body_sent = response.read()
        is_packed = response.headers.get("Content-Encoding") == "gzip"
        text = (gzip.decompress(body_sent) if is_packed else body_sent).decode()
        for cookie in response.headers.get_all("Set-Cookie") or ():
            name, _, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value
        if found := _CSRF.search(text):
            self.csrf = found[1]
        return Answer(response.status, response.headers, text, len(body_sent))


_CSRF = re.compile(r'name="csrfmiddlewaretoken" value="(\w+)"')


# --- In a process with Django -------------------------------------------------

WORDS = """
    reward model policy gradient sample answer because therefore however number water
    light energy small large city river history python function value list return first
    second third between without another question reason example
"""


def seed(tasks: int, annotators: int, judged: int, required: int = 3) -> None:
    """An open project `big` in which judge1 … judgeN have judged `judged` tasks each.

    Every task stays open: ten pairs of five answers a prompt, `required` judgments a
    task, of which it has annotators * judged / tasks already, at different places of
    the queue for everyone. Answers are Markdown of 300 to 900 characters.
    """
    from django.core.management.color import no_style
    from django.db import connection, transaction
    from django.utils import timezone

    from labelhub.importing import bulk
    from labelhub.models import (
        Assignment,
        Judgment,
        Membership,
        Project,
        Prompt,
        Response,
        Task,
        User,
    )

    if annotators * judged >= tasks * required or tasks % 10:
        sys.exit("seed: some task would be done, or tasks is no multiple of ten")
    dice = random.Random(7)
    gc.disable()
    now = timezone.now()
    long_ago = (
        now if connection.vendor == "postgresql" else str(now.replace(tzinfo=None))
    )
    project = Project.objects.create(
        name="Big", slug=SLUG, kind="pairwise", judgments_per_task=required,
        n_tasks=tasks,
    )  # fmt: skip
    project.write_guideline("Prefer the **true** answer.", None)
    guideline = project.guidelines.get().pk
    people = [User(username=f"judge{n + 1}", password="!") for n in range(annotators)]
    User.objects.bulk_create(people)
    Membership.objects.bulk_create(
        Membership(project=project, user=user, role="annotator", n_judged=judged)
        for user in people
    )

    def write(model: Any, names: str, rows: Iterator[tuple[Any, ...]]) -> None:
        chunk = []
        for row in rows:
            chunk.append(row)
            if len(chunk) == CHUNK:
                bulk.insert(model, names.split(), chunk)
                chunk = []
        bulk.insert(model, names.split(), chunk)

    def new_id() -> Any:
        made = uuid.UUID(int=dice.getrandbits(128), version=4)
        return made if connection.features.has_native_uuid_field else made.hex

    story = " ".join(dice.choices(WORDS.split(), k=20_000))

    def words(length: int) -> str:
        start = dice.randrange(len(story) - length)
        return story[start : start + length]

    def markdown(n: int) -> str:
        length = dice.randint(100, 300)
        return (
            f"Answer {n}: **{words(20)}**. {words(length)}\n\n"
            f"* {words(length // 2)}\n* `{words(15)}` {words(length // 2)}\n\n"
            f"{words(length)}"
        )

    n_prompts, pk = tasks // 10, project.pk
    pairs = [(a, b) for a in range(5) for b in range(a + 1, 5)]
    n_held, n_more = divmod(annotators * judged, tasks)
    assignment_ids = [new_id() for _ in range(annotators * judged)]

    def judged_tasks() -> Iterator[tuple[Any, int, int]]:
        """Assignment, task and user; one block of tasks after another."""
        for index, made in enumerate(assignment_ids):
            yield made, index % tasks + 1, people[index // judged].pk

    with transaction.atomic():
        write(
            Prompt,
            "id project messages content_hash metadata",
            (
                (n, pk, json.dumps([{"role": "user", "content": f"{words(200)} {n}?"}]),
                 f"{n:064x}", "{}")
                for n in range(1, n_prompts + 1)
            ),
        )  # fmt: skip
        write(
            Response,
            "id prompt text model_name sampling content_hash",
            (
                (n, (n - 1) // 5 + 1, markdown(n), f"m{n % 5}", "{}", f"{n:064x}")
                for n in range(1, n_prompts * 5 + 1)
            ),
        )
        write(
            Task,
            "id project prompt response_a response_b shuffle_key n_required n_done"
            " status",
            (
                (n + 1, pk, n // 10 + 1, n // 10 * 5 + 1 + pairs[n % 10][0],
                 n // 10 * 5 + 1 + pairs[n % 10][1], dice.random(), required,
                 n_held + (n < n_more), "open")
                for n in range(tasks)
            ),
        )  # fmt: skip
        write(
            Assignment,
            "id project task annotator guideline state swapped lease_expires_at"
            " ended_at",
            (
                (made, pk, task, user, guideline, "submitted", task % 2 == 1, long_ago,
                 long_ago)
                for made, task, user in judged_tasks()
            ),
        )  # fmt: skip
        write(
            Judgment,
            "id project task source verdict assignment annotator shown_left seconds",
            (
                (n + 1, pk, task, "human", "ab"[task % 2], made, user, "ab"[task % 2],
                 9.0)
                for n, (made, task, user) in enumerate(judged_tasks())
            ),
        )  # fmt: skip
        models = [Prompt, Response, Task, Judgment]
        with connection.cursor() as cursor:
            for sql in connection.ops.sequence_reset_sql(no_style(), models):
                cursor.execute(sql)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
        if connection.vendor == "postgresql":
            cursor.execute("VACUUM")


def open_sessions(usernames: list[str]) -> list[str]:
    """As the login page does, without the tenth of a second that a password costs."""
    from django.contrib.auth import (
        BACKEND_SESSION_KEY,
        HASH_SESSION_KEY,
        SESSION_KEY,
    )
    from django.contrib.sessions.backends.db import SessionStore

    from labelhub.models import User

    cookies = []
    for username in usernames:
        user = User.objects.get(username=username)
        store = SessionStore()
        store[SESSION_KEY] = str(user.pk)
        store[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
        store[HASH_SESSION_KEY] = user.get_session_auth_hash()
        store.create()
        cookies.append(str(store.session_key))
    return cookies


if __name__ == "__main__":
    import django

    os.environ["DJANGO_SETTINGS_MODULE"] = "labelhub.settings"
    django.setup()
    found = getattr(importlib.import_module(sys.argv[1]), sys.argv[2])
    print(json.dumps(found(**json.loads(sys.stdin.read()))))
