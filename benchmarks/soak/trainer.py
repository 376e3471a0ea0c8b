"""python trainer.py fake|real DIR [...]: hold the locks of slot and run, then train.

The kernel keeps both locks until the process is gone, through execv and however it
ends. So whoever finds the lock of its slot taken has met another living trainer there,
and says so in the journal: no clock is compared and no moment is missed.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from training.core.process import die_with_parent  # noqa: E402


def main(trainer: str, directory: str, *more: str) -> None:
    die_with_parent()
    # FOLDER/HOST/runs/RUN/attempt-FENCE
    path = Path(directory)
    host, run, folder = path.parents[2].name, path.parents[0].name, path.parents[3]
    slot = f"{host}-{os.environ['CUDA_VISIBLE_DEVICES']}"
    locks = folder / "locks"
    line = {
        "slot": slot,
        "attempt": path.relative_to(folder).as_posix(),
        "pid": os.getpid(),
        "at": time.monotonic(),
        "slot_was_free": hold(locks / f"slot-{slot}"),
        "run_was_free": hold(locks / f"run-{run}"),
    }
    journal = os.open(folder / "journal.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(journal, json.dumps(line).encode() + b"\n")
    os.close(journal)
    command = {
        "fake": [str(ROOT / "tests" / "training" / "fake_trainer.py")],
        "real": ["-m", "training.core.run"],
    }[trainer]
    os.execv(sys.executable, [sys.executable, *command, directory, *more])


def hold(path: Path) -> bool:
    """Lock for as long as this process lives; whether nobody held it already."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT)
    os.set_inheritable(handle, True)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


if __name__ == "__main__":
    main(*sys.argv[1:])
