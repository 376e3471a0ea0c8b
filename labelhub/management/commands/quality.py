"""manage.py quality PROJECT: how far the judgments of a project can be trusted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Count, Q
from django.db.models.functions import Length

from labelhub.models import Judgment, Project
from labelhub.models.judgment import JudgmentQuerySet
from labelhub.quality.agreement import Unit, agreement, alpha
from labelhub.quality.bias import Hit, length_bias, position_bias
from labelhub.quality.estimate import Estimate

PAGE = 2000


class Command(BaseCommand):
    help = "Say how much judges agree, and what moves them besides quality."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("project", help="name or slug")
        parser.add_argument("--json", action="store_true", help="print the numbers")

    def handle(self, *args: Any, **options: Any) -> None:
        name = options["project"]
        project = Project.objects.filter(Q(slug=name) | Q(name=name)).first()
        if project is None:
            raise CommandError(f"There is no project {name!r}.")
        found = measure(project)
        if options["json"]:
            numbers = {
                source: {key: estimate.as_dict() for key, estimate in measured.items()}
                for source, measured in found.items()
            }
            self.stdout.write(json.dumps(numbers, indent=2, allow_nan=False))
            return
        if not found:
            self.stdout.write("Nothing has been judged yet.")
        for source, measured in found.items():
            self.stdout.write(f"{source} judgments")
            for key, estimate in measured.items():
                self.stdout.write(f"  {key.replace('_', ' '):<14} {_told(estimate)}")


def measure(project: Project) -> dict[str, dict[str, Estimate]]:
    """{source: {what: estimate}}; judgments of different sources are never mixed."""
    judged = (
        Judgment.objects.standing()
        .filter(project=project, task__repeat_of__isnull=True)
        .exclude(task__status="loading")
    )
    sources = judged.values("source").annotate(n=Count("id")).order_by("source")
    found = {}
    for source in [row["source"] for row in sources]:
        heard = judged.from_sources([source]).order_by("task__prompt", "task", "id")
        found[source] = {
            "agreement": agreement(_units(heard)),
            "alpha": alpha(_units(heard)),
        }
        if project.is_pairwise:
            found[source] |= {
                "length_bias": length_bias(_longer_won(heard)),
                "position_bias": position_bias(_left_won(heard)),
            }
    return found


def _units(judged: JudgmentQuerySet) -> Iterator[Unit]:
    rows = judged.values_list(
        "task__prompt_id", "task_id", "id", "annotator_id", "judge_name", "verdict"
    ).iterator(chunk_size=PAGE)
    for (prompt, _), group in groupby(rows, key=lambda row: row[:2]):
        # Somebody who judged a task twice does not agree with somebody else.
        by_judge = {person or name or -pk: said for *_, pk, person, name, said in group}
        yield prompt, list(by_judge.values())


def _longer_won(judged: JudgmentQuerySet) -> Iterator[Hit]:
    rows = judged.filter(verdict__in=["a", "b"]).values_list(
        "task__prompt_id",
        "verdict",
        Length("task__response_a__text"),
        Length("task__response_b__text"),
    )
    for prompt, verdict, a, b in rows.iterator(chunk_size=PAGE):
        if a != b:
            yield prompt, (a > b) == (verdict == "a")


def _left_won(judged: JudgmentQuerySet) -> Iterator[Hit]:
    rows = (
        judged.filter(verdict__in=["a", "b"])
        .exclude(shown_left="")
        .values_list("task__prompt_id", "verdict", "shown_left")
    )
    for prompt, verdict, left in rows.iterator(chunk_size=PAGE):
        yield prompt, verdict == left


def _told(estimate: Estimate) -> str:
    if estimate.value is None:
        return f"undefined: {estimate.because}"
    told = f"{estimate.value:.3f}"
    if estimate.low is not None:
        told += f"  {estimate.low:.3f} to {estimate.high:.3f}"
    return f"{told}  n = {estimate.n:,}  {estimate.because}".rstrip()
