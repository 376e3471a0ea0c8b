"""Work of the training core in a child of this terminal, with a progress bar."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, Any

from django.conf import settings

from training.core.run_directory import RunDirectory, iter_lines

BAR = 24
"""Characters of the bar."""


class ProgressBar:
    """One line that is written anew; nothing at all where nobody watches."""

    def __init__(self, output: Any) -> None:
        self.output = output
        self.is_shown = bool(output.isatty())
        self.started_at = time.monotonic()

    def show(self, event: dict[str, Any]) -> None:
        """Show an event that the core has told."""
        step, total = event.get("step"), event.get("max_steps")
        text = str(event.get("message", ""))
        if isinstance(step, int) and isinstance(total, int) and total:
            filled = min(BAR, BAR * step // total)
            seconds = time.monotonic() - self.started_at
            text = f"[{'#' * filled}{'.' * (BAR - filled)}] {text}, {seconds:.0f} s"
        self._write(f"\r\033[K{text[:150]}")

    def clear(self) -> None:
        self._write("\r\033[K")

    def _write(self, text: str) -> None:
        if self.is_shown:
            self.output.write(text, style_func=str, ending="")
            self.output.flush()


def train(
    directory: RunDirectory, show: Callable[[dict[str, Any]], None]
) -> dict[str, Any] | None:
    """Run the job whose config.json lies there; its result, if there is one.

    Ctrl-C lets it save a checkpoint and stop; a second one kills it.
    """
    offset = 0
    with directory.log.open("ab") as log:
        child = _start([*settings.TRAINER_COMMAND, str(directory.path)], log)
    with _passing_on_interrupts(child):
        running = True
        while running:
            running = child.poll() is None
            for event, end in iter_lines(directory.events, offset):
                show(event)
                offset = end
            time.sleep(0.1 if running else 0)
    return directory.read_result()


def make_starter_model(spec: Path) -> Iterator[dict[str, Any]]:
    """What the core tells while it makes a model; the last is completed or failed."""
    command = [sys.executable, "-m", "training.core.data.starter_model", str(spec)]
    child = _start(command, subprocess.PIPE)
    with _passing_on_interrupts(child):
        lines = _json_lines(child.stdout)
        yield from lines
        child.wait()


def _json_lines(stream: IO[bytes] | None) -> Iterator[dict[str, Any]]:
    for raw in stream or ():
        if raw.startswith(b"{"):
            yield json.loads(raw)


def _start(command: list[str], output: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603
        command,
        env={
            **os.environ,
            "LABELHUB_DIE_WITH_PARENT": "1",
            "LABELHUB_DIE_WITH_PARENT_PID": str(os.getpid()),
            "PYTHONPATH": str(settings.BASE_DIR),
        },
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=None if output == subprocess.PIPE else subprocess.STDOUT,
        # Ctrl-C comes to us, and we pass it on once.
        start_new_session=True,
    )


@contextmanager
def _passing_on_interrupts(child: subprocess.Popen[bytes]) -> Iterator[None]:
    asked = False

    def pass_on(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        child.send_signal(signal.SIGKILL if asked else signal.SIGINT)
        asked = True

    before = signal.signal(signal.SIGINT, pass_on)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if child.poll() is None:
            child.kill()
        child.wait()
