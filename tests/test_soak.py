"""The soak of the queue, a few faults long, so that it works when it is wanted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "soak_queue.py"


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_two_hosts_keep_their_promises_whoever_is_killed(database):
    words = ["--kills", "15", "--minutes", "3", "--database", database]
    done = subprocess.run(
        [sys.executable, SCRIPT, *words], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    assert "promises kept" in done.stdout
