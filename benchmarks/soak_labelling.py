"""People judge, skip and think better of it while imports and freezes go on, and every
few seconds something is killed with SIGKILL. Aim: what was acknowledged is there, once,
and `check_integrity` finds nothing.

    python benchmarks/soak_labelling.py --database sqlite
    python benchmarks/soak_labelling.py --database postgres --seconds 600
    python benchmarks/soak_labelling.py --database postgres --between-statements

Victims, in turn: the web server, the importing and the freezing process, and on
PostgreSQL the database, a cluster of its own, by `pg_ctl -m immediate` or by kill -9 of
its postmaster. On SQLite a process that dies in mid-transaction is the database that
dies. A client that got no answer sends the same form again, as people do.

--between-statements kills the database before each statement, around each COMMIT and
before the answer; tests/labelhub/test_killed_between_statements.py kills processes so.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from big_site import ROOT, SLUG, Person, Site, conditions, fresh_site

ROWS = 2_500
"""Of one import."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--tasks", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--between-statements", action="store_true")
    options = parser.parse_args()
    # A time limit from outside must leave no process behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Stopped."))
    print(conditions(options.database), flush=True)
    with a_site(options.database) as (site, cluster):
        if options.between_statements:
            if cluster is None:
                parser.error("SQLite has no process of its own; see the test.")
            said = site.call(strike_everywhere, cluster=cluster.words())
            failures = said.pop("failures")
            print(json.dumps(said))
        else:
            failures = Soak(site, cluster, options).run()
    print(conditions(options.database))
    for failure in failures[:20]:
        print(f"  {failure}")
    print(f"Aim: nothing lost, doubled or in disorder. {len(failures)} failures.")
    return bool(failures)


# --- The database ---------------------------------------------------------------


@contextlib.contextmanager
def a_site(database: str) -> Iterator[tuple[Site, Cluster | None]]:
    if database == "sqlite":
        with fresh_site("sqlite") as site:
            yield site, None
        return
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster.make(Path(folder))
        cluster.start()
        os.environ["TEST_DATABASE_URL"] = cluster.url
        try:
            with fresh_site("postgres") as site, contextlib.ExitStack() as stack:
                stack.callback(cluster.start)  # so that the site can be dropped
                yield site, cluster
        except Exception as error:
            # The admin connection of fresh_site has died with the database.
            if type(error).__module__.partition(".")[0] != "psycopg":
                raise
        finally:
            cluster.kill("immediate")


class Cluster:
    """A PostgreSQL of our own, to be killed. Durable, as it comes."""

    def __init__(self, binaries: str, folder: str, port: int) -> None:
        self.binaries, self.folder, self.port = Path(binaries), Path(folder), port
        self.url = f"postgres://postgres@127.0.0.1:{port}/postgres"

    @classmethod
    def make(cls, folder: Path) -> Cluster:
        from tests.with_postgres import find_binaries, install_binaries

        cluster = cls(
            str(find_binaries() or install_binaries()), str(folder), free_port()
        )
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
        cluster._do("initdb", "-U", "postgres", "--auth", "trust")
        return cluster

    def words(self) -> list[Any]:
        return [str(self.binaries), str(self.folder), self.port]

    def start(self) -> None:
        if self._do("pg_ctl", "status", check=False) == 0:
            return
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1"
        log = str(self.folder / "log")
        # After a kill the old backends may need a moment to see that they are alone.
        for _ in range(40):
            start = ("-w", "-l", log, "-o", options, "start")
            if self._do("pg_ctl", *start, check=False) == 0:
                return
            time.sleep(0.25)
        sys.exit(f"PostgreSQL does not start:\n{Path(log).read_text()[-2000:]}")

    def kill(self, how: str) -> None:
        if how == "immediate":
            self._do("pg_ctl", "-w", "-m", "immediate", "stop", check=False)
            return
        pid = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)

    def _do(self, program: str, *words: str, check: bool = True) -> int:
        done = subprocess.run(
            [self.binaries / program, "-D", str(self.folder / "data"), *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user="postgres" if os.geteuid() == 0 else None,
            cwd=self.folder,
            check=check,
        )
        return done.returncode


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- Everybody at once ------------------------------------------------------------


class Soak:
    def __init__(
        self, site: Site, cluster: Cluster | None, options: argparse.Namespace
    ) -> None:
        self.site, self.cluster = site, cluster
        self.clients, self.seconds = options.clients, options.seconds
        self.tasks = options.tasks
        self.dice = random.Random(options.seed)
        self.port = free_port()
        self.is_over = self.is_given_up = False
        self.counts: Counter[str] = Counter()
        self.answers: dict[str, list[str]] = {}
        """Acknowledged verdicts by item, the last one standing; [] was skipped."""
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.failures: list[str] = []

    def run(self) -> list[str]:
        self.site.seed(tasks=self.tasks, annotators=self.clients, judged=1, required=2)
        names = [f"judge{n + 1}" for n in range(self.clients)]
        cookies = self.site.log_in(*names)
        self._start_web()
        works: list[Callable[[], None]] = [
            lambda seed=n, cookie=cookie: self._judge(cookie, random.Random(seed))
            for n, cookie in enumerate(cookies)
        ]
        works += [self._import, self._freeze]
        threads = [threading.Thread(target=self._guarded, args=[w]) for w in works]
        try:
            for thread in threads:
                thread.start()
            self._kill_until(time.monotonic() + self.seconds)
        except BaseException:
            self.is_given_up = True
            raise
        finally:
            # What was begun is brought to its end, with the web that it needs.
            self.is_over = True
            for thread in threads:
                thread.join()
            for name in self.processes:
                self._end(name)
        print(json.dumps(self.counts))
        wrong = self.site.call(
            compare, answers=self.answers, others=self.clients, clients=self.clients
        )
        return self.failures + wrong

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 (shown at the end)
            self.failures.append(f"{type(error).__name__}: {error}")

    # --- killing

    def _kill_until(self, deadline: float) -> None:
        victims = ["web", "import", "freeze"] + ["database"] * bool(self.cluster)
        for victim in itertools.cycle(victims):
            time.sleep(self.dice.uniform(0.3, 2.5))
            if time.monotonic() > deadline:
                return
            if victim == "database" and self.cluster:
                how = self.dice.choice(["immediate", "kill -9"])
                self.cluster.kill(how)
                self.counts[f"killed: database, {how}"] += 1
                time.sleep(self.dice.uniform(0, 0.5))
                self.cluster.start()
            elif self._end(victim):
                self.counts[f"killed: {victim}"] += 1
            if victim == "web":
                self._start_web()

    def _end(self, name: str) -> bool:
        """SIGKILL to the process and all its children; False if there is none."""
        process = self.processes.get(name)
        if process is None or process.poll() is not None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True

    def _start_web(self) -> None:
        self._spawn("web", "start", "--only", "web", "--port", str(self.port))
        while self.processes["web"].poll() is None:
            with contextlib.suppress(OSError):
                if Person(self.url).get("/login/").status == 200:
                    return
            time.sleep(0.1)
        raise RuntimeError("the web server does not start")

    def _spawn(self, name: str, *words: str) -> subprocess.Popen[bytes]:
        with (self.site.folder / f"{name}.log").open("ab") as output:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "manage.py", *words],
                cwd=ROOT,
                env=self.site.environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return self.processes[name]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    # --- people

    def _judge(self, cookie: str, dice: random.Random) -> None:
        person, queue = Person(self.url, cookie), f"/projects/{SLUG}/judge/"
        while not self.is_over:
            answer = self._insist(person, lambda: person.get(queue), 200, 302)
            if answer.status == 200:
                return  # nothing left
            item = answer.headers["Location"]
            self._insist(person, lambda at=item: person.get(at), 200)
            if dice.random() < 0.1:
                form = {"action": "skip", "note": "not mine"}
                self._send(person, item, form)
                self.answers[item] = []
                self.counts["skipped"] += 1
                continue
            for revision in range(1 + (dice.random() < 0.2)):
                verdict = dice.choice(["left", "right", "tie", "both_bad"])
                form = {"verdict": verdict, "replaces": str(revision)}
                self._send(person, item, form)
                self.answers.setdefault(item, []).append(verdict)
                self.counts["revised" if revision else "judged"] += 1

    def _send(self, person: Person, item: str, form: dict[str, str]) -> None:
        self._insist(person, lambda: person.post(item, form, htmx=False), 302)

    def _insist(self, person: Person, ask: Callable[[], Any], *statuses: int) -> Any:
        """Ask until there is an answer; what has none is asked again as it was."""
        for tries in range(2_000 if not self.is_given_up else 1):
            try:
                answer = ask()
            except (OSError, http.client.HTTPException):
                person.connection.close()
                answer = None
            if answer is not None and answer.status in statuses:
                self.counts["asked again"] += bool(tries)
                return answer
            if answer is not None and answer.status < 500:
                raise RuntimeError(f"answered with {answer.status}")
            time.sleep(0.05)
        raise RuntimeError("no answer after 2,000 tries")

    # --- imports and freezes

    def _import(self) -> None:
        for number in itertools.count():
            if self.is_over:
                return
            path = self.site.folder / f"import-{number}.jsonl"
            with path.open("w") as file:
                for n in range(ROWS):
                    pair = {"chosen": f"yes {n}", "rejected": f"no {n}"}
                    row = {"prompt": f"import {number}, {n}?", **pair}
                    file.write(json.dumps(row) + "\n")
            self._until_done("import", "import_data", SLUG, str(path))
            self.counts["imports"] += 1

    def _freeze(self) -> None:
        while not self.is_over:
            snapshot = self._begun()
            self._until_done("freeze", "freeze_snapshot", str(snapshot))
            self.counts["freezes"] += 1

    def _begun(self) -> int:
        while True:
            done = subprocess.run(
                [sys.executable, "manage.py", "shell", "-v0", "-c", BEGIN],
                cwd=ROOT,
                env=self.site.environment,
                capture_output=True,
                text=True,
            )
            if done.returncode == 0:
                return int(done.stdout.split()[-1])
            time.sleep(0.2)

    def _until_done(self, name: str, *words: str) -> None:
        for _ in range(500 if not self.is_given_up else 1):
            if self._spawn(name, *words).wait() == 0:
                return
            time.sleep(0.1)
        log = (self.site.folder / f"{name}.log").read_text()[-1000:]
        raise RuntimeError(f"{' '.join(words)} does not end:\n{log}")


BEGIN = f"""
from labelhub.models import Project
from training import exporting
from training.recipes import Recipe
project = Project.objects.get(slug={SLUG!r})
print(exporting.begin(project, Recipe(algorithm="dpo")).pk)
"""


# --- In a process with Django -----------------------------------------------------


def compare(answers: dict[str, list[str]], others: int, clients: int) -> list[str]:
    """What differs from what clients were told; and what check_integrity finds.

    `others`: judgments and items that were there before.
    """
    from labelhub import integrity, verdicts
    from labelhub.models import Assignment, Judgment

    wrong = [str(problem) for problem in integrity.problems()]
    for address, told in answers.items():
        item = Assignment.objects.get(pk=address.rstrip("/").rpartition("/")[2])
        rows = item.judgments.order_by("revision")
        stored = [verdicts.as_shown(row.verdict, swapped=item.swapped) for row in rows]
        state = "submitted" if told else "skipped"
        if stored != told or item.state != state:
            wrong.append(f"{item.pk}: told {told or state}, {item.state} {stored}")
    n_stored = Judgment.objects.filter(source="human").count() - others
    n_told = sum(map(len, answers.values()))
    if n_stored != n_told:
        wrong.append(f"{n_told} answers were acknowledged, {n_stored} are stored")
    held = Assignment.objects.filter(state="leased").count()
    if held > clients:
        wrong.append(f"{clients} people hold {held} items")
    return wrong


def strike_everywhere(cluster: list[Any]) -> dict[str, Any]:
    """The database dies at every step of what people do; they do it again."""
    import logging

    from django.db import Error, connections
    from django.test.utils import setup_test_environment

    from labelhub import integrity
    from tests.killing import leave_the_database, strike_at
    from tests.labelhub import test_killed_between_statements as killed

    logging.disable()
    setup_test_environment()
    database = Cluster(*cluster)
    struck: Counter[str] = Counter()
    failures: list[str] = []

    def blow() -> None:
        database.kill("immediate" if struck.total() % 2 else "kill -9")
        database.start()
        struck[scene.__name__] += 1

    for scene in (killed.claim, killed.submit, killed.revise, killed.skip):
        with tempfile.TemporaryDirectory() as folder:
            calm = scene(Path(folder))
            calm.act()
            wanted = killed.state_of(calm.project)
            for step in itertools.count(1):
                again, before = scene(Path(folder)), struck.total()
                with contextlib.suppress(Error):
                    strike_at(step, blow, again.act)
                connections.close_all()
                leave_the_database()
                again.act()
                if killed.state_of(again.project) != wanted:
                    failures.append(f"{scene.__name__}, struck at step {step}")
                if struck.total() == before:
                    break
    failures += [str(problem) for problem in integrity.problems()]
    return {"database killed": struck.total(), **struck, "failures": failures}


if __name__ == "__main__":
    sys.exit(main())
