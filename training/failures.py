"""Why a trainer failed: the class, the place, and the lines of its log that matter."""

from __future__ import annotations

import errno
import re
import shutil
import signal
import traceback
from pathlib import Path
from typing import Any

from training.core.run_directory import RunDirectory
from training.redaction import storable

LINES = 40
"""How many lines of the log are kept with a failure."""
_TAIL_BYTES = 256 * 1024
DISK_FULL = "The disk of the worker is full. Free some space there and retry."
FULL_BYTES = 64 * 1024
"""A disk with less than this free is full."""

# The first that is found decides: the class and the sentence.
_SIGNS = (
    (
        r"CUDA out of memory|torch\.OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED",
        "GPUOutOfMemory",
        "The GPU ran out of memory. Halve per_device_batch_size and double "
        "gradient_accumulation_steps, or lower max_length.",
    ),
    (
        r"No space left on device|Disk quota exceeded",
        "DiskFull",
        DISK_FULL,
    ),
    (
        r"^MemoryError|DefaultCPUAllocator: can't allocate memory|Cannot allocate",
        "OutOfMemory",
        "The machine ran out of memory. Lower per_device_batch_size or max_length.",
    ),
    (
        r"No module named '(torch|transformers|trl|datasets|peft|accelerate)'",
        "NotInstalled",
        "The training libraries are not installed on this worker: "
        "pip install 'labelhub[train]'.",
    ),
    (
        r"GatedRepoError|401 Client Error|403 Client Error",
        "HubRefused",
        "The hub refused access. Accept the model's terms, and set HF_TOKEN where "
        "the worker starts.",
    ),
)


def told(error: dict[str, Any]) -> dict[str, Any]:
    """The error that a trainer has written into its result, as a run keeps it."""
    where = error.get("where")
    if isinstance(where, dict):
        where = whereabouts(where.get("phase"), where.get("step"), where.get("place"))
    return {
        "code": str(error.get("code") or ""),
        "class": str(error.get("class") or "TrainerFailed"),
        "message": storable(str(error.get("message") or "It did not say why.")),
        "where": storable(where or ""),
        "lines": [storable(str(line)) for line in error.get("lines") or []],
    }


def explain(
    directory: RunDirectory,
    exit_code: int | None,
    *,
    phase: str,
    step: int,
    out_of_memory: bool,
) -> dict[str, Any]:
    """The error of a trainer that ended without saying why."""
    lines = last_lines(directory.log)
    text = "\n".join(lines)
    where = whereabouts(phase, step, place(lines))
    error: dict[str, Any] = {"code": "", "where": where, "lines": lines}
    if out_of_memory:
        return error | {
            "class": "OutOfMemory",
            "message": "The machine ran out of memory and killed the trainer. Lower "
            "per_device_batch_size or max_length.",
        }
    for sign, name, message in _SIGNS:
        if re.search(sign, text, re.MULTILINE):
            return error | {"class": name, "message": message}
    if exit_code is not None and exit_code < 0:
        number = -exit_code
        message = (
            f"The trainer was killed by signal {number} ({signal.strsignal(number)})."
        )
        if number == signal.SIGKILL:
            message += (
                " LabelHub did not do it. If nobody did, the machine was short of "
                "memory: lower per_device_batch_size or max_length."
            )
        return error | {"class": "Killed", "message": message}
    if shutil.disk_usage(directory.path).free < FULL_BYTES:
        # Too full to take the lines that would have said so.
        return error | {"class": "DiskFull", "message": DISK_FULL}
    if exit_code == 0:
        return error | {
            "class": "NoResult",
            "message": "The trainer ended without a result.",
        }
    last = next((line for line in reversed(lines) if line.strip()), "")
    return error | {
        "class": _exception_class(last) or "TrainerFailed",
        "message": last or f"The trainer ended with exit code {exit_code}.",
    }


def ours(error: Exception) -> dict[str, Any]:
    """What went wrong on our side of the run directory."""
    frames = traceback.format_exception(error)
    lines = storable("".join(frames)).rstrip().split("\n")[-LINES:]
    name, message = type(error).__name__, storable(str(error))
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        name, message = "DiskFull", DISK_FULL
    return {
        "code": "",
        "class": name,
        "message": message or name,
        "where": whereabouts("supervising", 0, place(lines)),
        "lines": lines,
    }


def last_lines(log: Path) -> list[str]:
    """The last traceback of a log with what follows, else its last lines."""
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            raw = file.read()
    except FileNotFoundError:
        return []
    # A progress bar overwrites its line; only what it showed last was to be read.
    text = storable(raw.decode("utf-8", "replace"))
    lines = [
        line.rstrip("\r").rpartition("\r")[2][:1000]
        for line in text.rstrip().split("\n")
    ]
    starts = [i for i, line in enumerate(lines) if line.startswith("Traceback (most")]
    if starts:
        lines = lines[starts[-1] :]
        if len(lines) > LINES:
            # Where it began and where it broke; the frames between say less.
            lines = [*lines[:5], "…", *lines[-(LINES - 6) :]]
    return lines[-LINES:] if lines != [""] else []


def whereabouts(phase: object, step: object, place: object) -> str:
    """Where it happened, in words.

    >>> whereabouts("reading data", 0, None)
    'reading data'
    >>> whereabouts("training", 7, "/lib/site-packages/trl/trainer.py:31")
    'training, step 7, trl/trainer.py:31'
    """
    parts = (
        str(phase or ""),
        f"step {step}" if step else "",
        str(place or "").rpartition("site-packages/")[2],
    )
    return ", ".join(part for part in parts if part)


def place(lines: list[str]) -> str:
    """The innermost place that a traceback names.

    >>> place(['  File "/srv/app/training/core/run.py", line 7, in main'])
    'run.py:7 in main'
    """
    for line in reversed(lines):
        if found := re.match(r'\s+File "([^"]+)", line (\d+), in (\S+)', line):
            return f"{Path(found[1]).name}:{found[2]} in {found[3]}"
    return ""


def _exception_class(line: str) -> str:
    """The class that the last line of a traceback names.

    >>> _exception_class("torch.cuda.Fault: gone"), _exception_class("Bye.")
    ('Fault', '')
    """
    found = re.match(r"([A-Za-z_][\w.]*(?:Error|Exception|Fault|Interrupt))\b", line)
    return found[1].rpartition(".")[2] if found else ""
