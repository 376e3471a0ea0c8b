"""Naming what went wrong: from any exception to the one of ours that explains it."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from training.core.errors import RLHFError, RLHFTrainingError

LAST_LINES = 30

_DISK_ERRORS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EIO,
}
# safetensors and torch.save hide the error number in a text of their own.
_DISK_WORDS = (
    "no space left on device",
    "disk quota exceeded",
    "file too large",
    "read-only file system",
    "pytorchstreamwriter failed",
)
_MEMORY_WORDS = ("out of memory", "can't allocate memory", "cannot allocate memory")


def classify(error: BaseException, phase: str) -> RLHFError:
    """The error of ours that says what happened; one of ours is returned as it is."""
    if isinstance(error, RLHFError):
        return error
    causes = list(_causes(error))
    words = " ".join(str(cause).lower() for cause in causes)
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    if any(_is_memory_error(cause) for cause in causes) or any(
        word in words for word in _MEMORY_WORDS
    ):
        return RLHFTrainingError(
            "The device ran out of memory: lower per_device_batch_size (and raise "
            "gradient_accumulation_steps by as much), or lower max_length. "
            f"It said: {reason}",
            code="RLHF011",
            context={"phase": phase},
        )
    if any(_is_disk_error(cause) for cause in causes) or any(
        word in words for word in _DISK_WORDS
    ):
        return RLHFTrainingError(
            f"The run could not be saved: {reason}. Make room, or check who may write.",
            code="RLHF012",
            context={"phase": phase},
        )
    return RLHFTrainingError(
        f"{type(error).__name__} while {phase}: {reason}",
        code="RLHF055",
    )


def describe(
    error: BaseException, known: RLHFError, phase: str, step: int
) -> dict[str, Any]:
    """The error as result.json holds it."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f", {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    lines = "".join(traceback.format_exception(error)).splitlines()
    return {
        "code": known.code,
        "class": type(error).__name__,
        "message": known.message,
        "where": f"{phase}, step {step}{place}",
        "lines": lines[-LAST_LINES:],
    }


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _is_memory_error(error: BaseException) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError)


def _is_disk_error(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in _DISK_ERRORS
