"""Two hosts, a database that can go away, and a disk that can be filled."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from tests.with_postgres import find_binaries

ROOT = Path(__file__).parents[2]
SLOTS = 3


@dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    kind: str
    host: str
    attempt: str
    """The run directory, below the folder of the soak; "" for none."""

    def signal(self, number: int) -> bool:
        """Send it, if the pid is still that of a process of ours."""
        with contextlib.suppress(OSError):
            handle = os.pidfd_open(self.pid)
            try:
                if Path(f"/proc/{self.pid}/stat").read_text().split()[3] != str(
                    self.parent
                ):
                    return False
                signal.pidfd_send_signal(handle, number)
                return True
            finally:
                os.close(handle)
        return False


def processes(folder: Path) -> list[Process]:
    """Every living process that works in this folder, whoever started it."""
    found = {}
    mark = str(folder).encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            raw = (entry / "environ").read_bytes()
            if mark not in raw:
                continue
            words = (entry / "cmdline").read_bytes().decode().split("\0")[:-1]
            stat = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if stat[0] in "ZX":
            continue
        environment = dict(
            pair.split("=", 1) for pair in raw.decode().split("\0") if "=" in pair
        )
        attempt = environment.get("LABELHUB_ATTEMPT", "")
        home = attempt or environment.get("DATA_DIR", "")
        with contextlib.suppress(ValueError):
            inside = Path(home).relative_to(folder).parts
            found[int(entry.name)] = (
                int(stat[1]),
                kind_of(words),
                inside[0],
                "/".join(inside) if attempt else "",
            )
    return [
        Process(pid, parent, _of_queue(kind, parent, found), host, attempt)
        for pid, (parent, kind, host, attempt) in found.items()
    ]


def kind_of(words: list[str]) -> str:
    names = {Path(word).name for word in words}
    if names & {"trainer.py", "fake_trainer.py", "training.core.run"}:
        return "trainer"
    if "supervise" in names:
        return "supervisor"
    if "qcluster" in names:
        return "queue main"
    if "--only" in words:
        return {"queue": "queue keeper", "gpu": "agent"}.get(
            words[words.index("--only") + 1], "web"
        )
    return "start" if "start" in names else "other"


def _of_queue(
    kind: str, parent: int, found: dict[int, tuple[int, str, str, str]]
) -> str:
    """Which of django-q2's processes it is: all of them carry the same words."""
    if kind != "queue main" or parent not in found or found[parent][1] != kind:
        return kind
    grandparent = found[parent][0]
    is_child = grandparent in found and found[grandparent][1] == kind
    return "queue worker" if is_child else "queue sentinel"


class Host:
    """One machine, as a service manager keeps it: what ends is started again.

    A whole host runs `manage.py start`; the other its queue and its agent apart.
    """

    def __init__(self, folder: Path, environment: dict[str, str], *, whole: bool):
        self.log = folder.with_suffix(".log")
        self.environment = {
            **environment,
            "DATA_DIR": str(folder),
            "WORKER_NAME": folder.name,
        }
        folder.mkdir()
        self.parts: dict[str, subprocess.Popen[bytes] | None]
        self.parts = dict.fromkeys(["all"] if whole else ["queue", "gpu"])
        self._not_before = dict.fromkeys(self.parts, 0.0)

    def keep(self) -> None:
        """Start what does not run."""
        for name, process in self.parts.items():
            if process is not None and process.poll() is not None:
                self.parts[name] = None
                self._not_before[name] = time.monotonic() + 1
            elif process is None and time.monotonic() > self._not_before[name]:
                self.parts[name] = self._start(name)

    def stop(self) -> None:
        for process in self.parts.values():
            if process is not None and process.poll() is None:
                process.terminate()
        for process in self.parts.values():
            if process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=150)

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        words = ["--port", str(free_port())] if name == "all" else ["--only", name]
        with self.log.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "manage.py", "start", *words],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Sqlite:
    """A file that somebody else may keep locked."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "soak.sqlite3"
        self.url = f"sqlite://{self.path}"
        self.version = f"SQLite {sqlite3.sqlite_version}"

    def go_away(self, seconds: float) -> None:
        with contextlib.closing(
            sqlite3.connect(self.path, timeout=60, isolation_level=None)
        ) as other:
            other.execute("BEGIN IMMEDIATE")
            time.sleep(seconds)
            other.execute("ROLLBACK")

    def close(self) -> None:
        pass


class Postgres:
    """A server of our own, to be killed and started again."""

    def __init__(self, folder: Path) -> None:
        binaries = find_binaries()
        if binaries is None:
            sys.exit("No PostgreSQL here: install its server package, or use sqlite.")
        self.binaries, self.folder = binaries, folder
        self.user = "postgres" if os.geteuid() == 0 else None
        if self.user:
            folder.parent.chmod(0o755)
            shutil.chown(folder, self.user)
        self.port = free_port()
        self.url = f"postgres://postgres@127.0.0.1:{self.port}/postgres"
        arguments = ["-U", "postgres", "--auth", "trust", "--no-sync", "-E", "UTF8"]
        self._run("initdb", "-D", f"{folder}/data", *arguments)
        version = [str(binaries / "postgres"), "--version"]
        self.version = subprocess.check_output(version, text=True).strip()
        self._start()

    def go_away(self, seconds: float) -> None:
        self._control("-m", "immediate", "stop")
        time.sleep(seconds)
        self._start()

    def close(self) -> None:
        # It may be away just now.
        with contextlib.suppress(subprocess.CalledProcessError):
            self._control("-m", "immediate", "stop")

    def _start(self) -> None:
        options = (
            f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 "
            "-c fsync=off -c max_connections=200"
        )
        self._control("-w", "-l", f"{self.folder}/log", "-o", options, "start")

    def _control(self, *arguments: str) -> None:
        self._run("pg_ctl", "-D", f"{self.folder}/data", *arguments)

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self.binaries / program, *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            user=self.user,
            cwd=self.folder,
            # Without the mark of the site: it is not a process of a host.
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
        )


class Site:
    """Hosts, database, store, and what was written down about them."""

    def __init__(self, folder: Path, database: str, trainer: str) -> None:
        self.folder = folder / "site"
        self.folder.mkdir()
        self.has_own_disk = mount(self.folder, 1024 if trainer == "fake" else 4096)
        (self.folder / "locks").mkdir()
        tools = self.folder / "tools"
        tools.mkdir()
        smi = tools / "nvidia-smi"
        slots = " ".join(map(str, range(SLOTS)))
        smi.write_text(
            f"#!/bin/sh\nfor i in {slots}; do echo $i, Fake GPU, 1000; done\n"
        )
        smi.chmod(0o755)
        apart = folder / "database"
        apart.mkdir()
        self.database = Sqlite(apart) if database == "sqlite" else Postgres(apart)
        self.environment = {
            **os.environ,
            "PATH": f"{tools}:{os.environ['PATH']}",
            "DATABASE_URL": self.database.url,
            "DATA_DIR": str(self.folder / "desk"),
            "DATA_ROOTS": str(self.folder / "data"),
            "ARTIFACT_STORE": str(self.folder / "store"),
            "DJANGO_SETTINGS_MODULE": "benchmarks.soak.settings",
            "SECRET_KEY": "a key of the soak, the same on all its hosts",
            "SOAK_TRAINER": trainer,
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
        }
        self.hosts = [
            Host(self.folder / "alder", self.environment, whole=False),
            Host(self.folder / "birch", self.environment, whole=True),
        ]

    def processes(self) -> list[Process]:
        return processes(self.folder)

    def keep(self) -> None:
        for host in self.hosts:
            host.keep()

    def stop(self) -> None:
        threads = [threading.Thread(target=host.stop) for host in self.hosts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def fill_disk(self, seconds: float) -> None:
        ballast = self.folder / "ballast"
        with ballast.open("wb", buffering=0) as file:
            for size in (2**20, 2**12):
                with contextlib.suppress(OSError):
                    while file.write(bytes(size)) == size:
                        pass
        time.sleep(seconds)
        ballast.unlink()

    def unmount(self) -> None:
        if self.has_own_disk:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True)

    def burn_down(self) -> None:
        """End everything, also after an error."""
        for _ in range(20):
            for process in (left := self.processes()):
                process.signal(signal.SIGKILL)
            if not left:
                break
            time.sleep(0.2)
        self.database.close()


def mount(folder: Path, megabytes: int) -> bool:
    """Give the folder a small disk of its own, seen by our processes only."""
    if os.environ.get("SOAK_NAMESPACE") != str(os.getpid()):
        return False
    options = ["-t", "tmpfs", "-o", f"size={megabytes}m", "soak", str(folder)]
    return subprocess.run(["mount", *options], check=False).returncode == 0


def enter_namespace() -> None:
    """Begin again in a mount namespace of our own, where root may have one.

    What is mounted there goes with its last process, however that ends.
    """
    if "SOAK_NAMESPACE" in os.environ or os.geteuid() != 0:
        return
    if shutil.which("unshare") is None:
        return
    if subprocess.run(["unshare", "--mount", "true"], check=False).returncode == 0:
        # unshare becomes us without a fork: the pid stays.
        os.environ["SOAK_NAMESPACE"] = str(os.getpid())
        os.execvp("unshare", ["unshare", "--mount", sys.executable, *sys.argv])
