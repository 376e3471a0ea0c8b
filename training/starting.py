"""Web, queue and agent of one machine, as children whose output is told apart."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from types import FrameType
from typing import IO

from django.conf import settings
from django.db import connection

from training import hosts, processes, queueing

PARTS = ("web", "queue", "gpu")

PARENT = "LABELHUB_STARTED_BY"
"""The variable that tells a part the pid it is to end with."""

PATIENCE = {
    "web": 15.0,
    "queue": queueing.GOODBYE_SECONDS + 10.0,
    "gpu": hosts.GOODBYE_SECONDS + 30.0,
}
"""Seconds from SIGTERM to SIGKILL."""
TOO_SOON_SECONDS = 5.0
"""A part that ends so soon, three times in a row, will not do better."""


class CannotStart(Exception):
    """The sentence says what is in the way."""


def check_port(host: str, port: int) -> None:
    """Refuse a port that something else listens on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise CannotStart(
                f"{host}:{port} cannot be used ({(error.strerror or '').lower()}): "
                "stop what listens there, or choose another with --port "
                "(`make run PORT=8010`)."
            ) from None


def end_with_parent(number: signal.Signals) -> None:
    """Let a part stop when the process that started it is gone, however it went."""
    parent = os.environ.pop(PARENT, "")
    if parent:
        processes.die_with_parent(number)
        if os.getppid() != int(parent):
            sys.exit(1)


def web_processes() -> int:
    """How many processes serve the web, unless somebody says otherwise.

    Python runs one thread of a process at a time, and every answer of the database
    waits for its turn: two processes of two threads answered 100 judgments a second on
    PostgreSQL where one of four could not. On SQLite a second one would only compete
    for the lock of the file.
    """
    return 1 if connection.vendor == "sqlite" else 2


@dataclass(frozen=True)
class Web:
    """The web server: where it listens, and how wide it is."""

    host: str
    port: int
    processes: int
    threads: int

    def options(self) -> list[str]:
        """The same on the command line of `manage.py start --only web`."""
        names = ("host", "port", "processes", "threads")
        return [w for name in names for w in (f"--{name}", str(getattr(self, name)))]

    def serve(self) -> None:
        """Become the web server. This process is replaced and never returns."""
        check_port(self.host, self.port)
        options = {
            "--interface": "wsgi",
            "--host": self.host,
            "--port": str(self.port),
            "--workers": str(self.processes),
            "--blocking-threads": str(self.threads),
            "--log-level": "warning",
            # After SIGINT to the group a worker now and then hangs: 4 of 6 tries.
            "--workers-kill-timeout": "5",
        }
        words = [word for pair in options.items() for word in pair]
        # labelhub.wsgi reads it: a worker must not outlive its master.
        os.environ["LABELHUB_WEB_MASTER"] = str(os.getpid())
        os.chdir(settings.BASE_DIR)
        os.execv(  # noqa: S606
            sys.executable,
            [
                sys.executable,
                "-m",
                "granian",
                *words,
                "--no-ws",
                "--respawn-failed-workers",
                "labelhub.wsgi:application",
            ],
        )


class Household:
    """Starts the parts, starts again what dies, and stops them in order."""

    def __init__(self, options: list[str], output: IO[str]) -> None:
        self.options = options
        self.output = output
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self.readers: list[threading.Thread] = []
        self.is_stopping = False
        self._started_at: dict[str, float] = {}
        self._early_ends: dict[str, int] = dict.fromkeys(PARTS, 0)

    def run(self) -> None:
        try:
            for name in PARTS:
                self._start(name)
            while not self.is_stopping:
                self._look()
                time.sleep(0.2)
        finally:
            self._stop_all()

    def stop(self, number: int, frame: FrameType | None) -> None:
        if self.is_stopping:
            # Asked again: no more waiting for training to be saved.
            self._terminate("gpu")
        self.is_stopping = True

    def say(self, name: str, text: str) -> None:
        self.output.write(f"{name:<5} | {text}\n")
        self.output.flush()

    def _start(self, name: str) -> None:
        command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "start"]
        child = subprocess.Popen(  # noqa: S603
            [*command, "--only", name, *(self.options if name == "web" else [])],
            env={**os.environ, PARENT: str(os.getpid()), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Of its own, so that Ctrl-C reaches only us and we decide the order.
            start_new_session=True,
        )
        self.children[name] = child
        self._started_at[name] = time.monotonic()
        reader = threading.Thread(target=self._read, args=[name, child], daemon=True)
        reader.start()
        self.readers.append(reader)

    def _read(self, name: str, child: subprocess.Popen[bytes]) -> None:
        for line in child.stdout or ():
            self.say(name, line.decode("utf-8", "replace").rstrip())

    def _look(self) -> None:
        for name, child in self.children.items():
            if child.poll() is None:
                continue
            self._kill_group(name)
            # One that was killed is started again however often that happens.
            too_soon = (
                child.returncode > 0
                and time.monotonic() - self._started_at[name] < TOO_SOON_SECONDS
            )
            self._early_ends[name] = self._early_ends[name] + 1 if too_soon else 0
            if self._early_ends[name] >= 3:
                raise CannotStart(
                    f"{name} ends as soon as it starts (exit code {child.returncode}); "
                    "its lines above say why."
                )
            self.say(name, f"ended with exit code {child.returncode}: starting again")
            self._start(name)
            return

    def _stop_all(self) -> None:
        # The queue first: it must start no supervisor that the agent no longer sees.
        for names in (("queue",), ("web", "gpu")):
            for name in names:
                self._terminate(name)
            for name in names:
                if child := self.children.get(name):
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        child.wait(timeout=PATIENCE[name])
                    self._kill_group(name)
                    child.wait()
        for reader in self.readers:
            reader.join(timeout=2)

    def _terminate(self, name: str) -> None:
        child = self.children.get(name)
        if child is not None and child.poll() is None:
            child.terminate()

    def _kill_group(self, name: str) -> None:
        """End what a part left behind; supervisors are in sessions of their own."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.children[name].pid, signal.SIGKILL)
