"""What passes between the web side and the trainer: the files of one attempt.

The trainer writes these files and nothing else; the supervisor reads them. Both sides
use this module, so that a name or an encoding is decided once. Standard library only.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

ControlAction = Literal["stop", "checkpoint"]

MANIFEST = "manifest.json"


class RunDirectory:
    """The paths of one attempt, and how each file is written and read."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @property
    def config(self) -> Path:
        """The full, resolved configuration; its paths are relative to the directory."""
        return self.path / "config.json"

    @property
    def data(self) -> Path:
        """The files of the frozen dataset: train.* and, where there is one, eval.*."""
        return self.path / "data"

    @property
    def inputs(self) -> Path:
        """The base model and other artefacts that the job starts from."""
        return self.path / "inputs"

    @property
    def starter(self) -> Path:
        """The starter model that the job made for itself: whole, or not there."""
        return self.inputs / "starter"

    @property
    def metrics(self) -> Path:
        """One JSON object a log line: step, time, epoch and what was logged there."""
        return self.path / "metrics.jsonl"

    @property
    def samples(self) -> Path:
        """One JSON object a generated text."""
        return self.path / "samples.jsonl"

    @property
    def events(self) -> Path:
        """One JSON object a phase of the job: time, kind, message and details."""
        return self.path / "events.jsonl"

    @property
    def log(self) -> Path:
        """Standard output and error of the process, redirected by its parent."""
        return self.path / "log.txt"

    @property
    def control(self) -> Path:
        """The wish of the supervisor, read by the trainer after every step."""
        return self.path / "control.json"

    @property
    def checkpoints(self) -> Path:
        """checkpoint-N folders, each valid only with its manifest."""
        return self.path / "checkpoints"

    @property
    def final(self) -> Path:
        """The trained model or adapter with tokenizer, configuration and model card."""
        return self.path / "final"

    @property
    def result(self) -> Path:
        """The outcome, written last. A run without it did not succeed."""
        return self.path / "result.json"

    def append_metrics(
        self, step: int, values: Mapping[str, float | None], *, epoch: float | None
    ) -> None:
        """Add one line of metrics. NaN and infinities are kept, as strings."""
        line = {"step": step, "time": _timestamp(), "epoch": epoch, **values}
        _append_line(self.metrics, line)

    def append_event(self, kind: str, message: str, **details: object) -> None:
        """Add one line about what the job is doing now."""
        line = {"time": _timestamp(), "kind": kind, "message": message, **details}
        _append_line(self.events, line)

    def append_sample(self, step: int, values: Mapping[str, object]) -> None:
        """Add one generated text with the prompt it answers."""
        _append_line(self.samples, {"step": step, "time": _timestamp(), **values})

    def iter_metrics(self, offset: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
        """Metric lines from a byte offset on, each with the offset after it."""
        for line, end in iter_lines(self.metrics, offset):
            yield {name: decode_number(value) for name, value in line.items()}, end

    def write_control(self, action: ControlAction) -> None:
        """Ask the trainer to stop and save, or to save a checkpoint and go on."""
        write_json(self.control, {"action": action, "time": _timestamp()})

    def read_control(self) -> ControlAction | None:
        """The action asked for, if any."""
        control = _read_json(self.control)
        return control["action"] if control else None

    def write_result(self, result: Mapping[str, object]) -> None:
        """Write the outcome; it appears whole or not at all."""
        write_json(self.result, result)

    def read_result(self) -> dict[str, Any] | None:
        """The outcome, or None while there is none."""
        return _read_json(self.result)

    def newest_valid_checkpoint(self) -> Path | None:
        """The checkpoint with the highest step whose manifest holds."""
        found = [
            (manifest["step"], folder)
            for folder in self.checkpoints.glob("checkpoint-*")
            if (manifest := read_valid_manifest(folder)) is not None
        ]
        return max(found)[1] if found else None


def write_json(path: Path, value: object) -> None:
    """Write a JSON file that is either the old one or the new one, never half of it.

    The file is written under a temporary name, forced to disk and renamed.

    Raises:
        OSError: the disk is full or the folder cannot be written; the old file stays.
    """
    text = json.dumps(_encode(value), indent=2, allow_nan=False)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _fsync_folder(path.parent)


def encode_number(value: float) -> float | str:
    """A number as JSON can hold it: NaN and the infinities become strings.

    >>> [encode_number(x) for x in (0.5, float("nan"), float("-inf"))]
    [0.5, 'nan', '-inf']
    """
    return value if math.isfinite(value) else str(float(value))


def decode_number(value: Any) -> Any:
    """The inverse of encode_number; other values pass.

    >>> decode_number("inf"), decode_number(3), decode_number("train")
    (inf, 3, 'train')
    """
    return float(value) if value in ("nan", "inf", "-inf") else value


def iter_lines(path: Path, offset: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
    """The JSON objects of a .jsonl file from a byte offset on.

    Each comes with the offset after it, to go on from. A last line without its newline
    is still being written and is left for the next call; a line torn by a killed writer
    is no JSON and is passed over. A missing file has no lines.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(offset)
        for raw in file:
            if not raw.endswith(b"\n"):
                return
            offset += len(raw)
            try:
                line = json.loads(raw)
            except ValueError:
                continue
            yield line, offset


def write_manifest(folder: Path, step: int) -> None:
    """Declare a checkpoint complete: every file with its size and sha256.

    Written last, so that its existence means that the files before it are whole.
    """
    files = {
        path.relative_to(folder).as_posix(): {
            "size": path.stat().st_size,
            "sha256": _sha256(path),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    write_json(folder / MANIFEST, {"step": step, "files": files})


def read_valid_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a checkpoint, or None where it is missing or does not hold."""
    try:
        manifest = _read_json(folder / MANIFEST)
        if manifest is None:
            return None
        for name, expected in manifest["files"].items():
            path = folder / name
            # The size first: it finds a torn file without reading gigabytes.
            if path.stat().st_size != expected["size"]:
                return None
            if _sha256(path) != expected["sha256"]:
                return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return manifest


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    value: dict[str, Any] = json.loads(text)
    return value


def _append_line(path: Path, line: Mapping[str, object]) -> None:
    raw = json.dumps(_encode(line), allow_nan=False).encode() + b"\n"
    # One write of the whole line: a reader never meets the halves of two.
    with path.open("ab", buffering=0) as file:
        file.write(raw)


def _encode(value: object) -> object:
    """The value with every number in it as JSON can hold it."""
    if isinstance(value, float):
        return encode_number(value)
    if isinstance(value, Mapping):
        return {str(key): _encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(item) for item in value]
    return value


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync_folder(folder: Path) -> None:
    # Without this a power cut may undo the rename.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _timestamp() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
