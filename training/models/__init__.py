"""One noun a file."""

from __future__ import annotations

from training.models.run import (
    Attempt,
    LogChunk,
    MetricBucket,
    MetricPoint,
    Run,
    RunEvent,
    Sample,
)
from training.models.snapshot import Snapshot
from training.models.worker import GpuSlot, Worker

__all__ = [
    "Attempt",
    "GpuSlot",
    "LogChunk",
    "MetricBucket",
    "MetricPoint",
    "Run",
    "RunEvent",
    "Sample",
    "Snapshot",
    "Worker",
]
