"""The end of an attempt's log as a terminal would show it, and what follows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from training.models import Attempt, LogChunk

TAIL_LINES = 200
_LONGEST_LINE = 4000
_MOST_CHUNKS = 400
"""Read in one request; what is beyond comes with the next."""

_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # colours and cursor moves
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # window titles and links
    r"|\x1b[@-Z\\-_]?"
    r"|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"
)
_BAD = re.compile(
    r"^Traceback |\b\w*(?:Error|Exception)\b|out of memory|\[RLHF\d", re.IGNORECASE
)
_WARNING = re.compile(r"warn(?:ing)?\b", re.IGNORECASE)


@dataclass(frozen=True)
class Line:
    text: str

    @property
    def kind(self) -> str:
        """'error', 'warn' or ''."""
        if _BAD.search(self.text):
            return "error"
        return "warn" if _WARNING.search(self.text) else ""


@dataclass(frozen=True)
class LogPart:
    """Finished lines, the line that is still being written, and where that begins."""

    lines: list[Line]
    open_line: Line
    offset: int
    """Of the chunk in which the open line begins,"""
    skip: int
    """and how many characters before it in that chunk."""
    newest: int
    """Offset of the newest chunk in here, -1 if there is none."""


def read_tail(attempt: Attempt) -> LogPart:
    """The last lines of an attempt's log."""
    chunks: list[LogChunk] = []
    n_lines = 0
    for chunk in attempt.log_chunks.order_by("-offset")[:_MOST_CHUNKS].iterator():
        chunks.append(chunk)
        n_lines += chunk.text.count("\n")
        if n_lines > TAIL_LINES:
            break
    chunks.reverse()
    part = _part(chunks, 0)
    return LogPart(
        part.lines[-TAIL_LINES:], part.open_line, part.offset, part.skip, part.newest
    )


def read_on(attempt: Attempt, offset: int, skip: int) -> LogPart:
    """What follows a position that an earlier part gave."""
    chunks = attempt.log_chunks.filter(offset__gte=offset).order_by("offset")
    return _part(list(chunks[:_MOST_CHUNKS]), skip)


def _part(chunks: Sequence[LogChunk], skip: int) -> LogPart:
    if not chunks:
        return LogPart([], Line(""), 0, 0, -1)
    text = "".join(chunk.text for chunk in chunks)
    # A carriage return starts the line anew, as a progress bar does. One at the very
    # end may be half of a line ending and waits for what follows.
    begin = max(text.rfind("\n"), text.rfind("\r", 0, len(text) - 1)) + 1
    begin = max(begin, skip)
    if begin == skip and len(chunks) == _MOST_CHUNKS:
        begin = len(text)
    lines = text[skip:begin].split("\n")
    position = begin
    for chunk in chunks:
        if position < len(chunk.text) or chunk is chunks[-1]:
            break
        position -= len(chunk.text)
    return LogPart(
        [_line(line) for line in lines[:-1]],
        _line(text[begin:]),
        chunk.offset,
        position,
        chunks[-1].offset,
    )


def _line(raw: str) -> Line:
    """One line as it looks when it is finished.

    >>> _line("10%\\r\\x1b[32m20%\\x1b[0m\\r")
    Line(text='20%')
    """
    text = _ESCAPES.sub("", raw.rstrip("\r").rpartition("\r")[2])
    if len(text) > _LONGEST_LINE:
        text = text[:_LONGEST_LINE] + " …"
    return Line(text)
