"""The agent of one host: beats, claims for its free slots, reaps its own dead attempts.

It is the sweep behind the doorbell: what django-q2 loses, doubles or hands to a busy
host is found here within seconds.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
import structlog
from django.conf import settings
from django.db import InterfaceError, OperationalError, connection
from django.db.models.functions import Now

from training import attempts, inputs, processes, runs
from training.models import Attempt, GpuSlot, Worker
from training.shipping import Shipper

log = structlog.get_logger("training.hosts")

SWEEP_SECONDS = 2.0
GOODBYE_SECONDS = 60.0
"""How long supervisors get to save when the host is stopped."""
MIN_FREE_BYTES = 64 * 2**20
"""With less room than this on the disk of its run directories a host takes no run."""

Running = Attempt.State.RUNNING


class AgentRuns(Exception):
    """There is an agent of this host already."""


# --- What the host has --------------------------------------------------------


def detect_slots() -> tuple[dict[str, Any], list[tuple[int, str, int]]]:
    """The device of this host, and (index, name, bytes) of each slot.

    Asked of nvidia-smi rather than torch, which would cost every agent 200 MB.
    """
    memory = psutil.virtual_memory().total
    device = {"kind": "cpu", "name": "CPU", "cores": os.cpu_count() or 1}
    if gpus := list(_gpus()):
        device |= {"kind": "cuda", "name": gpus[0][1]}
        memory = gpus[0][2]
    slots = gpus or [(0, "CPU", memory)]
    return device | {"memory_bytes": memory}, slots


def _gpus() -> Iterator[tuple[int, str, int]]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    query = ["--query-gpu=index,name,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(  # noqa: S603
            ["nvidia-smi", *query],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return
    for line in answer.stdout.splitlines():
        index, name, mebibytes = (part.strip() for part in line.split(","))
        if visible is None or index in visible.split(","):
            yield int(index), name[:100], int(mebibytes) * 2**20


def register() -> Worker:
    """Describe this host in the database, with one slot a device."""
    device, slots = detect_slots()
    worker, _ = Worker.objects.update_or_create(
        host=settings.WORKER_NAME,
        defaults={
            "boot_id": processes.boot_id(),
            "pid": os.getpid(),
            "device": device,
            "beat_at": Now(),
        },
    )
    for index, name, memory in slots:
        GpuSlot.objects.update_or_create(
            worker=worker, index=index, defaults={"name": name, "memory_bytes": memory}
        )
    gone = worker.slots.exclude(index__in=[index for index, _, _ in slots])
    gone.filter(attempt=None).delete()
    return worker


# --- Claiming -----------------------------------------------------------------


def claim_and_start(worker: Worker) -> list[subprocess.Popen[bytes]]:
    """Fill the free slots of this host with queued runs."""
    started: list[subprocess.Popen[bytes]] = []
    settings.DATA_DIR.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(settings.DATA_DIR).free
    if free < MIN_FREE_BYTES:
        # Taken here, one run after another would fail; another host may have room.
        log.error("disk full: no run is taken", free_bytes=free)
        return started
    while (attempt := runs.claim(worker)) is not None:
        try:
            started.append(start_supervisor(attempt))
        except OSError as error:
            attempts.lose(attempt, f"Its supervisor could not be started: {error}.")
            attempts.free_slot(attempt)
            break
    return started


def start_supervisor(attempt: Attempt) -> subprocess.Popen[bytes]:
    """Start the detached process that owns the attempt; it outlives the caller."""
    directory = inputs.make_directory(attempt)
    command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "supervise"]
    environment = {**os.environ, processes.ATTEMPT_MARK: str(directory.path)}
    # Started by the queue or not, it is not to be ended with the queue.
    environment.pop(processes.QUEUE_MARK, None)
    with (directory.path / "supervisor.log").open("ab") as output:
        process = subprocess.Popen(  # noqa: S603
            [*command, str(attempt.run_id), str(attempt.fence)],
            cwd=settings.BASE_DIR,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    # From here on the supervisor answers for the attempt, even before it has said so.
    if (identity := processes.identity(process.pid)) is not None:
        Attempt.objects.filter(pk=attempt.pk, state=Running).update(supervisor=identity)
    return process


# --- Reaping ------------------------------------------------------------------


def reap(worker: Worker, *, judge_leases: bool) -> None:
    """End what this host's dead supervisors left, and free its slots.

    `judge_leases`: whether an expired lease counts. After the database was away every
    lease has expired, and the supervisors need a moment to renew theirs.
    """
    mine = Attempt.objects.filter(worker=worker).select_related("run", "worker")
    expired = Attempt.objects.filter(state=Running, lease_until__lt=Now())
    stuck = set(expired.values_list("pk", flat=True)) if judge_leases else set()
    for attempt in mine.filter(state=Running):
        reason = _why_lost(attempt)
        if not reason and attempt.pk in stuck:
            reason = f"Its supervisor on {worker.host} has been silent for too long."
        if reason and _end_processes(attempt):
            _ship_the_rest(attempt)
            attempts.lose(attempt, reason)
            inputs.withdraw(attempt)
    for attempt in mine.filter(slot__isnull=False).exclude(state=Running):
        if _end_processes(attempt):
            inputs.withdraw(attempt)
            attempts.free_slot(attempt)
    if judge_leases:
        for attempt in expired.exclude(worker=worker).select_related("run", "worker"):
            attempts.lose(
                attempt, f"{attempt.worker.host} has been silent for too long."
            )


def _why_lost(attempt: Attempt) -> str:
    if processes.is_alive(attempt.supervisor):
        return ""
    path = inputs.attempt_directory(attempt).path
    if not attempt.trainer and processes.marked(path):
        return ""  # the claimer has gone, and the supervisor is just starting
    return f"Its supervisor on {attempt.worker.host} has died."


def _end_processes(attempt: Attempt) -> bool:
    path = inputs.attempt_directory(attempt).path
    if processes.kill(lambda: processes.marked(path)):
        return True
    log.error("processes cannot be killed; the slot stays taken", attempt=str(attempt))
    return False


def _ship_the_rest(attempt: Attempt) -> None:
    """What the dead supervisor had not shipped yet; the end of a log says the most."""
    try:
        Shipper(attempt, inputs.attempt_directory(attempt)).ship(last=True)
    except (OperationalError, InterfaceError):
        raise
    except Exception:
        log.exception("could not ship", attempt=str(attempt))


# --- The agent ----------------------------------------------------------------


class Agent:
    """Sweeps every few seconds until told to stop."""

    def __init__(self) -> None:
        self.worker: Worker | None = None
        self.supervisors: list[subprocess.Popen[bytes]] = []
        self.is_stopping = False
        self.is_hurried = False
        self._in_contact_since: float | None = None

    def run(self) -> None:
        with _only_agent():
            while not self.is_stopping:
                self._sweep_safely()
                self._pause()
            self.say_goodbye()

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Save and stop; asked a second time, just stop."""
        self.is_hurried = self.is_stopping
        self.is_stopping = True

    def sweep(self) -> None:
        """One look at everything; safe at any time."""
        if self.worker is None or not _beat(self.worker):
            self.worker = register()
            log.info("worker ready", host=self.worker.host, device=self.worker.device)
        reap(self.worker, judge_leases=self._has_been_in_contact())
        self.supervisors += claim_and_start(self.worker)
        # poll() is what keeps ended supervisors from staying as zombies.
        self.supervisors = [p for p in self.supervisors if p.poll() is None]

    def say_goodbye(self) -> None:
        """Ask the supervisors of this host to save and stop; kill those that do not."""
        if self.worker is None:
            return
        Worker.objects.filter(pk=self.worker.pk).update(pid=0)
        running = Attempt.objects.filter(worker=self.worker, state=Running)
        asked: set[int] = set()
        deadline = time.monotonic() + GOODBYE_SECONDS
        while (left := list(running.all())) and not self.is_hurried:
            if time.monotonic() > deadline:
                break
            for attempt in left:
                if attempt.pk not in asked:
                    asked.add(attempt.pk)
                    _ask_to_go_down(attempt)
            time.sleep(0.2)
        for attempt in running.select_related("run", "worker"):
            if _end_processes(attempt):
                if not attempts.interrupt(attempt):
                    attempts.lose(attempt, f"{self.worker.host} was stopped.")
                inputs.withdraw(attempt)
        reap(self.worker, judge_leases=False)

    def _sweep_safely(self) -> None:
        try:
            self.sweep()
        except (OperationalError, InterfaceError) as error:
            self._in_contact_since = None
            connection.close()
            log.warning("database away", error=str(error).strip())
            return
        if self._in_contact_since is None:
            self._in_contact_since = time.monotonic()

    def _has_been_in_contact(self) -> bool:
        since = self._in_contact_since
        return since is not None and (
            timedelta(seconds=time.monotonic() - since) > runs.LEASE
        )

    def _pause(self) -> None:
        until = time.monotonic() + SWEEP_SECONDS
        while not self.is_stopping and time.monotonic() < until:
            time.sleep(0.1)


def _beat(worker: Worker) -> bool:
    beaten = Worker.objects.filter(pk=worker.pk).update(beat_at=Now(), pid=os.getpid())
    return bool(beaten)


def _ask_to_go_down(attempt: Attempt) -> None:
    if processes.is_alive(attempt.supervisor):
        os.kill(attempt.supervisor["pid"], signal.SIGTERM)


@contextmanager
def _only_agent() -> Iterator[None]:
    """Hold the lock that one agent of this host holds; the kernel frees it."""
    Path(settings.DATA_DIR).mkdir(parents=True, exist_ok=True)
    with (settings.DATA_DIR / f"agent-{settings.WORKER_NAME}.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AgentRuns(
                f"An agent of {settings.WORKER_NAME} runs already: stop it first, "
                "or set WORKER_NAME and DATA_DIR for a second one."
            ) from None
        yield
