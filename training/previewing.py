"""The ledger that a dataset would have, while its recipe is still being chosen."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.db.models import Count, Q

from labelhub.models import Judgment, Project, Task
from training.recipes import PRECEDENCE, Ledger, Recipe, decide
from training.tallying import PAGE

_CELLS = [(s.value, v.value) for s in PRECEDENCE for v in Judgment.Verdict]

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
    tasks = (
        Judgment.objects.standing()
        .filter(project=project)
        .exclude(task__status=Task.Status.LOADING)
        .order_by("task_id")
        .values("task_id")
        .annotate(is_repeat=Q(task__repeat_of__isnull=False), **counts)
        .values_list("task__status", "is_repeat", *counts)
    )
    return Counter(tasks.iterator(chunk_size=PAGE))


def preview(patterns: Patterns, recipe: Recipe) -> Ledger:
    """The ledger that freezing with this recipe would have."""
    ledger = Ledger(rows=None)
    for (status, is_repeat, *counts), n in patterns.items():
        tallies: dict[str, dict[str, int]] = {}
        for (source, verdict), votes in zip(_CELLS, counts, strict=True):
            if votes:
                tallies.setdefault(source, {})[verdict] = votes
        outcome = decide(
            tallies, recipe, retired=status == Task.Status.RETIRED, repeat=is_repeat
        )
        ledger.judged += n
        if outcome.reason:
            ledger.left_out[outcome.reason] += n
        else:
            ledger.exported += n
    ledger.check()
    return ledger
