"""Files, row by row: JSON lines, a JSON array, CSV, TSV or Parquet, told by content.

No file is ever in memory as a whole, nor is a row larger than ROW_LIMIT.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from labelhub.importing.items import Problem, Row

ROW_LIMIT = 16 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"
_PARQUET_BATCH = 256
_BLOCK = 1024 * 1024
_SPACE = re.compile(r"\s*")

Place = str
"""`line 12` or `row 12`: where somebody would look."""
Rows = Iterator[tuple[Place, Row | Problem]]


class Unreadable(Exception):
    """The rest of the file cannot be read; where, and why."""

    def __init__(self, place: Place, why: str) -> None:
        super().__init__(f"{place}: {why}" if place else why)


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def container_of(path: Path) -> str:
    """`parquet`, `json`, `jsonl` or `csv`."""
    with path.open("rb") as file:
        head = file.read(4096)
    if not head:
        raise Unreadable("", "the file is empty")
    if head.startswith(b"PAR1"):
        return "parquet"
    for magic, name in _FOREIGN.items():
        if head.startswith(magic):
            raise Unreadable("", name)
    head = head.removeprefix(_BOM).lstrip()
    if head.startswith(b"["):
        return "json"
    if head.startswith(b"{") or path.suffix in {".jsonl", ".ndjson"}:
        return "jsonl"
    if path.suffix == ".json":
        raise Unreadable("line 1", "this is neither a JSON array nor JSON lines")
    return "csv"


_FOREIGN = {
    b"\x1f\x8b": "the file is gzip-compressed; unpack it first",
    b"\x28\xb5\x2f\xfd": "the file is zstd-compressed; unpack it first",
    b"PK\x03\x04": "this is a ZIP or Excel file; unpack it or export it as CSV",
    b"\xff\xfe": "the file is UTF-16; save it as UTF-8",
    b"\xfe\xff": "the file is UTF-16; save it as UTF-8",
    b"ARROW1": "this is an Arrow file; save it as Parquet",
}


def rows_of(path: Path, *, strict: bool = False) -> Rows:
    """Every row with its place; a row that is broken by itself comes as a Problem.

    Strict reading also finds an object that has one key twice, at a cost.
    """
    container = container_of(path)
    if container == "parquet":
        return _parquet_rows(path)
    if container == "json":
        return _array_rows(path, strict=strict)
    if container == "csv":
        return _csv_rows(path)
    return _line_rows(path, strict=strict)


def _too_long() -> str:
    return f"the row is longer than {ROW_LIMIT // 1024**2} MB"


def _too_deep() -> str:
    return "not JSON that can be read: nested too deeply"


def _too_many_digits() -> str:
    return "not JSON that can be read: a number in it has thousands of digits"


def _not_an_object(source: str) -> Problem:
    return Problem(f"not a JSON object: {source.strip()[:40]!r}")


def _refuse_constant(name: str) -> Any:
    raise Problem(f"{name} is not a JSON number")


def _once(pairs: list[tuple[str, Any]]) -> Row:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Problem(f"the key {twice!r} is there twice")
    return found


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
_STRICT = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_once)


def _line_rows(path: Path, *, strict: bool) -> Rows:
    decoder = _STRICT if strict else _DECODER
    with path.open("rb") as file:
        for number in range(1, 2**62):
            line = file.readline(ROW_LIMIT + 1)
            if not line:
                return
            if len(line) > ROW_LIMIT:
                raise Unreadable(f"line {number}", _too_long())
            if number == 1:
                line = line.removeprefix(_BOM)
            if line.isspace():
                continue
            yield f"line {number}", _parsed(line, decoder)


def _parsed(line: bytes, decoder: json.JSONDecoder) -> Row | Problem:
    try:
        row = decoder.decode(line.decode())
    except UnicodeDecodeError as exc:
        return Problem(f"byte {exc.start + 1} of the line is not UTF-8")
    except json.JSONDecodeError as exc:
        return Problem(f"not JSON: {exc.msg} at character {exc.pos + 1}")
    except ValueError:  # Python refuses to make a number of more than 4,300 digits.
        return Problem(_too_many_digits())
    except RecursionError:
        return Problem(_too_deep())
    except Problem as exc:
        return exc
    return row if isinstance(row, dict) else _not_an_object(line.decode())


def _array_rows(path: Path, *, strict: bool) -> Rows:
    """The elements of a JSON array, each decoded as soon as it is read whole.

    An incremental parser would read on as well as this does, but the ones there are
    turn half a surrogate pair into a question mark and keep the last of two equal keys.
    """
    decoder = _STRICT if strict else _DECODER
    # Bytes that are not UTF-8 become lone surrogates, to be found in their row.
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        window = _Window(file)
        window.skip("[")
        for number in range(1, 2**62):
            place = f"row {number}"
            try:
                if window.skip("]" if number == 1 else "],") == "]":
                    return
                yield place, window.element(decoder)
            except ValueError as exc:
                raise Unreadable(place, str(exc)) from None


class _Window:
    """The part of a file that is being decoded; grows until an element fits."""

    def __init__(self, file: IO[str]) -> None:
        self.file = file
        self.text = ""
        self.at = 0

    def _grow(self) -> bool:
        """Read as much again as there is, at least a block; False at the end."""
        self.text = self.text[self.at :]
        self.at = 0
        more = self.file.read(max(_BLOCK, len(self.text)))
        self.text += more
        return bool(more)

    def skip(self, expected: str) -> str:
        """Pass white space and one of these characters, if it comes next."""
        while True:
            self.at = _SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]
            if self.at < len(self.text):
                break
            if not self._grow():
                raise ValueError("the file ends before it; it was cut off")
        found = self.text[self.at]
        if found in expected:
            self.at += 1
            return found
        if "," in expected:
            raise ValueError(f"a comma or ] must come before it, not {found!r}")
        return ""

    def element(self, decoder: json.JSONDecoder) -> Row | Problem:
        self.skip("")
        while True:
            try:
                row, end = decoder.raw_decode(self.text, self.at)
                break
            except json.JSONDecodeError as exc:
                stopped = exc.pos - self.at
                if len(self.text) - self.at > ROW_LIMIT:
                    raise ValueError(_too_long()) from None
                if self._grow():
                    continue
                if stopped >= len(self.text.rstrip()) or "Unterminated" in exc.msg:
                    raise ValueError(
                        "the file ends in the middle of it; it was cut off"
                    ) from None
                raise ValueError(
                    f"not JSON: {exc.msg} at its character {stopped + 1}"
                ) from None
            except ValueError:
                raise ValueError(_too_many_digits()) from None
            except RecursionError:
                raise ValueError(_too_deep()) from None
            except Problem as exc:
                raise ValueError(str(exc)) from None
        if end - self.at > ROW_LIMIT:
            raise ValueError(_too_long())
        source = self.text[self.at : end]
        self.at = end
        if not source.isascii() and any("\udc80" <= c <= "\udcff" for c in source):
            return Problem("some of its bytes are not UTF-8")
        return row if isinstance(row, dict) else _not_an_object(source)


def _csv_rows(path: Path) -> Rows:
    csv.field_size_limit(ROW_LIMIT)
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            head = file.readline(ROW_LIMIT)
            file.seek(0)
            delimiter = max(",\t;", key=head.count)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            columns = next(reader, [])
            twice = {name for name in columns if columns.count(name) > 1}
            if twice:
                raise Unreadable("line 1", f"the column {min(twice)!r} is there twice")
            place = "line 2"
            for values in reader:
                if values:
                    yield place, _csv_row(columns, values)
                place = f"line {reader.line_num + 1}"
        except UnicodeDecodeError as exc:
            raise Unreadable(
                "", f"byte {exc.start + 1} of a block is not UTF-8; save it as UTF-8"
            ) from None
        except csv.Error as exc:
            raise Unreadable(f"line {reader.line_num}", f"not CSV: {exc}") from None


def _csv_row(columns: list[str], values: list[str]) -> Row | Problem:
    if len(values) != len(columns):
        return Problem(f"{len(values)} values for {len(columns)} columns")
    return dict(zip(columns, values, strict=True))


def _first_line(exc: Exception) -> str:
    return str(exc).split("\n")[0].strip()


def _parquet_rows(path: Path) -> Rows:
    # pyarrow takes 60 MB and a third of a second: only who needs it pays.
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path, buffer_size=1024 * 1024) as file:
            for batch in file.iter_batches(_PARQUET_BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number}", row
    except (pa.ArrowException, OSError, UnicodeDecodeError) as exc:
        raise Unreadable(
            f"row {number + 1}", f"the Parquet file is damaged: {_first_line(exc)}"
        ) from None
