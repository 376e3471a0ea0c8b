"""Files, row by row: JSON lines, a JSON array, CSV, TSV or Parquet, told by content.

No file is ever in memory as a whole, nor is a row larger than ROW_LIMIT.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import ijson

from labelhub.importing.items import Problem, Row

ROW_LIMIT = 16 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"
_PARQUET_BATCH = 256

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
        return _array_rows(path)
    if container == "csv":
        return _csv_rows(path)
    return _line_rows(path, strict=strict)


class _Metered:
    """A file that counts what was read since the last row, and refuses too much."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.since_row = 0
        self.n_rows = 0

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size)
        self.since_row += len(data)
        if self.since_row > ROW_LIMIT + 1024 * 1024:
            raise Unreadable(f"row {self.n_rows + 1}", _too_long())
        return data


def _too_long() -> str:
    return f"the row is longer than {ROW_LIMIT // 1024**2} MB"


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
    except RecursionError:
        return Problem("not JSON that can be read: nested too deeply")
    except Problem as exc:
        return exc
    if not isinstance(row, dict):
        return Problem(f"not a JSON object: {line[:40].decode(errors='replace')!r}")
    return row


def _array_rows(path: Path) -> Rows:
    with path.open("rb") as file:
        if file.read(3) != _BOM:
            file.seek(0)
        metered = _Metered(file)
        try:
            for row in ijson.items(metered, "item", use_float=True):
                metered.n_rows += 1
                metered.since_row = 0
                place = f"row {metered.n_rows}"
                if isinstance(row, dict):
                    yield place, row
                else:
                    yield place, Problem(f"not a JSON object: {row!r:.40}")
        except ijson.IncompleteJSONError as exc:
            place = f"row {metered.n_rows + 1}"
            if "lexical error" in str(exc) or "parse error" in str(exc):
                raise Unreadable(place, f"not JSON: {_first_line(exc)}") from None
            raise Unreadable(
                place, "the file ends in the middle of it; it was cut off"
            ) from None
        except ijson.JSONError as exc:
            raise Unreadable(
                f"row {metered.n_rows + 1}", f"not JSON: {_first_line(exc)}"
            ) from None


def _first_line(exc: Exception) -> str:
    words = exc.args[0] if exc.args else ""
    if isinstance(words, bytes):
        words = words.decode(errors="replace")
    return str(words).split("\n")[0].strip()


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
