"""Taking an import out again, whole: what a person judged or a snapshot holds stays."""

from __future__ import annotations

from django.db import models, transaction
from django.db.models import F, ProtectedError, Q
from django.db.models.functions import Now

from labelhub.importing.chunks import chunk_size
from labelhub.importing.options import ImportRefused
from labelhub.models import (
    Assignment,
    Event,
    GoldAnswer,
    ImportBatch,
    Judgment,
    Project,
    Prompt,
    Response,
    Task,
    User,
)

_HALFWAY = "It is being removed; if that was cut off, remove it again."


def remove_import(batch: ImportBatch, actor: User | None = None) -> None:
    """Delete every row this import made, or raise ImportRefused and change nothing.

    Cut off, it is finished by being run again.
    """
    batch.refresh_from_db()
    if batch.state == ImportBatch.State.REMOVED:
        return
    _refuse_what_others_need(batch)
    before = batch.state
    # Whoever imports this batch at the moment stops: the fence has risen.
    ImportBatch.objects.filter(pk=batch.pk).update(
        fence=F("fence") + 1, state=ImportBatch.State.FAILED, error=_HALFWAY
    )
    _move_tasks(batch, Task.Status.OPEN, Task.Status.LOADING)
    try:
        # Nobody can claim its tasks now; somebody may have a moment ago.
        _refuse_judged(batch)
    except ImportRefused:
        if before == ImportBatch.State.COMPLETE:
            _move_tasks(batch, Task.Status.LOADING, Task.Status.OPEN)
        ImportBatch.objects.filter(pk=batch.pk).update(state=before, error=batch.error)
        raise
    try:
        for rows in (
            Judgment.objects.filter(batch=batch),
            Assignment.objects.filter(task__batch=batch),
            Task.objects.filter(batch=batch),
            Response.objects.filter(batch=batch),
            Prompt.objects.filter(batch=batch),
        ):
            _delete(rows)
    except ProtectedError as exc:
        row = next(iter(exc.protected_objects))
        raise ImportRefused(
            f"Import {batch.pk} is only partly removed: {row._meta.verbose_name}"
            f" {row.pk} needs some of its rows."
        ) from None
    with transaction.atomic():
        ImportBatch.objects.filter(pk=batch.pk).update(
            state=ImportBatch.State.REMOVED, error="", finished_at=Now()
        )
        Event.objects.create(
            project=batch.project,
            actor=actor,
            verb="import.removed",
            subject=f"import:{batch.pk}",
            data={"counts": batch.counts},
        )


def _refuse_what_others_need(batch: ImportBatch) -> None:
    _refuse_judged(batch)
    name = f"Import {batch.pk} cannot be removed"
    for other in batch.project.imports.exclude(state=ImportBatch.State.REMOVED):
        n = other.counts.get("built_on", {}).get(str(batch.pk))
        if n and other.pk != batch.pk:
            raise ImportRefused(
                f"{name}: import {other.pk} uses {n:,} of its rows."
                f" Remove import {other.pk} first."
            )
    of_others = ~Q(batch=batch)
    for rows in (
        Response.objects.filter(of_others, prompt__batch=batch),
        Task.objects.filter(
            of_others, Q(response_a__batch=batch) | Q(response_b__batch=batch)
        ),
        Judgment.objects.filter(of_others, task__batch=batch),
    ):
        found = rows.first()
        if found is not None:
            raise ImportRefused(
                f"{name}: {found._meta.verbose_name} {found.pk}, which did not come"
                " with it, uses its rows."
            )
    frozen = batch.project.snapshots.filter(created_at__gte=batch.created_at)
    for snapshot in frozen.exclude(state="failed")[:1]:
        raise ImportRefused(
            f"{name}: {snapshot} was frozen after it and may hold its judgments."
        )


def _refuse_judged(batch: ImportBatch) -> None:
    of_its_tasks = Judgment.objects.filter(task__batch=batch)
    n_judged = of_its_tasks.filter(source=Judgment.Source.HUMAN).count()
    if n_judged:
        plural = "" if n_judged == 1 else "s"
        raise ImportRefused(
            f"Import {batch.pk} cannot be removed: people have made {n_judged:,}"
            f" judgment{plural} on its tasks, and their work is kept."
        )
    gold = GoldAnswer.objects.filter(task__batch=batch).first()
    if gold is not None:
        raise ImportRefused(
            f"Import {batch.pk} cannot be removed: its task {gold.task_id} is a gold"
            " item."
        )
    leased = Assignment.objects.filter(task__batch=batch, state=Assignment.State.LEASED)
    if leased.exists():
        raise ImportRefused(
            f"Import {batch.pk} cannot be removed: somebody has one of its tasks open."
            " Pause the project and try again when it is handed in."
        )


def _move_tasks(batch: ImportBatch, old: str, new: str) -> None:
    tasks = Task.objects.filter(batch=batch, status=old)
    sign = 1 if new == Task.Status.OPEN else -1
    while pks := list(tasks.values_list("pk", flat=True)[: chunk_size().rows]):
        with transaction.atomic():
            n = Task.objects.filter(pk__in=pks, status=old).update(status=new)
            Project.objects.filter(pk=batch.project_id).update(
                n_tasks=F("n_tasks") + sign * n
            )


def _delete(rows: models.QuerySet[models.Model]) -> None:
    while pks := list(rows.values_list("pk", flat=True)[: chunk_size().rows]):
        with transaction.atomic():
            rows.model._default_manager.filter(pk__in=pks).delete()
