"""Whoever is killed, stopped or cut off: one accepted result or one honest failure.

    python benchmarks/soak_queue.py [--kills 300] [--database sqlite|postgres]
                                    [--trainer fake|real] [--seed 1]

Two hosts of three slots share a fresh database and a store. Faults are drawn from KILLS
and OTHERS until so many processes have been killed; then everything may come to its
end, and an audit reads rows and files. As root, hosts and store lie on a small disk
that is filled now and then; otherwise that fault is left out. Exits with 1 if a promise
was broken.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.soak import pace  # noqa: E402
from benchmarks.soak.audit import Finding, audit, rows_of  # noqa: E402
from benchmarks.soak.site import Process, Site, enter_namespace  # noqa: E402

T = TypeVar("T")

KILLS = {
    "trainer": 22,
    "supervisor": 18,
    "agent": 2,
    "queue worker": 30,
    "queue sentinel": 4,
    "queue main": 4,
    "queue group": 3,
    "queue keeper": 3,
    "start": 0.5,
}
"""kill -9 of a process of this kind, and how often of a hundred faults."""
OTHERS = {
    "supervisor stopped": 2,
    "agent stopped": 1,
    "host stopped": 1,
    "pid used again": 3,
    "doubled triggers": 4,
    "doorbell lost": 3,
    "database away": 0.5,
    "disk full": 0.8,
    "cancel": 4,
    "stop": 4,
    "retry": 8,
}
STOPPED_SECONDS = pace.LEASE_SECONDS + 5
IN_FLIGHT = {"fake": 12, "real": 4}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--database", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--trainer", choices=["fake", "real"], default="fake")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=float, default=0.4, help="seconds a fault")
    parser.add_argument("--minutes", type=float, default=600, help="at most")
    parser.add_argument("--keep", action="store_true", help="keep the folder")
    options = parser.parse_args()
    enter_namespace()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    load = os.getloadavg()[0]
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    site = Site(folder, options.database, options.trainer)
    began = time.monotonic()
    try:
        soak = Soak(site, options)
        soak.run()
        found = soak.end()
    finally:
        site.burn_down()
    seconds = time.monotonic() - began
    print_table(soak, found)
    print_conditions(site, options, seconds, load)
    for problem in found.problems[:50]:
        print("BROKEN:", problem)
    print("promises kept" if not found.problems else f"{len(found.problems)} broken")
    if found.problems or options.keep:
        shutil.copytree(site.folder, folder / "kept", symlinks=True)
        print(f"what was left: {folder}")
    else:
        site.unmount()
        shutil.rmtree(folder, ignore_errors=True)
    return bool(found.problems)


class Soak:
    """Launches runs, and breaks what runs them."""

    def __init__(self, site: Site, options: argparse.Namespace) -> None:
        self.site, self.options = site, options
        self.chance = random.Random(options.seed)
        self.counts: Counter[str] = Counter()
        self.hit: dict[str, list[int]] = defaultdict(list)
        """Fault -> the runs it hit."""
        self.trainers_killed: set[str] = set()
        self.alarms: list[threading.Timer] = []
        self.away: threading.Thread | None = None
        self.full: threading.Thread | None = None
        self.decoy = subprocess.Popen(["sleep", "100000"])
        os.environ.update(site.environment)
        import django

        django.setup()
        # It is to be away; we need not be told each time.
        logging.getLogger("psycopg.pool").disabled = True
        from django.core.management import call_command
        from django.db import connection

        # We have more to do than to wait for a database that we sent away.
        told = connection.settings_dict["OPTIONS"]
        told.get("pool", told)["timeout"] = 1
        call_command("migrate", verbosity=0)
        self.project = self._make_project()
        if options.trainer == "real":
            self._write_data()

    # --- The course ---

    def run(self) -> None:
        self.site.keep()
        self._wait_until(lambda: self._one("SELECT COUNT(*) FROM training_worker") == 2)
        names, weights = zip(*(KILLS | OTHERS).items(), strict=True)
        said_at = 0.0
        until = time.monotonic() + 60 * self.options.minutes
        while (killed := self._killed()) < self.options.kills:
            if time.monotonic() > until:
                break
            self.site.keep()
            self._top_up()
            (name,) = self.chance.choices(names, weights)
            if self.do(name):
                self.counts[name] += 1
            time.sleep(self.chance.uniform(0, 2 * self.options.every))
            if time.monotonic() - said_at > 30:
                said_at = time.monotonic()
                print(f"{killed} killed of {self.options.kills}", flush=True)

    def end(self) -> Finding:
        """Let everything come to its end, stop the site, and have it audited."""
        for thread in (self.away, self.full, *self.alarms):
            if thread:
                thread.join()
        ended = "SELECT COUNT(*) FROM training_run WHERE state NOT IN "
        ended += "('succeeded', 'stopped', 'canceled', 'failed')"
        taken = "SELECT COUNT(*) FROM training_gpuslot WHERE attempt_id IS NOT NULL"
        self._wait_until(lambda: self._one(ended) == 0 == self._one(taken), 600)
        time.sleep(5)
        self.site.stop()
        left = self.site.processes()
        found = audit(self.site, self.trainers_killed, self.counts["disk full"] > 0)
        found.problems += [f"a process is left: {process}" for process in left]
        recount = subprocess.run(
            [sys.executable, "manage.py", "check_integrity"],
            cwd=ROOT,
            env=self.site.environment,
            capture_output=True,
            text=True,
        )
        if recount.returncode:
            found.problems.append(f"check_integrity: {recount.stdout}{recount.stderr}")
        if self.decoy.poll() is not None:
            found.problems.append("a process of somebody else was killed")
        self.decoy.kill()
        self.decoy.wait()
        return found

    def do(self, name: str) -> bool:
        """One fault; False where there is nothing to break now."""
        if name in KILLS:
            return self._kill(name)
        action: Callable[[], bool] = getattr(self, "_" + name.replace(" ", "_"))
        return action()

    # --- kill -9 ---

    def _killed(self) -> int:
        return sum(self.counts[name] for name in KILLS)

    def _kill(self, kind: str) -> bool:
        everybody = self.site.processes()
        if kind == "queue group":
            mains = [p for p in everybody if p.kind == "queue main"]
            if not mains:
                return False
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.chance.choice(mains).pid, signal.SIGKILL)
            return True
        found = [p for p in everybody if p.kind == kind]
        if not found:
            return False
        victim = self.chance.choice(found)
        if kind == "trainer":
            self.trainers_killed.add(victim.attempt)
        if not victim.signal(signal.SIGKILL):
            return False
        self._note(kind, victim)
        return True

    # --- SIGSTOP past the lease, SIGCONT ---

    def _supervisor_stopped(self) -> bool:
        return self._sleep("supervisor stopped", {"supervisor"}, most=1)

    def _agent_stopped(self) -> bool:
        return self._sleep("agent stopped", {"agent"}, most=1)

    def _host_stopped(self) -> bool:
        """Agent and supervisors, as if cut off, while the trainers go on."""
        host = self.chance.choice(self.site.hosts).environment["WORKER_NAME"]
        kinds = {"agent", "supervisor", "queue worker"}
        return self._sleep("host stopped", kinds, host=host)

    def _sleep(
        self, fault: str, kinds: set[str], most: int = 99, host: str = ""
    ) -> bool:
        found = [
            process
            for process in self.site.processes()
            if process.kind in kinds and host in ("", process.host)
        ]
        self.chance.shuffle(found)
        found = [p for p in found[:most] if p.signal(signal.SIGSTOP)]
        for process in found:
            self._note(fault, process)
        # By a thread: who sleeps in a transaction may keep us from going on.
        alarm = threading.Timer(STOPPED_SECONDS, wake, [found])
        alarm.start()
        self.alarms.append(alarm)
        return bool(found)

    # --- Rows that say something wrong ---

    def _pid_used_again(self) -> bool:
        """An attempt's supervisor is said to be a pid that somebody else has now."""
        from training.models import Attempt
        from training.processes import boot_id, identity

        who: dict[str, Any] = {**(identity(self.decoy.pid) or {})}
        if self.chance.random() < 0.5:
            who["started"] = "1"
        else:
            who["boot_id"] = boot_id()[::-1]
        running = Attempt.objects.filter(state="running").exclude(trainer={})
        found = self._ask(lambda: list(running.values_list("pk", "run_id")))
        if not found:
            return False
        attempt, run = self.chance.choice(found)
        moved = self._ask(lambda: running.filter(pk=attempt).update(supervisor=who))
        if moved:
            self.hit["pid used again"].append(run)
        return bool(moved)

    def _doubled_triggers(self) -> bool:
        from training import runs

        def ring() -> bool:
            for _ in range(10):
                runs.ring()
            return True

        return bool(self._ask(ring))

    def _doorbell_lost(self) -> bool:
        from django_q.models import OrmQ

        return self._ask(OrmQ.objects.all().delete) is not None

    # --- What the site stands on ---

    def _database_away(self) -> bool:
        if self.away and self.away.is_alive():
            return False
        # The first is the longest: longer than the lease, several times.
        seconds = 60.0 if self.away is None else self.chance.uniform(2, 25)
        self.away = threading.Thread(
            target=self.site.database.go_away, args=[seconds], daemon=True
        )
        self.away.start()
        return True

    def _disk_full(self) -> bool:
        if not self.site.has_own_disk or (self.full and self.full.is_alive()):
            return False
        self.full = threading.Thread(
            target=self.site.fill_disk, args=[self.chance.uniform(1, 8)], daemon=True
        )
        self.full.start()
        return True

    # --- People ---

    def _cancel(self) -> bool:
        return self._act("cancel", ("queued", "running", "stopping"))

    def _stop(self) -> bool:
        return self._act("stop", ("running",))

    def _retry(self) -> bool:
        return self._act("retry", ("failed",))

    def _act(self, verb: str, states: tuple[str, ...]) -> bool:
        from training import runs
        from training.models import Run

        newest = Run.objects.filter(state__in=states).order_by("-pk")[:40]
        found = self._ask(lambda: list(newest))
        if not found:
            return False
        run = self.chance.choice(found)
        try:
            done = self._ask(lambda: getattr(runs, verb)(run, actor=None) or True)
        except runs.RunRefused:
            return False
        if done:
            self.hit[verb].append(run.pk)
        return bool(done)

    # --- Parts ---

    def _top_up(self) -> None:
        """Keep so many runs in flight; most take a second or three."""
        from training import runs
        from training.models import Run

        flying = self._ask(Run.objects.exclude(state__in=Run.FINAL).count)
        if flying is None or flying >= IN_FLIGHT[self.options.trainer]:
            return
        seconds = self.chance.choices([1, 3, 20], [50, 45, 5])[0]
        config: dict[str, Any] = {
            "fake": {"base_model": "org/tiny", "dataset_path": "org/pairs"},
            "real": {
                "base_model": "starter:tiny",
                "dataset_path": "pairs.jsonl",
                "max_steps": 4,
                "logging": {"save_interval": 2},
                "max_length": 64,
                "cpu_threads": 1,
            },
        }[self.options.trainer]
        self._ask(
            lambda: runs.launch(
                self.project,
                actor=None,
                name=f"soak seconds={seconds}",
                config={"algorithm": "dpo", **config},
            )
        )

    def _ask(self, question: Callable[[], T]) -> T | None:
        """None while the database is away, which is part of the game."""
        from django.db import InterfaceError, OperationalError, connection

        try:
            return question()
        except (OperationalError, InterfaceError):
            connection.close()
            return None

    def _one(self, query: str) -> Any:
        with contextlib.suppress(Exception), rows_of(self.site) as read:
            return read(query)[0][0]
        return None

    def _wait_until(self, condition: Callable[[], bool], seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while not condition() and time.monotonic() < deadline:
            self.site.keep()
            time.sleep(0.2)

    def _note(self, fault: str, victim: Process) -> None:
        if victim.attempt:
            self.hit[fault].append(int(victim.attempt.split("/")[2]))

    def _make_project(self) -> Any:
        from labelhub.models import Project

        return Project.objects.create(name="Soak", slug="soak", kind="pairwise")

    def _write_data(self) -> None:
        import json

        path = self.site.folder / "data" / "pairs.jsonl"
        path.parent.mkdir()
        with path.open("w") as file:
            for n in range(60):
                row = {
                    "prompt": f"What is {n} plus one?",
                    "chosen": f"It is {n + 1}, for one more than {n} is {n + 1}.",
                    "rejected": f"I do not know what {n} plus one is.",
                }
                file.write(json.dumps(row) + "\n")


def wake(sleepers: list[Process]) -> None:
    for process in sleepers:
        process.signal(signal.SIGCONT)


def print_table(soak: Soak, found: Finding) -> None:
    print(f"\n{'fault':<22}{'times':>6}  what became of the runs it hit")
    for name in KILLS | OTHERS:
        became = Counter(found.states.get(run, "?") for run in soak.hit[name])
        story = ", ".join(f"{state} {n}" for state, n in became.most_common())
        label = f"kill -9 {name}" if name in KILLS else name
        print(f"{label:<22}{soak.counts[name]:>6}  {story or '-'}")
    print(f"\n{soak._killed()} kills")
    for name, n in sorted(found.counts.items()):
        print(f"{name}: {n}")


def print_conditions(
    site: Site, options: argparse.Namespace, seconds: float, load: float
) -> None:
    commit = subprocess.run(
        ["git", "-C", ROOT, "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
    ).stdout.strip()
    print(
        f"\n{seconds:.0f} s, {os.cpu_count()} cores, load {load:.1f} before and "
        f"{os.getloadavg()[0]:.1f} after, Python {platform.python_version()}, "
        f"{site.database.version}, {options.trainer} trainer, seed {options.seed}, "
        f"commit {commit}; lease {pace.LEASE_SECONDS:g} s, "
        f"beat {pace.BEAT_SECONDS:g} s, canary {pace.CANARY_SECONDS:g} s, "
        f"stopped for {STOPPED_SECONDS:g} s"
        + ("" if site.has_own_disk else "; no disk of its own, so never full")
    )


if __name__ == "__main__":
    sys.exit(main())
