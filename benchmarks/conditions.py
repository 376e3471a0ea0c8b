"""Under which conditions something was measured; printed by every script here."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@contextmanager
def conditions(database: str = "none") -> Iterator[None]:
    """Print the machine and the commit before, and how busy the machine was after.

    Args:
        database: Which one the measured processes use.
    """
    print(
        f"{os.cpu_count()} cores, {platform.machine()}, "
        f"Python {platform.python_version()}, database: {database}, "
        f"commit {_commit()}, load {_load()}",
        flush=True,
    )
    yield
    print(f"load after: {_load()}")


def aim(what: str, met: bool) -> None:
    """Say whether an aim was met."""
    print(f"  aim: {what}: {'met' if met else 'NOT MET'}", flush=True)


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip() or "unknown"


def _load() -> str:
    return " ".join(f"{load:.1f}" for load in os.getloadavg())
