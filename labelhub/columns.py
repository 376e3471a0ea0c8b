"""Whole columns of the database as arrays: millions of rows in seconds."""

from __future__ import annotations

import io
from itertools import islice
from typing import Any

import pyarrow as pa
from django.db import connection
from django.db.models import QuerySet
from pyarrow import csv

INT, FLOAT, TEXT = pa.int64(), pa.float64(), pa.string()
CHUNK = 50_000


def columns_of(rows: QuerySet[Any, Any], **types: pa.DataType) -> pa.Table:
    """The columns of a `values_list`, in its order, by the names given here."""
    schema = pa.schema(list(types.items()))
    if connection.vendor == "postgresql":
        return _copied(rows, schema)
    tables = [schema.empty_table()]
    left = rows.iterator(chunk_size=2000)
    while chunk := list(islice(left, CHUNK)):
        columns = zip(zip(*chunk, strict=True), schema, strict=True)
        arrays = [pa.array(column, type=field.type) for column, field in columns]
        tables.append(pa.table(arrays, schema=schema))
    return pa.concat_tables(tables)


def _copied(rows: QuerySet[Any, Any], schema: pa.Schema) -> pa.Table:
    """By COPY: rows made into Python tuples first would take several times as long."""
    sql, params = rows.query.sql_with_params()
    content = io.BytesIO()
    with connection.cursor() as cursor:
        command = f"COPY ({sql}) TO STDOUT (FORMAT csv)"
        with cursor.copy(command, params) as copy:
            for block in copy:
                content.write(block)
    if not content.tell():
        return schema.empty_table()
    content.seek(0)
    return csv.read_csv(
        content,
        read_options=csv.ReadOptions(column_names=schema.names),
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            column_types=schema, strings_can_be_null=False
        ),
    )
