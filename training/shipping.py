"""What a trainer wrote into its run directory -> rows of the database.

Each file is read on from the byte where the rows in the database end; that offset moves
in the transaction that adds the rows. So nothing is added twice and nothing is left
out, whoever is killed, and anybody on the host can go on where a supervisor died.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from django.db import transaction

from training.core.run_directory import RunDirectory, decode_number, iter_lines
from training.metric_points import Point, add_points
from training.models import Attempt, LogChunk, Run, RunEvent, Sample
from training.redaction import storable

BATCH = 500
"""Lines of a file in one transaction."""
CHUNK_BYTES = 64 * 1024
LOG_BYTES = 20 * 1024 * 1024
"""How much of a log goes into the database; the whole stays in the run directory."""
MAX_NAMES = 500
"""Series a run may have; a trainer that makes up names would fill the database."""

_NOT_METRICS = frozenset({"step", "time", "epoch"})
# "progress" comes every second and only moves the run. That a trainer has ended is told
# by whoever accepts or rejects what it came to.
_NOT_KEPT = frozenset({"progress", "completed", "stopped", "failed"})
_OF_EVENTS = frozenset({"kind", "message"})
_MAX_STEP = 2**31 - 1


class Shipper:
    """Ships one attempt's files. Only one at a time works on an attempt."""

    def __init__(self, attempt: Attempt, directory: RunDirectory) -> None:
        self.attempt = attempt
        self.directory = directory
        self.shipped: dict[str, int] = dict(attempt.shipped)
        self.names: dict[str, str] = {}
        self.phase = "starting"
        self.step = 0

    def ship(self, *, last: bool = False) -> None:
        """Ship what is new; with `last`, also a last line of log without its end."""
        while self._ship_lines("metrics", self.directory.metrics, self._add_metrics):
            pass
        while self._ship_lines("samples", self.directory.samples, self._add_samples):
            pass
        while self._ship_lines("events", self.directory.events, self._add_events):
            pass
        while self._ship_log(last=last):
            pass

    def _ship_lines(self, name: str, path: Path, add: Any) -> bool:
        """Ship one batch of a .jsonl file; whether there may be more."""
        start = self.shipped.get(name, 0)
        found = list(islice(iter_lines(path, start), BATCH))
        if not found:
            return False
        lines = [line for line, _ in found if isinstance(line, dict)]
        with self._moving(name, found[-1][1]):
            add(lines)
        return len(found) == BATCH

    @contextmanager
    def _moving(self, name: str, offset: int) -> Iterator[None]:
        """Add rows and move the offset: both, or, if it fails, neither."""
        shipped = {**self.shipped, name: offset}
        with transaction.atomic():
            # First, for it locks the attempt: nobody else adds rows until the end.
            Attempt.objects.filter(pk=self.attempt.pk).update(shipped=shipped)
            yield
        self.shipped = shipped

    def _add_metrics(self, lines: list[dict[str, Any]]) -> None:
        points = [point for line in lines for point in self._points(line)]
        add_points(self.attempt, points)
        step = max([self.step, *(point.step for point in points)])
        if step > self.step:
            Run.objects.filter(pk=self.attempt.run_id, fence=self.attempt.fence).update(
                step=step
            )
            self.step = step

    def _points(self, line: dict[str, Any]) -> Iterator[Point]:
        step, at = _step(line), _unix_time(line)
        if step is None:
            return
        for raw_name, raw in line.items():
            value = decode_number(raw)
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            if name := self._stored_name(raw_name):
                yield Point(name, step, float(value), at)

    def _stored_name(self, name: str) -> str:
        """As the database has it; nothing for one that is not kept."""
        if name not in self.names:
            if name in _NOT_METRICS or len(self.names) >= MAX_NAMES:
                return ""
            self.names[name] = storable(name)[:100]
        return self.names[name]

    def _add_samples(self, lines: list[dict[str, Any]]) -> None:
        Sample.objects.bulk_create(
            [
                Sample(
                    attempt=self.attempt,
                    step=step,
                    index=index,
                    messages=[{"role": "user", "content": storable(line["prompt"])}],
                    completion=storable(line["completion"]),
                )
                for line in lines
                if (step := _step(line)) is not None
                and (index := _number(line.get("sample"), 2**15 - 1)) is not None
                and isinstance(line.get("prompt"), str)
                and isinstance(line.get("completion"), str)
            ],
            ignore_conflicts=True,
        )

    def _add_events(self, lines: list[dict[str, Any]]) -> None:
        RunEvent.objects.bulk_create(
            [
                RunEvent(
                    run_id=self.attempt.run_id,
                    attempt=self.attempt,
                    kind=storable(str(line.get("kind", "trainer")))[:40],
                    message=storable(str(line.get("message", ""))),
                    data=storable(
                        {k: v for k, v in line.items() if k not in _OF_EVENTS}
                    ),
                )
                for line in lines
                if line.get("kind") not in _NOT_KEPT
            ]
        )
        self._note_progress(lines)

    def _note_progress(self, lines: list[dict[str, Any]]) -> None:
        changes: dict[str, Any] = {}
        for line in lines:
            if line.get("kind") == "phase":
                changes["phase"] = storable(str(line.get("message", "")))[:60]
            for name in ("step", "max_steps"):
                if (number := _number(line.get(name), _MAX_STEP)) is not None:
                    changes[name] = number
        self.phase = changes.get("phase", self.phase)
        self.step = changes.get("step", self.step)
        if changes:
            Run.objects.filter(pk=self.attempt.run_id, fence=self.attempt.fence).update(
                **changes
            )

    def _ship_log(self, *, last: bool) -> bool:
        start = self.shipped.get("log", 0)
        raw = _read(self.directory.log, start, CHUNK_BYTES)
        # Whole lines, so that no token and no character is cut in two.
        end = raw.rfind(b"\n") + 1
        if not end and (last or len(raw) == CHUNK_BYTES):
            end = len(raw)
        if not end or start >= LOG_BYTES:
            return False
        text = storable(raw[:end].decode("utf-8", "replace"))
        if start + end >= LOG_BYTES:
            text += f"\n[The rest is on {self.attempt.worker.host} only.]\n"
        with self._moving("log", start + end):
            LogChunk.objects.bulk_create(
                [LogChunk(attempt=self.attempt, offset=start, text=text)],
                ignore_conflicts=True,
            )
        return True


def _step(line: dict[str, Any]) -> int | None:
    return _number(line.get("step"), _MAX_STEP)


def _number(value: object, most: int) -> int | None:
    return value if isinstance(value, int) and 0 <= value <= most else None


def _unix_time(line: dict[str, Any]) -> float:
    try:
        return datetime.fromisoformat(str(line.get("time"))).timestamp()
    except ValueError:
        return 0.0


def _read(path: Path, offset: int, size: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(size)
    except FileNotFoundError:
        return b""
