"""Which format a file has, told by the columns of its first rows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from labelhub.importing.files import Place, Unreadable, rows_of
from labelhub.importing.formats import FORMATS
from labelhub.importing.items import Format, Item, LeftOut, Problem, Row
from labelhub.importing.options import ImportOptions, ImportRefused, nearest

_SAMPLE = 20


@dataclass(slots=True)
class Source:
    """One file of an import, and how to read it."""

    path: Path
    name: str
    """What the person who gave it calls it; an upload lies under another."""
    format: Format
    columns: frozenset[str]
    renamed: dict[str, str]
    n_rows: int = 0

    @property
    def unused(self) -> list[str]:
        known = self.format.columns | self.format.optional
        # A prompts file keeps its other columns beside the prompt.
        return [] if self.format.stage == 0 else sorted(self.columns - known)

    def items(
        self, *, strict: bool = False
    ) -> Iterator[tuple[Place, Item | Problem | LeftOut]]:
        for place, row in rows_of(self.path, strict=strict):
            yield place, row if isinstance(row, Problem) else self._item(row)

    def _item(self, row: Row) -> Item | Problem | LeftOut:
        if self.renamed:
            row = _renamed(row, self.renamed)
        if not self.format.columns <= row.keys():
            missing = min(self.format.columns - row.keys())
            return Problem(f"the column {missing!r} is missing")
        try:
            return self.format.item(row)
        except (Problem, LeftOut) as exc:
            return exc


def open_source(path: Path, name: str, options: ImportOptions) -> Source:
    """Look at the first rows, decide; refuse in one sentence what fits nothing."""
    try:
        sample = list(itertools.islice(rows_of(path), _SAMPLE))
    except Unreadable as exc:
        raise ImportRefused(f"{name}: {exc}.") from None
    except OSError as exc:
        raise ImportRefused(f"{name} cannot be read: {exc.strerror}.") from None
    rows = [row for _, row in sample if not isinstance(row, Problem)]
    if not sample:
        raise ImportRefused(f"{name} holds no rows.")
    if not rows:
        place, problem = sample[0]
        raise ImportRefused(f"{name}, {place}: {problem}.")
    columns = frozenset(column for row in rows for column in row)
    renamed = {old: new for old, new in options.map.items() if old in columns}
    for old, new in renamed.items():
        if new in columns and new not in renamed:
            raise ImportRefused(
                f"--map {old}={new}: {name} has a column {new!r} of its own."
            )
    columns = frozenset(renamed.get(column, column) for column in columns)
    return Source(
        path=path,
        name=name,
        format=_format_of(columns, name, options.format),
        columns=columns,
        renamed=renamed,
    )


def refuse_unknown_columns(sources: list[Source], options: ImportOptions) -> None:
    """Every column that --map names must be in one of the files."""
    found = {column for source in sources for column in source.columns}
    renamed = {column for source in sources for column in source.renamed}
    for column, target in options.map.items():
        if column not in renamed:
            raise ImportRefused(
                f"--map {column}={target}: no file has a column {column!r}."
                f"{nearest(column, found)} There are: {', '.join(sorted(found))}."
            )


def _format_of(columns: frozenset[str], name: str, wanted: str) -> Format:
    candidates = [known for known in FORMATS if wanted in ("auto", known.name)]
    for known in candidates:
        if known.fits(columns):
            return known
    closest = min(candidates, key=lambda known: len(known.columns - columns))
    missing = sorted(closest.columns - columns)
    what = "no format" if wanted == "auto" else f"not the format {wanted!r}"
    if not missing:
        clashing = ", ".join(sorted(closest.absent & columns))
        raise ImportRefused(
            f"{name} fits {what}: {closest.title} has no column {clashing}."
        )
    raise ImportRefused(
        f"{name} has the columns {', '.join(sorted(columns))}, which fit {what}."
        f" Closest is “{closest.title}”, which also needs {', '.join(missing)}:"
        f" name columns with --map FROM=TO (here FROM={missing[0]})."
    )


def _renamed(row: Row, renamed: dict[str, str]) -> Row:
    return {renamed.get(column, column): value for column, value in row.items()}
