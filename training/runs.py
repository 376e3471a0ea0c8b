"""The life of a run. Every change of state goes through `transition`.

The row is the queue and the truth; django-q2 is only the doorbell. An attempt is one
process on one worker, holding a lease by the database's clock and the run's fence as it
was when claimed: whoever holds an older fence changes nothing any more.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db import IntegrityError, transaction
from django.db.models import F, Q
from django.db.models.functions import Coalesce, Now
from django_q.tasks import async_task

from labelhub.models import Event
from training import processes, references
from training.core.config import RLHFConfig
from training.core.errors import RLHFConfigurationError
from training.models import Attempt, GpuSlot, Run, RunEvent, Snapshot, Worker
from training.redaction import holds_token, storable

if TYPE_CHECKING:
    from labelhub.models import Project, User

State = Run.State

LEASE = timedelta(seconds=120)
"""Longer than the slowest cold start, or a busy machine would lose what it starts."""
WORKER_SILENCE = timedelta(seconds=60)
"""A worker that has not beaten for so long is thought to be away."""

READY = (Q(base_run=None) | Q(base_run__state__in=[State.SUCCEEDED, State.STOPPED])) & (
    Q(snapshot=None) | Q(snapshot__state=Snapshot.State.READY)
)


class RunRefused(ValueError):
    """What was asked cannot be done; the sentence says why and what can be."""


# --- Asking -------------------------------------------------------------------


def launch(
    project: Project,
    *,
    actor: User | None,
    name: str,
    config: Mapping[str, Any],
    snapshot: Snapshot | None = None,
    base_run: Run | None = None,
    request_id: uuid.UUID | None = None,
    parent: Run | None = None,
) -> Run:
    """Queue a training run. The same request_id again gives the same run.

    Raises:
        RunRefused: the configuration, or what it refers to, cannot be used.
    """
    request_id = request_id or uuid.uuid4()
    if known := Run.objects.filter(request_id=request_id).first():
        return _same_request(known, project)

    values = {**config, "job_name": name, "output_dir": "."}
    if base_run is not None:
        values["base_model"] = f"run:{base_run.pk}"
    if snapshot is not None:
        values["dataset_path"] = f"snapshot:{snapshot.pk}"
    checked = _check_config(values)
    base_run, snapshot = _check_references(checked, project)
    try:
        with transaction.atomic():
            run = Run.objects.create(
                project=project,
                name=name,
                config=checked.to_dict(),
                algorithm=checked.algorithm.value,
                max_steps=checked.max_steps or 0,
                snapshot=snapshot,
                base_run=base_run,
                parent=parent,
                request_id=request_id,
                created_by=actor,
            )
            record(run, "launched", f"Launched as {name}.", actor=actor)
            ring()
    except IntegrityError:
        # Pressed twice: the other request was here between our look and our insert.
        return _same_request(Run.objects.get(request_id=request_id), project)
    return run


def stop(run: Run, *, actor: User | None) -> None:
    """Ask the run to save what it has learned and end. Asking again changes nothing."""
    _ask(run, Run.Wish.STOP, actor)


def cancel(run: Run, *, actor: User | None) -> None:
    """Ask the run to end and keep nothing. Asking again changes nothing."""
    _ask(run, Run.Wish.CANCEL, actor)


def retry(run: Run, *, actor: User | None) -> None:
    """Queue a failed run again; it goes on from its newest valid checkpoint."""
    run.refresh_from_db()
    if run.state != State.FAILED:
        raise RunRefused(
            f"Run {run.pk} is {run.get_state_display().lower()}: only a failed run "
            "can be retried. Clone it to train again."
        )
    if run.base_run is not None and not run.base_run.has_model:
        raise RunRefused(f"Run {run.base_run.pk} has no model to start from.")
    done = transition(
        run,
        {State.FAILED},
        State.QUEUED,
        kind="retried",
        message="Queued again.",
        actor=actor,
        data={"fence": run.fence},
        error=None,
        finished_at=None,
    )
    if done:
        ring()


def _ask(run: Run, wish: Run.Wish, actor: User | None) -> None:
    # The state may move between the look and the update; it moves only so often.
    for _ in range(10):
        run.refresh_from_db()
        if run.is_final:
            if run.state == State.CANCELED:
                return
            raise RunRefused(
                f"Run {run.pk} has ended already: {run.get_state_display().lower()}."
            )
        if run.state == State.STOPPING and run.wish in (wish, Run.Wish.CANCEL):
            return
        if _ask_once(run, wish, actor):
            return
    raise RunRefused(f"Run {run.pk} changes its state all the time; try again.")


def _ask_once(run: Run, wish: Run.Wish, actor: User | None) -> bool:
    if run.state == State.QUEUED:
        return transition(
            run,
            {State.QUEUED},
            State.CANCELED,
            kind="canceled",
            message="Canceled while it was queued.",
            actor=actor,
            finished_at=Now(),
            waiting_for="",
        )
    return transition(
        run,
        Run.ACTIVE,
        State.STOPPING,
        kind=f"{wish.value}_asked",
        message=f"Asked: {wish.label.lower()}.",
        actor=actor,
        wish=wish,
    )


# --- Checking what is asked ---------------------------------------------------


def _same_request(run: Run, project: Project) -> Run:
    if run.project_id != project.pk:
        raise RunRefused("This request has already launched a run of another project.")
    return run


def _check_config(values: dict[str, Any]) -> RLHFConfig:
    if holds_token(values):
        raise RunRefused(
            "The configuration holds something that looks like a token. Remove it: "
            "the worker reads HF_TOKEN from its own environment."
        )
    try:
        return RLHFConfig.from_dict(values).resolved()
    except RLHFConfigurationError as error:
        raise RunRefused(str(error)) from error


def _check_references(
    config: RLHFConfig, project: Project
) -> tuple[Run | None, Snapshot | None]:
    """The run and the snapshot that the configuration names, if they may be used."""
    try:
        return (
            references.check_models(config, project),
            references.check_data(config, project),
        )
    except references.ReferenceRefused as error:
        raise RunRefused(str(error)) from None


# --- Changing -----------------------------------------------------------------


def transition(
    run: Run,
    from_states: Collection[str],
    to: str,
    *,
    kind: str,
    message: str = "",
    actor: User | None = None,
    attempt: Attempt | None = None,
    data: Mapping[str, Any] | None = None,
    **changes: Any,
) -> bool:
    """Move a run on and record it, if it is where and whose the caller thinks it is.

    The fence compared is `attempt`'s, or that of `run` as it was loaded. False means
    that somebody else was first, and nothing has changed.
    """
    fence = run.fence if attempt is None else attempt.fence
    with transaction.atomic():
        moved = Run.objects.filter(
            pk=run.pk, state__in=list(from_states), fence=fence
        ).update(state=to, **changes)
        if moved:
            record(run, kind, message, actor=actor, attempt=attempt, data=data)
    return bool(moved)


def record(
    run: Run,
    kind: str,
    message: str,
    *,
    actor: User | None = None,
    attempt: Attempt | None = None,
    data: Mapping[str, Any] | None = None,
) -> None:
    """Add to what happened to the run, in words a person can read."""
    RunEvent.objects.create(
        run=run,
        attempt=attempt,
        actor=actor,
        kind=kind[:40],
        message=storable(message),
        data=storable(dict(data or {})),
    )
    if actor is not None:
        Event.objects.create(
            project_id=run.project_id,
            actor=actor,
            verb=f"run.{kind[:40]}",
            subject=f"run:{run.pk}",
            data=storable({"name": run.name, "message": message}),
        )


def ring() -> None:
    """Ring for whoever has a free slot; agents look by themselves if nobody hears."""

    def now() -> None:
        settle_queue()
        async_task("training.tasks.claim_runs")

    transaction.on_commit(now, robust=True)


# --- The queue ----------------------------------------------------------------


def claim(worker: Worker) -> Attempt | None:
    """Give the oldest run that is ready to a free slot of this worker.

    Safe for any number of callers at once: on SQLite the transaction is exclusive,
    on PostgreSQL rows that somebody holds are passed over, and both compare and set.
    """
    settle_queue()
    with transaction.atomic():
        slot = _free_slot(worker)
        run = _next_run() if slot else None
        if slot is None or run is None:
            return None
        moved = transition(
            run,
            {State.QUEUED},
            State.RUNNING,
            kind="claimed",
            message=f"Taken by {worker.host}, {slot.name}.",
            fence=F("fence") + 1,
            started_at=Coalesce(F("started_at"), Now()),
            waiting_for="",
            wish="",
            phase="preparing",
        )
        if not moved:
            return None
        attempt = Attempt.objects.create(
            run=run,
            fence=run.fence + 1,
            worker=worker,
            # Until the supervisor has started, the claimer answers for the attempt.
            supervisor=processes.own_identity(),
            lease_until=Now() + LEASE,
        )
        taken = GpuSlot.objects.filter(pk=slot.pk, attempt=None).update(attempt=attempt)
        if not taken:
            transaction.set_rollback(True)
            return None
        return attempt


def _free_slot(worker: Worker) -> GpuSlot | None:
    return (
        GpuSlot.objects.select_for_update(skip_locked=True, of=("self",))
        .filter(worker=worker, worker__draining=False, attempt=None)
        .exclude(worker__pid=0)
        .order_by("index")
        .first()
    )


def _next_run() -> Run | None:
    return (
        Run.objects.select_for_update(skip_locked=True, of=("self",))
        .filter(READY, state=State.QUEUED)
        .order_by("pk")
        .first()
    )


def settle_queue() -> None:
    """Fail what can never start, and say of the rest what each waits for."""
    queued = list(
        Run.objects.filter(state=State.QUEUED)
        .select_related("base_run", "snapshot")
        .defer("config", "base_run__config", "base_run__result")
        .order_by("pk")
    )
    if not queued:
        return
    reason = _reason_to_wait()
    position = 0
    for run in queued:
        if problem := _hopeless(run):
            _give_up(run, problem)
            continue
        waiting_for = _dependency(run)
        if not waiting_for:
            position += 1
            waiting_for = reason if position == 1 else f"{reason}, position {position}"
        if waiting_for != run.waiting_for:
            Run.objects.filter(pk=run.pk, state=State.QUEUED).update(
                waiting_for=waiting_for
            )


def _hopeless(run: Run) -> str:
    base, snapshot = run.base_run, run.snapshot
    if base is not None and base.is_final and not base.has_model:
        state = base.get_state_display().lower()
        return f"Run {base.pk}, whose model it starts from, is {state}."
    if snapshot is not None and snapshot.state == Snapshot.State.FAILED:
        return f"Snapshot {snapshot.pk} failed: {snapshot.error}"
    return ""


def _dependency(run: Run) -> str:
    if run.base_run is not None and not run.base_run.is_final:
        return f"run {run.base_run.pk} to succeed"
    if run.snapshot is not None and run.snapshot.state != Snapshot.State.READY:
        return f"snapshot {run.snapshot.pk} to be frozen"
    return ""


def _reason_to_wait() -> str:
    if not alive_workers().filter(draining=False).exists():
        return "a worker: start one with `manage.py start --only gpu`"
    return "a free slot"


def alive_workers() -> Any:
    return Worker.objects.filter(beat_at__gt=Now() - WORKER_SILENCE).exclude(pid=0)


def _give_up(run: Run, problem: str) -> None:
    transition(
        run,
        {State.QUEUED},
        State.FAILED,
        kind="failed",
        message=problem,
        waiting_for="",
        finished_at=Now(),
        error={
            "code": "",
            "class": "DependencyFailed",
            "message": problem,
            "where": "in the queue",
            "lines": [],
        },
    )
