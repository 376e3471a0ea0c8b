"""Recount everything the counters claim."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any, NamedTuple

from django.core.management.base import BaseCommand, CommandError
from django.db.models import (
    Case,
    Count,
    F,
    IntegerField,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    Value,
    When,
)
from django.db.models.functions import Coalesce

from labelhub.models import Assignment, Judgment, Membership, Project, Task


class Drift(NamedTuple):
    """A row that says one thing where the rows it speaks of say another."""

    subject: str
    what: str
    says: Any
    counted: Any

    def __str__(self) -> str:
        return f"{self.subject}: {self.what} {self.says}, counted {self.counted}"


class Command(BaseCommand):
    help = "Recount tasks, leases, judgments and people; exit 1 if a counter is wrong."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON array")

    def handle(self, *, json: bool, **options: Any) -> None:
        found = 0
        if json:
            drifts = list(all_drifts())
            self.stdout.write(_as_json(drifts))
            found = len(drifts)
        else:
            for drift in all_drifts():
                self.stdout.write(str(drift))
                found += 1
        if found:
            raise CommandError(f"{found} drifts found.")
        if not json:
            self.stdout.write("Every counter agrees with the rows it counts.")


def _as_json(drifts: list[Drift]) -> str:
    return json.dumps([drift._asdict() for drift in drifts], default=str)


def all_drifts() -> Iterator[Drift]:
    yield from task_drifts()
    yield from assignment_drifts()
    yield from judgment_drifts()
    yield from people_drifts()
    yield from project_drifts()


def task_drifts() -> Iterator[Drift]:
    counted = Judgment.objects.standing().filter(
        source=Judgment.Source.HUMAN, surplus=False
    )
    leased = Assignment.objects.filter(state=Assignment.State.LEASED)
    yield from _differing(Task.objects.all(), "n_done", _count_of(counted, "task"))
    yield from _differing(Task.objects.all(), "n_leased", _count_of(leased, "task"))
    judged = Task.objects.filter(status__in=[Task.Status.OPEN, Task.Status.DONE])
    right = Case(
        When(n_done=F("n_required"), then=Value(Task.Status.DONE)),
        default=Value(Task.Status.OPEN),
    )
    yield from _differing(judged, "status", right)
    crowded = Task.objects.filter(n_required__lt=F("n_done") + F("n_leased"))
    for task in crowded.iterator():
        in_hand = task.n_done + task.n_leased
        yield Drift(f"task:{task.pk}", "n_required", task.n_required, in_hand)


def assignment_drifts() -> Iterator[Drift]:
    """An assignment has one standing judgment if it was submitted, else none."""
    standing = _count_of(Judgment.objects.standing(), "assignment")
    submitted = Case(When(state=Assignment.State.SUBMITTED, then=1), default=0)
    rows = Assignment.objects.annotate(submitted=submitted)
    yield from _differing(rows, "submitted", standing)
    astray = Assignment.objects.exclude(project=F("task__project"))
    for assignment in astray.select_related("task").iterator():
        yield Drift(
            f"assignment:{assignment.pk}",
            "project",
            assignment.project_id,
            assignment.task.project_id,
        )
    twice = (
        Assignment.objects.filter(state=Assignment.State.LEASED)
        .values_list("annotator", "project")
        .annotate(n=Count("pk"))
        .filter(n__gt=1)
    )
    for annotator, project, n in twice:
        yield Drift(f"user:{annotator}", f"leases in project:{project}", 1, n)


def judgment_drifts() -> Iterator[Drift]:
    """A judgment agrees with its assignment, and its revisions follow one another."""
    human = Judgment.objects.filter(assignment__isnull=False)
    wrong = human.exclude(
        task=F("assignment__task"),
        annotator=F("assignment__annotator"),
        project=F("assignment__project"),
    )
    for judgment in wrong.iterator():
        yield Drift(f"judgment:{judgment.pk}", "task, annotator, project", "", "other")
    turned = human.filter(
        Q(shown_left="a", assignment__swapped=True)
        | Q(shown_left="b", assignment__swapped=False)
    )
    for judgment in turned.iterator():
        yield Drift(
            f"judgment:{judgment.pk}", "shown_left", judgment.shown_left, "the other"
        )
    for judgment in (
        Judgment.objects.filter(superseded_by__isnull=False)
        .exclude(
            superseded_by__assignment=F("assignment"),
            superseded_by__revision=F("revision") + 1,
        )
        .iterator()
    ):
        yield Drift(
            f"judgment:{judgment.pk}",
            "superseded_by",
            judgment.superseded_by_id,
            "not the next revision",
        )


def people_drifts() -> Iterator[Drift]:
    judged = _count_of(
        Assignment.objects.filter(
            state=Assignment.State.SUBMITTED, project=OuterRef("project")
        ),
        "annotator",
        outer="user",
    )
    yield from _differing(Membership.objects.all(), "n_judged", judged)


def project_drifts() -> Iterator[Drift]:
    counted = Task.objects.filter(status__in=[Task.Status.OPEN, Task.Status.DONE])
    yield from _differing(
        Project.objects.all(), "n_tasks", _count_of(counted, "project")
    )


def _count_of(rows: QuerySet[Any], key: str, *, outer: str = "pk") -> Coalesce:
    """How many of the rows point at each outer one."""
    grouped = rows.order_by().filter(**{key: OuterRef(outer)}).values(key)
    counted = grouped.annotate(n=Count("pk")).values("n")
    return Coalesce(Subquery(counted), 0, output_field=IntegerField())


def _differing(rows: QuerySet[Any], field: str, truth: Any) -> Iterator[Drift]:
    name = rows.model._meta.model_name
    wrong = rows.annotate(counted=truth).exclude(**{field: F("counted")})
    values = wrong.order_by("pk").values_list("pk", field, "counted")
    for pk, says, counted in values.iterator():
        yield Drift(f"{name}:{pk}", field, says, counted)
