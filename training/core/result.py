"""What a run reports when it ends."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

Status = Literal["completed", "stopped", "failed"]


@dataclass(kw_only=True)
class RLHFJobResult:
    """The outcome of one attempt, and what it really did.

    A run that ended before its last step is `stopped`, whatever its exit code.
    """

    job_name: str
    algorithm: str
    status: Status
    start_time: datetime
    end_time: datetime
    output_dir: str
    """The run directory."""

    final_checkpoint_path: str | None = None
    """final/ of a completed run; the newest checkpoint of a stopped one."""
    best_checkpoint_path: str | None = None
    """The checkpoint with the lowest held-out loss, if it was kept."""

    final_loss: float | None = None
    """Training loss over the last logged steps."""
    best_loss: float | None = None
    """Lowest held-out loss."""
    total_steps: int = 0
    """Optimizer steps taken, those before a resume included."""
    max_steps: int = 0
    """Optimizer steps planned."""
    final_learning_rate: float | None = None
    """The learning rate of the last step."""
    tokens: int | None = None
    """Tokens read in training by this attempt."""
    metrics: dict[str, float] = field(default_factory=dict)
    """The last value of everything the trainer logged."""
    eval_metrics: dict[str, float] = field(default_factory=dict)
    """Measured on the held-out rows after training."""

    data: str | None = None
    """Where the rows came from, and which columns were read."""
    ledger: dict[str, Any] | None = None
    """What became of every row, by split: rows = used + all that was dropped."""
    reload_check: dict[str, Any] | None = None
    """Whether final/, loaded in a fresh process, does as the live model did."""

    device: str | None = None
    precision: str | None = None
    trainable_parameters: int | None = None
    total_parameters: int | None = None
    peak_memory_gb: float | None = None
    """Most main memory held, in GB (1e9 bytes)."""
    peak_gpu_memory_gb: float | None = None
    """Most GPU memory reserved, in GB; none without a GPU."""
    total_gpu_hours: float | None = None
    versions: dict[str, str] = field(default_factory=dict)

    error: dict[str, Any] | None = None
    """code, class, message, where and the last lines of the traceback."""

    @property
    def duration_seconds(self) -> float:
        """Wall-clock time from start to end."""
        return (self.end_time - self.start_time).total_seconds()

    @property
    def error_message(self) -> str | None:
        """One sentence, where the run failed."""
        return self.error["message"] if self.error else None

    @property
    def error_type(self) -> str | None:
        """The class of the error, where the run failed."""
        return self.error["class"] if self.error else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values; times are ISO 8601 and paths as they are in this object."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {
            **values,
            "start_time": self.start_time.isoformat(),
            "end_time": self.end_time.isoformat(),
            "duration_seconds": self.duration_seconds,
        }

    def to_run_dict(self) -> dict[str, Any]:
        """As to_dict, with paths relative to the run directory: result.json."""
        values = self.to_dict()
        for name in ("final_checkpoint_path", "best_checkpoint_path"):
            if values[name] is not None:
                path = Path(values[name]).relative_to(self.output_dir)
                values[name] = path.as_posix()
        return {**values, "output_dir": "."}
