"""The files of a frozen dataset: Parquet in the store, JSON lines or CSV outside.

Nothing that is written depends on the clock, so the same rows give the same bytes (by
the same version of pyarrow). Imported only inside functions: pyarrow costs each process
12 MB and a tenth of its start.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from training.recipes import Margins, Shape
from training.tallying import ROW_GROUP, Columns

MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
CONTENT: dict[Shape, list[tuple[str, pa.DataType]]] = {
    Shape.PAIRS: [("prompt", MESSAGES), ("chosen", MESSAGES), ("rejected", MESSAGES)],
    Shape.LABELS: [
        ("prompt", MESSAGES),
        ("completion", MESSAGES),
        ("label", pa.bool_()),
    ],
    Shape.COMPLETIONS: [("prompt", MESSAGES), ("completion", MESSAGES)],
    Shape.PROMPTS: [("prompt", MESSAGES)],
}
ANSWERS = ("chosen", "rejected", "completion")
"""Columns of one assistant turn; a page holds their texts."""
VOTES: list[tuple[str, pa.DataType]] = [
    ("votes_for", pa.int32()),
    ("votes_against", pa.int32()),
    ("n_votes", pa.int32()),
    ("source", pa.string()),
]
STRENGTH = ("strength", pa.float64())
"""Empty where nobody was asked how much better."""
MARGIN = ("margin", pa.float64())
LINEAGE: list[tuple[str, pa.DataType]] = [
    ("task_id", pa.int64()),
    ("judgment_ids", pa.list_(pa.int64())),
    ("prompt_id", pa.int64()),
]

JUDGMENTS = pa.schema(
    [
        ("judgment_id", pa.int64()),
        ("task_id", pa.int64()),
        ("source", pa.string()),
        ("verdict", pa.string()),
        ("voted", pa.bool_()),
    ]
)
LEDGER = pa.schema(
    [("task_id", pa.int64()), ("prompt_id", pa.int64()), ("left_out", pa.string())]
)


class Format(StrEnum):
    PARQUET = "parquet"
    JSONL = "jsonl"
    CSV = "csv"


def schema_of(recipe: dict[str, Any]) -> pa.Schema:
    shape = Shape(recipe["shape"])
    columns = CONTENT[shape] + [STRENGTH] * (shape is Shape.PAIRS)
    if recipe.get("margins") == Margins.STRENGTH:
        columns = [*columns, MARGIN]
    return pa.schema([*columns, *LINEAGE, *VOTES])


def write_parquet(path: Path, schema: pa.Schema, pages: Iterable[Columns]) -> int:
    """Write each page as a group of rows; answer how many rows."""
    n = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for page in pages:
            arrays = [_array(page[field.name], field) for field in schema]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            n += len(arrays[0])
    return n


def _array(column: Sequence[Any], field: pa.Field) -> pa.Array:
    if pa.types.is_boolean(field.type):
        column = list(map(bool, column))  # SQLite says 0 and 1.
    if field.name not in ANSWERS:
        return pa.array(column, field.type)
    # Arrow takes a column of texts many times as fast as one of lists of dictionaries.
    turns = pa.StructArray.from_arrays(
        [pa.repeat("assistant", len(column)), pa.array(column, pa.string())],
        fields=list(MESSAGES.value_type),
    )
    each = pa.array(range(len(column) + 1), pa.int32())
    return pa.ListArray.from_arrays(each, turns, type=MESSAGES)


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class CanonicalHash:
    """sha256 over what the rows say, in their order, without database ids.

    A row is a line of JSON, and an answer in it a list of one message.
    """

    def __init__(self, shape: Shape) -> None:
        self.names = [name for name, _ in (*CONTENT[shape], *VOTES)]
        self.hash = hashlib.sha256()

    def seen(self, split: str, pages: Iterable[Columns]) -> Iterator[Columns]:
        line = f'{{"split":"{split}",{",".join(map(_value, self.names))}}}\n'
        for page in pages:
            said = zip(*(map(_encode, page[name]) for name in self.names), strict=True)
            self.hash.update("".join([line % row for row in said]).encode())
            # A line for a page that has any, so that rows without keep their hash.
            for name in (STRENGTH[0], MARGIN[0]):
                if any(page.get(name, ())):
                    told = f'{{"{name}":{_encode(page[name])}}}\n'
                    self.hash.update(told.encode())
            yield page

    def hexdigest(self) -> str:
        return self.hash.hexdigest()


def _value(name: str) -> str:
    """Where a row's value of this column goes."""
    if name in ANSWERS:
        return f'"{name}":[{{"role":"assistant","content":%s}}]'
    return f'"{name}":%s'


def read_rows(
    file: IO[bytes] | Path, limit: int | None = None
) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file, a few in memory at a time."""
    left = limit
    for batch in pq.ParquetFile(file).iter_batches(batch_size=limit or ROW_GROUP):
        rows = batch.to_pylist()
        yield from rows[:left]
        if left is not None:
            left -= len(rows)
            if left <= 0:
                return


def read_places(file: IO[bytes] | Path, places: range) -> list[dict[str, Any]]:
    """The rows at these places; only the groups of rows that hold them are read."""
    rows: list[dict[str, Any]] = []
    parquet, start = pq.ParquetFile(file), 0
    for group in range(parquet.num_row_groups):
        n = parquet.metadata.row_group(group).num_rows
        first, last = max(places.start, start), min(places.stop, start + n)
        if first < last:
            table = parquet.read_row_group(group)
            rows += table.slice(first - start, last - first).to_pylist()
        start += n
    return rows


def as_lines(file: IO[bytes] | Path, format: Format) -> Iterator[bytes]:
    """A Parquet file as JSON lines or as CSV."""
    if format is Format.JSONL:
        for row in read_rows(file):
            yield json.dumps(row, ensure_ascii=False).encode() + b"\n"
        return
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(pq.ParquetFile(file).schema_arrow.names)
    for row in read_rows(file):
        writer.writerow([_cell(value) for value in row.values()])
        yield buffer.getvalue().encode()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue().encode()


def _cell(value: Any) -> Any:
    """Message lists as JSON; text that a spreadsheet would run gets an apostrophe.

    >>> _cell("=1+1"), _cell([7]), _cell(True), _cell(None)
    ("'=1+1", '[7]', 'true', None)
    """
    if isinstance(value, list | bool):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return "'" + value
    return value


def dataset_card(facts: dict[str, Any], format: Format) -> str:
    """README.md as the Hugging Face hub reads it, from what snapshot.json holds."""
    recipe, ledger, rows = facts["recipe"], facts["ledger"], facts["rows"]
    splits = "\n".join(
        f"  - split: {split}\n    path: {split}.{format}"
        for split in rows
        if rows[split]
    )
    left_out = "".join(
        f"| − {reason} | {n:,} |\n" for reason, n in ledger["left_out"].items()
    )
    columns = "\n".join(
        f"* `{field.name}`: {str(field.type).replace('element: ', '')}"
        for field in schema_of(recipe)
    )
    return f"""---
configs:
- config_name: default
  data_files:
{splits}
---

# {facts["project"]}: {recipe["shape"]} for {recipe["for"]}

{rows["train"]:,} rows to train on and {rows["eval"]:,} to evaluate with, which share no
prompt. Frozen by LabelHub from the judgments of {", ".join(recipe["judges"])}.
sha256 over the rows: `{facts["sha256"]}`.

| Judged tasks | {ledger["judged"]:,} |
|---|---:|
{left_out}| = exported | {ledger["exported"]:,} |

Every task that was left out is in `ledger.parquet` with its reason, every judgment that
was read in `judgments.parquet`. The recipe and the statistics are in `snapshot.json`.

## Columns

{columns}
"""
