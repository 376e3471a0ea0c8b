"""A project's judgments, measured: columns in, the numbers of `labelhub.quality` out.

It takes seconds to minutes, so it runs in a process of its own, never in a request.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Length

from labelhub.columns import FLOAT, INT, TEXT, columns_of
from labelhub.models import Judgment, Project, Response, User
from labelhub.quality.arrays import Bools, Ints, Judged, groups
from labelhub.quality.bias import NO_LENGTH, NO_SIDE, favour
from labelhub.quality.coefficients import (
    ac1,
    agreement,
    alpha,
    by_judge,
    coefficients,
    self_consistency,
)
from labelhub.quality.estimate import Estimate

PAIRWISE = ("a", "tie", "b", "both_bad")
BINARY = ("bad", "good")
"""Verdicts by their codes; those of pairs in their order, but for both_bad."""
A, TIE, B, BOTH_BAD = range(4)
MOST_JUDGES = 1000
MOST_SLICES = 20
"""How many get lines of their own, those with the most judgments first."""

Progress = Callable[[str], None]
Numbers = dict[str, Any]


def measure(
    project: Project, progress: Progress = lambda doing: None
) -> dict[str, Numbers]:
    """{source: {what: numbers}}; judgments of different sources are never mixed."""
    progress("reading judgments")
    rows, names = _read(project)
    found = {}
    for source in sorted(rows["source"].unique().to_pylist()):
        progress(f"measuring {source} judgments")
        heard = rows.filter(pc.equal(rows["source"], source))
        found[source] = _numbers(project, heard, names)
    return found


def _numbers(project: Project, rows: pa.Table, names: list[str]) -> Numbers:
    once = _where(rows, _of(rows, "original") == _of(rows, "task"))
    judged = _judged(once)
    found: Numbers = {"n_judgments": len(once)}
    found |= coefficients(judged, len(names))
    if project.is_pairwise:
        found["alpha_ordinal"] = _in_order(judged)
        found |= _biases(once)
    known = _where(once, _of(once, "judge") < len(names))
    twice = _twice(_where(rows, _of(rows, "judge") < len(names)))
    found["self_consistency"] = _consistency(twice)
    found["judges"] = _judges(project, known, twice, names)
    found["slices"] = _slices(once)
    return found


def _of(rows: pa.Table, name: str) -> Ints:
    found: Ints = rows[name].to_numpy()
    return found


def _where(rows: pa.Table, mask: Bools) -> pa.Table:
    return rows.filter(pa.array(mask))


def _judged(rows: pa.Table) -> Judged:
    return Judged.of(*(_of(rows, c) for c in ("prompt", "task", "judge", "verdict")))


def _in_order(judged: Judged) -> Estimate:
    """α where a tie lies between a and b, and both bad is a tie."""
    counts, prompt = judged.counts()
    in_order = np.zeros((len(counts), 3), dtype=np.int64)
    for verdict in range(counts.shape[1]):
        in_order[:, TIE if verdict == BOTH_BAD else verdict] += counts[:, verdict]
    return alpha(in_order, prompt, ordinal=True)


def _biases(rows: pa.Table) -> dict[str, Estimate]:
    verdict, prompt = _of(rows, "verdict"), _of(rows, "prompt")
    winner = np.select([verdict == A, verdict == B], [1, -1])
    return {
        "length_bias": favour(prompt, winner, _of(rows, "longer"), NO_LENGTH),
        "position_bias": favour(prompt, winner, _of(rows, "left"), NO_SIDE),
    }


def _twice(rows: pa.Table) -> pa.Table:
    """Judgments of repeats, each beside what the same person said the first time."""
    is_repeat = _of(rows, "original") != _of(rows, "task")
    first, again = _where(rows, ~is_repeat), _where(rows, is_repeat)
    n = int(_of(rows, "judge").max(initial=0)) + 1
    keys = _of(first, "task") * n + _of(first, "judge")
    order = np.argsort(keys, kind="stable")
    wanted = _of(again, "original") * n + _of(again, "judge")
    at, is_there = _places(keys[order], wanted)
    said = _of(first, "verdict")[order[at[is_there]]]
    return _where(again, is_there).append_column("said", pa.array(said))


def _consistency(twice: pa.Table) -> Estimate:
    return self_consistency(*(_of(twice, c) for c in ("prompt", "said", "verdict")))


def _judges(
    project: Project, rows: pa.Table, twice: pa.Table, names: list[str]
) -> Numbers:
    """What can be said of each person by name, those with the most judgments first."""
    against = by_judge(_judged(rows))
    of_judge = dict(groups(_of(rows, "judge"), len(names)))
    again = dict(groups(_of(twice, "judge"), len(names)))
    most_first = sorted(of_judge, key=lambda judge: -len(of_judge[judge]))
    found = {}
    for judge in most_first[:MOST_JUDGES]:
        own = rows.take(of_judge[judge])
        numbers: Numbers = {"n_judgments": len(own), **against.get(judge, {})}
        if project.is_pairwise:
            numbers |= _biases(own)
        if judge in again:
            numbers["self_consistency"] = _consistency(twice.take(again[judge]))
        found[names[judge]] = numbers
    return found


def _slices(rows: pa.Table) -> Numbers:
    """{slice: {part: agreement}}, where a slice has more than one part."""
    found: Numbers = {}
    for name in ("import", "category"):
        coded = rows[name].fill_null("").combine_chunks().dictionary_encode()
        labels, code = coded.dictionary.to_pylist(), _ints(coded.indices)
        if len(labels) < 2:
            continue
        parts = sorted(groups(code, len(labels)), key=lambda part: -len(part[1]))
        found[name] = {}
        for part, own in parts[:MOST_SLICES]:
            judged = _judged(rows.take(own))
            counts, prompt = judged.counts()
            found[name][labels[part] or "none"] = {
                "n_judgments": len(judged),
                "agreement": agreement(counts, prompt),
                "alpha": alpha(counts, prompt),
                "ac1": ac1(counts, prompt),
            }
    return found


def _read(project: Project) -> tuple[pa.Table, list[str]]:
    """Standing judgments with what their tasks and responses say; the judges' names.

    Judges count from 0; from the number of names on each is nobody known.
    """
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
    tasks = _tasks(project)
    at, is_there = _places(_ints(tasks["pk"]), _ints(judged["task"]))
    judged, tasks = _where(judged, is_there), tasks.take(at[is_there])
    judge, names = _named(judged)
    verdicts = PAIRWISE if project.is_pairwise else BINARY
    task, original = _ints(judged["task"]), _ints(tasks["original"])
    columns = {
        "source": judged["source"],
        "task": task,
        "original": np.where(original < 0, task, original),
        "judge": judge,
        "verdict": _coded(judged["verdict"], verdicts),
        "left": _coded(judged["shown_left"], ("b", "", "a")) - 1,
        "seconds": judged["seconds"].fill_null(np.nan),
        **{name: tasks[name] for name in ("prompt", "longer", "import", "category")},
    }
    return pa.table(columns), names


def _tasks(project: Project) -> pa.Table:
    tasks = columns_of(
        project.tasks.exclude(status="loading")
        .order_by("id")
        .values_list(
            *("id", "prompt_id", "repeat_of_id", "batch_id"),
            *("response_a_id", "response_b_id"),
            KeyTextTransform("category", "prompt__metadata"),
        ),
        **{"pk": INT, "prompt": INT, "original": INT, "import": TEXT},
        **{"a": INT, "b": INT, "category": TEXT},
    )
    responses = columns_of(
        Response.objects.filter(prompt__project=project)
        .order_by("id")
        .values_list("id", Length("text")),
        pk=INT,
        length=INT,
    )
    pk, length = _ints(responses["pk"]), _ints(responses["length"])
    a, b = (length[_places(pk, _ints(tasks[side]))[0]] for side in "ab")
    return tasks.append_column("longer", pa.array(np.sign(a - b)))


def _ints(column: pa.Array | pa.ChunkedArray) -> Ints:
    """-1 where there is none."""
    found: Ints = column.fill_null(-1).to_numpy().astype(np.int64)
    return found


def _places(keys: Ints, wanted: Ints) -> tuple[Ints, Bools]:
    """Where in the sorted keys each is, and whether it is there at all."""
    if not len(keys):
        return np.zeros(len(wanted), dtype=np.int64), np.zeros(len(wanted), dtype=bool)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return at, keys[at] == wanted


def _coded(column: pa.ChunkedArray, values: Sequence[str]) -> Ints:
    return _ints(pc.index_in(column, value_set=pa.array(values)))


def _named(judged: pa.Table) -> tuple[Ints, list[str]]:
    """Annotators, then judges by name, then one for each judgment of nobody known."""
    person, name = _ints(judged["person"]), judged["judge_name"]
    people = np.unique(person[person >= 0]).tolist()
    usernames = User.objects.in_bulk(people)
    names = sorted(set(name.unique().to_pylist()) - {""})
    by_name = pc.index_in(name, value_set=pa.array(names, type=TEXT))
    judge = _ints(by_name)
    n_known = len(people) + len(names)
    judge = np.where(judge < 0, n_known + np.arange(len(judge)), judge + len(people))
    judge = np.where(person < 0, judge, np.searchsorted(people, person))
    return judge, [str(usernames[pk]) for pk in people] + names
