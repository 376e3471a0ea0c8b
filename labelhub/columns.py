"""A project's judgments as columns: millions of rows in seconds."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from django.db import connection
from django.db.models import CharField, QuerySet
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast, Length
from pyarrow import csv

from labelhub.models import Judgment, Project, Response, User
from labelhub.quality.arrays import Bools, Ints

INT, FLOAT, TEXT = pa.int64(), pa.float64(), pa.string()
CHUNK = 50_000
PAIRWISE = ("a", "tie", "b", "both_bad")
BINARY = ("bad", "good")
"""Verdicts by their codes; those of pairs in their order, but for both_bad."""
A, TIE, B, BOTH_BAD = range(4)
STEPS = 4
"""Of log length ratios to a doubling, so that few of them differ."""


@dataclass(frozen=True, eq=False)
class Judgments:
    """Standing judgments with what their tasks and responses say.

    A judge and a model is the number of its name; judges above the number of names
    are nobody known, and a model below 0 has no name.
    """

    rows: pa.Table
    judges: list[str]
    models: list[str]


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


def read_judgments(project: Project) -> Judgments:
    judged = columns_of(
        Judgment.objects.standing()
        .filter(project=project)
        .order_by()
        .values_list(
            *("id", "task_id", "annotator_id", "judge_name"),
            *("source", "verdict", "shown_left", "seconds"),
        ),
        **{"pk": INT, "task": INT, "person": INT, "judge_name": TEXT},
        **{"source": TEXT, "verdict": TEXT, "shown_left": TEXT, "seconds": FLOAT},
    ).sort_by("pk")
    tasks, models = _tasks(project)
    at, is_there = places(as_ints(tasks["pk"]), as_ints(judged["task"]))
    judged, tasks = judged.filter(pa.array(is_there)), tasks.take(at[is_there])
    judge, names = _named(judged)
    verdicts = PAIRWISE if project.is_pairwise else BINARY
    task, original = as_ints(judged["task"]), as_ints(tasks["original"])
    columns = {
        "source": judged["source"],
        "task": task,
        "original": np.where(original < 0, task, original),
        "judge": judge,
        "verdict": _coded(judged["verdict"], verdicts),
        "left": _coded(judged["shown_left"], ("b", "", "a")) - 1,
        "seconds": judged["seconds"].fill_null(np.nan),
        **{name: tasks[name] for name in _KEPT},
    }
    return Judgments(rows=pa.table(columns), judges=names, models=models)


_KEPT = (
    *("prompt", "longer", "log_ratio", "model_a", "model_b"),
    *("a", "b", "import", "category"),
)


def _tasks(project: Project) -> tuple[pa.Table, list[str]]:
    tasks = columns_of(
        project.tasks.exclude(status="loading")
        .order_by("id")
        .values_list(
            *("id", "prompt_id", "repeat_of_id"),
            Cast("batch_id", CharField()),
            *("response_a_id", "response_b_id"),
            Cast(KeyTextTransform("category", "prompt__metadata"), CharField()),
        ),
        **{"pk": INT, "prompt": INT, "original": INT, "import": TEXT},
        **{"a": INT, "b": INT, "category": TEXT},
    )
    responses = columns_of(
        Response.objects.filter(prompt__project=project)
        .order_by("id")
        .values_list("id", "model_name", Length("text")),
        **{"pk": INT, "model": TEXT, "length": INT},
    )
    models = sorted(set(responses["model"].unique().to_pylist()) - {""})
    model = _coded(responses["model"], models)
    pk, length = as_ints(responses["pk"]), as_ints(responses["length"])
    is_pair = as_ints(tasks["b"]) >= 0
    at_a, at_b = (places(pk, as_ints(tasks[side]))[0] for side in "ab")
    a, b = length[at_a], length[at_b]
    ratio = np.log2(np.maximum(a, 1) / np.maximum(b, 1)).clip(-5, 5)
    for name, column in (
        ("longer", np.sign(a - b)),
        ("log_ratio", np.round(ratio * STEPS) / STEPS),
        ("model_a", model[at_a]),
        ("model_b", np.where(is_pair, model[at_b], -1)),
    ):
        tasks = tasks.append_column(name, pa.array(column))
    return tasks, models


def as_ints(column: pa.Array | pa.ChunkedArray) -> Ints:
    """-1 where there is none."""
    found: Ints = column.fill_null(-1).to_numpy().astype(np.int64)
    return found


def places(keys: Ints, wanted: Ints) -> tuple[Ints, Bools]:
    """Where in the sorted keys each is, and whether it is there at all."""
    if not len(keys):
        return np.zeros(len(wanted), dtype=np.int64), np.zeros(len(wanted), dtype=bool)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return at, keys[at] == wanted


def _coded(column: pa.ChunkedArray, values: Sequence[str]) -> Ints:
    return as_ints(pc.index_in(column, value_set=pa.array(values, type=TEXT)))


def _named(judged: pa.Table) -> tuple[Ints, list[str]]:
    """Annotators, then judges by name, then one for each judgment of nobody known."""
    person, name = as_ints(judged["person"]), judged["judge_name"]
    people = np.unique(person[person >= 0]).tolist()
    usernames = User.objects.in_bulk(people)
    names = sorted(set(name.unique().to_pylist()) - {""})
    by_name = pc.index_in(name, value_set=pa.array(names, type=TEXT))
    judge = as_ints(by_name)
    n_known = len(people) + len(names)
    judge = np.where(judge < 0, n_known + np.arange(len(judge)), judge + len(people))
    judge = np.where(person < 0, judge, np.searchsorted(people, person))
    return judge, [str(usernames[pk]) for pk in people] + names
