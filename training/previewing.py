"""The ledger that a dataset would have, while its recipe is still being chosen."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.db.models import Count, Q, Sum

from labelhub.models import Judgment, Project, Task
from training.recipes import PRECEDENCE, Ledger, Recipe, decide
from training.tallying import PAGE

_CELLS = [(s.value, v.value) for s in PRECEDENCE for v in Judgment.Verdict]
_WON = [(source, verdict) for source, verdict in _CELLS if verdict in ("a", "b")]

Patterns = Counter[tuple[Any, ...]]
"""How many judged tasks have which status and votes; there are few kinds of tasks."""


def patterns_of(project: Project) -> Patterns:
    """One query over the votes of a project, whatever the recipe will be."""
    counts = {
        f"{source}_{verdict}": Count(
            "id", filter=Q(source=source, verdict=verdict, surplus=False)
        )
        for source, verdict in _CELLS
    }
    strengths = {
        f"{source}_{verdict}_strength": Sum(
            "strength",
            filter=Q(source=source, verdict=verdict, surplus=False),
            default=0,
        )
        for source, verdict in _WON
    }
    tasks = (
        Judgment.objects.standing()
        .filter(project=project)
        .exclude(task__status=Task.Status.LOADING)
        .order_by("task_id")
        .values("task_id")
        .annotate(is_repeat=Q(task__repeat_of__isnull=False), **counts, **strengths)
        .values_list("task__status", "is_repeat", *counts, *strengths)
    )
    return Counter(tasks.iterator(chunk_size=PAGE))


def preview(patterns: Patterns, recipe: Recipe) -> Ledger:
    """The ledger that freezing with this recipe would have."""
    ledger = Ledger(rows=None)
    for (status, is_repeat, *counts), n in patterns.items():
        outcome = decide(
            _tallies(_CELLS, counts[: len(_CELLS)]),
            recipe,
            _tallies(_WON, counts[len(_CELLS) :]),
            retired=status == Task.Status.RETIRED,
            repeat=is_repeat,
        )
        ledger.judged += n
        if outcome.reason:
            ledger.left_out[outcome.reason] += n
        else:
            ledger.exported += n
    ledger.check()
    return ledger


def _tallies(
    cells: list[tuple[str, str]], numbers: list[int]
) -> dict[str, dict[str, int]]:
    tallies: dict[str, dict[str, int]] = {}
    for (source, verdict), number in zip(cells, numbers, strict=True):
        if number:
            tallies.setdefault(source, {})[verdict] = number
    return tallies
