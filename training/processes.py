"""Processes of this machine: who is who, and how to end them all.

A pid alone proves nothing, for pids are used again. A process is known by its pid, its
start time and the boot it belongs to; the processes of an attempt are known by a mark
in their environment, which their children inherit whatever session they are in.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypedDict, cast

import psutil

ATTEMPT_MARK = "LABELHUB_ATTEMPT"
"""The variable that holds the run directory of the attempt a process works for."""
QUEUE_MARK = "LABELHUB_QUEUE"
"""The variable that holds the data folder of the site a queue cluster works for."""

_PR_SET_PDEATHSIG = 1


class Identity(TypedDict):
    """A process, beyond doubt."""

    pid: int
    started: str
    boot_id: str


def boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return str(int(psutil.boot_time()))


def identity(pid: int) -> Identity | None:
    """Who has this pid now, or None where nobody has."""
    if (started := _started(pid)) is None:
        return None
    return {"pid": pid, "started": started, "boot_id": boot_id()}


def own_identity() -> Identity:
    return cast(Identity, identity(os.getpid()))


def is_alive(who: Identity | dict[str, object]) -> bool:
    """Whether that very process still runs. A zombie does not."""
    pid = who.get("pid")
    return isinstance(pid, int) and identity(pid) == who


def _started(pid: int) -> str | None:
    # Ticks since boot rather than psutil's create_time, which moves with the clock.
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None if sys.platform == "linux" else _started_elsewhere(pid)
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


def _started_elsewhere(pid: int) -> str | None:
    try:
        process = psutil.Process(pid)
        alive = process.status() != psutil.STATUS_ZOMBIE
        return str(process.create_time()) if alive else None
    except psutil.Error:
        return None


def marked(directory: Path, mark: str = ATTEMPT_MARK) -> list[psutil.Process]:
    """The living processes that carry this mark for this folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(mark) != str(directory):
                continue
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue  # gone meanwhile, or somebody else's
    return found


def tree(pid: int) -> list[psutil.Process]:
    """A process and all that came of it, in whatever session they are."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


def send(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    """Signal these processes; psutil does not signal a pid that was used again."""
    for process in processes:
        try:
            process.send_signal(number)
        except (psutil.Error, OSError):
            continue


def kill(find: Callable[[], list[psutil.Process]], patience: float = 10.0) -> bool:
    """Kill what `find` finds until it finds nothing; False where some would not die.

    Again and again, for a process may fork between the look and the kill.
    """
    deadline = time.monotonic() + patience
    while processes := [p for p in find() if p.pid != os.getpid()]:
        send(processes, signal.SIGKILL)
        psutil.wait_procs(processes, timeout=0.5)
        if time.monotonic() > deadline:
            return False
    return True


def die_with_parent(number: signal.Signals) -> None:
    """Ask the kernel for this signal when the parent dies; nothing where it cannot.

    For preexec_fn: the parent's thread counts, so fork from the main thread.
    """
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(number))


_LIBC = ctypes.CDLL(None, use_errno=True)
