"""The data explorer: which tasks of a project are as somebody asks, newest first.

A filter that no index serves is answered by looking: at WINDOW tasks at most for one
page, which then says so and goes on from there. So a page costs the same in a project
of a million tasks, however rare what is looked for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from django.db.models import Count, Exists, OuterRef, Q, QuerySet

from labelhub import searching
from labelhub.models import Assignment, Judgment, Project, Task

PER_PAGE = 50
WINDOW = 20_000
FEW = 2_000
"""Of so few tasks the ids are fetched first; of more, enough lie in every window."""


class Page(NamedTuple):
    tasks: list[Task]
    older: int | None
    """Where the next page begins: the tasks with lower ids than this."""
    n_looked: int = 0
    """How many tasks were looked at, where that is why the page is not full."""
    is_cut: bool = False
    """More tasks hold the words than a search finds."""


def page(project: Project, wanted: dict[str, Any]) -> Page:
    """The tasks that are as the cleaned fields of a `DataForm` say."""
    tasks, is_cut = _indexed(project, wanted)
    if wanted.get("before"):
        tasks = tasks.filter(pk__lt=wanted["before"])
    edge = tasks.values_list("pk", flat=True)[WINDOW : WINDOW + 1]
    first_left_out = next(iter(edge), None)
    if first_left_out is not None:
        tasks = tasks.filter(pk__gt=first_left_out)
    rows = list(
        _matching(tasks, wanted)
        .select_related("prompt", "response_a", "response_b")
        .defer("response_a__text", "response_b__text")[: PER_PAGE + 1]
    )
    if len(rows) > PER_PAGE:
        return Page(rows[:PER_PAGE], rows[PER_PAGE - 1].pk, is_cut=is_cut)
    if first_left_out is None:
        return Page(rows, None, is_cut=is_cut)
    return Page(rows, first_left_out + 1, n_looked=WINDOW, is_cut=is_cut)


def _indexed(project: Project, wanted: dict[str, Any]) -> tuple[QuerySet[Task], bool]:
    """What an index answers, newest first."""
    tasks, is_cut = project.tasks.order_by("-pk"), False
    if wanted.get("batch"):
        # Not by project as well, or SQLite would walk through all of its tasks.
        tasks = Task.objects.filter(batch=wanted["batch"]).order_by("-pk")
    if wanted.get("state"):
        tasks = tasks.filter(status=wanted["state"])
    if wanted.get("q"):
        ids, is_cut = searching.tasks_holding(project, wanted["q"])
        tasks = tasks.filter(pk__in=ids)
    if wanted.get("annotator"):
        judged = Assignment.objects.filter(
            annotator=wanted["annotator"],
            project=project,
            state=Assignment.State.SUBMITTED,
        )
        ids = list(judged.values_list("task_id", flat=True)[: FEW + 1])
        if len(ids) <= FEW:
            tasks = tasks.filter(pk__in=ids)
    return tasks, is_cut


def _matching(tasks: QuerySet[Task], wanted: dict[str, Any]) -> QuerySet[Task]:
    """All that was asked for, of each task on its own."""
    standing = Judgment.objects.standing().filter(task=OuterRef("pk"))
    # Probes are not tasks of their own: they are what one person saw again.
    tasks = tasks.filter(repeat_of__isnull=True)
    if wanted.get("priority") is not None:
        tasks = tasks.filter(priority=wanted["priority"])
    if model := wanted.get("model"):
        tasks = tasks.filter(
            Q(response_a__model_name=model) | Q(response_b__model_name=model)
        )
    if wanted.get("annotator"):
        tasks = tasks.filter(Exists(standing.filter(annotator=wanted["annotator"])))
    if wanted.get("verdict"):
        tasks = tasks.filter(Exists(standing.filter(verdict=wanted["verdict"])))
    if version := wanted.get("guideline"):
        judged = standing.filter(assignment__guideline__version=version)
        tasks = tasks.filter(Exists(judged))
    if wanted.get("disagree"):
        verdicts = standing.exclude(source=Judgment.Source.MODEL).values("task")
        several = verdicts.annotate(n=Count("verdict", distinct=True)).filter(n__gt=1)
        tasks = tasks.filter(Exists(several))
    return tasks


SHORT = {
    Judgment.Verdict.A: "A",
    Judgment.Verdict.B: "B",
    Judgment.Verdict.TIE: "Tie",
    Judgment.Verdict.BOTH_BAD: "Both bad",
    Judgment.Verdict.GOOD: "Good",
    Judgment.Verdict.BAD: "Bad",
}


def splits(tasks: Sequence[Task]) -> dict[int, list[tuple[str, int]]]:
    """How each was judged: {task: [("A", 2), ("Tie", 1)]}."""
    counted = (
        Judgment.objects.standing()
        .filter(task__in=[task.pk for task in tasks])
        .values_list("task", "verdict")
        .annotate(n=Count("pk"))
    )
    found: dict[int, dict[str, int]] = defaultdict(dict)
    for task, verdict, n in counted:
        found[task][verdict] = n
    return {
        task: [
            (label, by_verdict[verdict])
            for verdict, label in SHORT.items()
            if verdict in by_verdict
        ]
        for task, by_verdict in found.items()
    }


def models_among(tasks: Sequence[Task]) -> list[str]:
    responses = [response for task in tasks for response in task.responses]
    return sorted({response.model_name for response in responses} - {""})
