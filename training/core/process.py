"""How the processes of a run begin: quiet, offline where told, and never orphaned."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import warnings
from pathlib import Path

DIE_WITH_PARENT = "LABELHUB_DIE_WITH_PARENT"
"""Set to 1 by a supervisor, so that its trainer cannot outlive it."""

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent ends, if the environment says so.

    The parent may have ended before the request: then this process belongs to another
    one already, and exits by itself.
    """
    if os.environ.get(DIE_WITH_PARENT) != "1" or not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    expected = os.environ.get(f"{DIE_WITH_PARENT}_PID", str(parent))
    if os.getppid() != int(expected):
        os._exit(1)


def package_environment() -> dict[str, str]:
    """This environment, with the package importable from any working directory."""
    root = str(Path(__file__).parents[2])
    path = os.environ.get("PYTHONPATH")
    return {
        **os.environ,
        "PYTHONPATH": f"{root}{os.pathsep}{path}" if path else root,
        # The child's parent is this process, whoever its grandparent is.
        f"{DIE_WITH_PARENT}_PID": str(os.getpid()),
    }


def prepare_environment() -> None:
    """One GPU, no telemetry, no progress bars, no tokenizer threads.

    The libraries read these once: call it before their first import.
    """
    # TRL refuses a single process that sees several.
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    # A forked process with live tokenizer threads warns and may dead-lock.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    # TRL 1.16 uses the old name at every evaluation.
    warnings.filterwarnings(
        "ignore", message=".*gradient_checkpointing.* is deprecated"
    )
