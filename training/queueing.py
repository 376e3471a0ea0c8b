"""Keeps django-q2 alive: one cluster in its own process group, and a canary in it.

A cluster whose idle workers or whose monitor were killed looks alive and does nothing
for ever. So a task is sent every minute; when three times nothing has come back, the
whole group is killed and started again. Nothing is lost, for tasks are in the database.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from types import FrameType

import structlog
from django.conf import settings
from django.db import InterfaceError, OperationalError, connection
from django_q.models import Task
from django_q.tasks import async_task

from training import processes

log = structlog.get_logger("training.queueing")

CANARY_SECONDS = 60.0
MISSES = 3
GOODBYE_SECONDS = 15.0
"""The running task gets so long to finish; those that wait stay in the database."""


class QueueKeeper:
    """Runs one cluster until told to stop."""

    def __init__(self) -> None:
        self.cluster: subprocess.Popen[bytes] | None = None
        self.is_stopping = False
        self.misses = 0
        self.restarts = -1
        self._canary = ""
        self._next_canary_at = 0.0

    def run(self) -> None:
        while not self.is_stopping:
            if self.cluster is None or self.cluster.poll() is not None:
                self.restart()
            self.listen()
            time.sleep(0.2)
        self.end()

    def stop(self, number: int, frame: FrameType | None) -> None:
        self.is_stopping = True

    def restart(self) -> None:
        """Kill what is left of a cluster, here or from before us, and start another.

        A killed sentinel or main process leaves workers that go on taking tasks.
        """
        self._kill()
        self.restarts += 1
        self.misses, self._canary = 0, ""
        self._next_canary_at = time.monotonic()
        self.cluster = subprocess.Popen(  # noqa: S603
            [sys.executable, str(settings.BASE_DIR / "manage.py"), "qcluster"],
            cwd=settings.BASE_DIR,
            env={**os.environ, processes.QUEUE_MARK: str(settings.DATA_DIR)},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=lambda: processes.die_with_parent(signal.SIGTERM),
        )

    def listen(self) -> None:
        """Send a canary every minute, and restart the cluster after three misses."""
        if time.monotonic() < self._next_canary_at:
            return
        self._next_canary_at = time.monotonic() + CANARY_SECONDS
        try:
            if self._canary and not self._has_sung():
                self.misses += 1
            else:
                self.misses = 0
                self._canary = async_task("training.tasks.canary", group="canary")
                async_task("labelhub.tasks.reap_leases")
        except (OperationalError, InterfaceError):
            connection.close()
            return
        if self.misses >= MISSES:
            log.error("the queue does nothing: starting it again")
            self.restart()

    def end(self) -> None:
        if self.cluster is not None and self.cluster.poll() is None:
            self.cluster.terminate()
            try:
                self.cluster.wait(timeout=GOODBYE_SECONDS)
            except subprocess.TimeoutExpired:
                log.warning("the queue does not stop: killed")
        self._kill()

    def _has_sung(self) -> bool:
        """Whether the canary, or any task after it, has come to an end."""
        canaries = Task.objects.filter(group="canary")
        if canaries.filter(pk=self._canary).exists():
            canaries.delete()
            return True
        busy_since = time.time() - CANARY_SECONDS
        newest = Task.objects.order_by("-stopped").values_list("stopped").first()
        return newest is not None and newest[0].timestamp() > busy_since

    def _kill(self) -> None:
        processes.kill(
            lambda: processes.marked(settings.DATA_DIR, processes.QUEUE_MARK)
        )
        if self.cluster is not None:
            self.cluster.wait()
