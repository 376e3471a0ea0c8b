"""A whole site in real processes, to be killed."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import psutil
from django.conf import settings
from django.db import connection

from training import processes
from training.models import Run, Worker

VICTIMS = ("trainer", "supervisor", "queue process", "queue", "agent")


class House:
    """`manage.py start` on the test's database, with three GPUs that are not there."""

    def __init__(self, folder: Path) -> None:
        self.data_dir = folder / "house"
        self.data_dir.mkdir()
        tools = folder / "tools"
        tools.mkdir()
        smi = tools / "nvidia-smi"
        smi.write_text("#!/bin/sh\nfor i in 0 1 2; do echo $i, Fake GPU, 1000; done\n")
        smi.chmod(0o755)
        self.environment = {
            **os.environ,
            "PATH": f"{tools}:{os.environ['PATH']}",
            "DATA_DIR": str(self.data_dir),
            "DATABASE_URL": _database_url(),
            "DJANGO_SETTINGS_MODULE": "tests.training.fake_settings",
            # The queue refuses what another key has signed.
            "SECRET_KEY": settings.SECRET_KEY,
            "WORKER_NAME": "house",
        }
        self.port = free_port()
        self.log = folder / "house.log"
        self.main: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.main = subprocess.Popen(
                [sys.executable, "manage.py", "start", "--port", str(self.port)],
                cwd=settings.BASE_DIR,
                env=self.environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def serves(self) -> bool:
        """Whether the web server and the agent are both there."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/login/") as page:
                return page.status == 200 and Worker.objects.exclude(pid=0).exists()
        except OSError:
            return False

    def stop(self) -> int:
        """As Ctrl-C does it; the exit code."""
        assert self.main is not None
        self.main.send_signal(signal.SIGINT)
        return self.main.wait(timeout=120)

    def burn_down(self) -> None:
        """Leave nothing behind, also after a failed test."""
        processes.kill(self.everybody)
        if self.main is not None:
            self.main.wait()

    def everybody(self) -> list[psutil.Process]:
        """Every living process of this house, whoever its parent is now."""
        found = []
        for process in psutil.process_iter():
            try:
                environment = process.environ()
                if process.status() == psutil.STATUS_ZOMBIE:
                    continue
            except (psutil.Error, OSError):
                continue
            attempt = environment.get(processes.ATTEMPT_MARK, "")
            if environment.get("DATA_DIR") == str(self.data_dir) or attempt.startswith(
                str(self.data_dir)
            ):
                found.append(process)
        return found

    def kill(self, victim: str) -> bool:
        """kill -9 one process of this kind, if there is one now."""
        words = {
            "trainer": "fake_trainer.py",
            "supervisor": "supervise",
            "queue process": "qcluster",
            "queue": "queue",
            "agent": "gpu",
        }
        found = [p for p in self.everybody() if words[victim] in _words(p)]
        if not found:
            return False
        processes.send([random.choice(found)], signal.SIGKILL)
        return True


def eventually(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "this did not come true"
        time.sleep(0.1)


def all_final() -> bool:
    return not Run.objects.exclude(state__in=Run.FINAL).exists()


def _words(process: psutil.Process) -> set[str]:
    try:
        return {Path(word).name for word in process.cmdline()}
    except psutil.Error:
        return set()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _database_url() -> str:
    at = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite://{quote(str(at['NAME']))}"
    who = quote(at["USER"]) + (f":{quote(at['PASSWORD'])}" if at["PASSWORD"] else "")
    where = f"{at['HOST']}:{at['PORT'] or 5432}"
    return f"postgres://{who}@{where}/{at['NAME']}"
