"""A run is launched once, claimed once and accepted once."""

from __future__ import annotations

import uuid
from datetime import timedelta
from functools import partial

import pytest
from django.db import IntegrityError
from django.db.models.functions import Now
from django_q.models import OrmQ

from tests.builders import make_project, make_run, make_snapshot, make_worker
from tests.threads import at_once
from training import attempts, runs
from training.models import Attempt, GpuSlot, Run, Worker

State = Run.State
CONFIG = {"algorithm": "dpo", "base_model": "org/tiny@main", "max_steps": 5}
FAILED = {"code": "", "class": "X", "message": "no", "where": "", "lines": []}


def launch(project, **fields):
    fields.setdefault("config", {**CONFIG, "dataset_path": "org/pairs@main"})
    fields.setdefault("actor", None)
    return runs.launch(project, name="helpful", **fields)


def claim(worker) -> Attempt:
    attempt = runs.claim(worker)
    assert attempt is not None
    return attempt


# --- Launching ---


def test_a_launched_run_is_queued_with_everything_that_decides_it(project, mona):
    snapshot = make_snapshot(project)
    run = launch(project, actor=mona, snapshot=snapshot, config=CONFIG)
    assert (run.state, run.algorithm, run.max_steps) == (State.QUEUED, "dpo", 5)
    assert run.snapshot == snapshot
    assert run.config["dataset_path"] == f"snapshot:{snapshot.pk}"
    assert run.config["learning_rate"] == 1e-6  # the default is written down
    event = run.events.get()
    assert (event.kind, event.actor) == ("launched", mona)


def test_the_same_request_launches_one_run(project):
    request_id = uuid.uuid4()
    first = launch(project, request_id=request_id)
    assert launch(project, request_id=request_id) == first
    assert Run.objects.count() == 1


def test_a_request_of_another_project_is_not_answered(project):
    request_id = uuid.uuid4()
    launch(project, request_id=request_id)
    with pytest.raises(runs.RunRefused, match="another project"):
        launch(make_project(), request_id=request_id)


def test_launching_rings_after_the_commit(project, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        launch(project)
        assert not OrmQ.objects.exists()
    assert OrmQ.objects.count() == 1


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"algorithm": "dppo"}, "algorithm"),
        ({"learning_rat": 1}, "did you mean learning_rate"),
        ({"algorithm": "ppo"}, "not built yet"),
        ({"base_model": "run:99"}, "There is no run 99"),
        ({"base_model": "run:x"}, "write run:12"),
        ({"base_model": "model:helpful@1"}, "registry is not built yet"),
        ({"base_model": "/etc"}, "MODEL_ROOTS"),
        ({"base_model": "../../etc"}, "MODEL_ROOTS"),
        ({"dataset_path": "/etc/passwd"}, "DATA_ROOTS"),
        ({"dataset_path": "snapshot:99"}, "There is no snapshot 99"),
        ({"eval_dataset_path": "/etc/passwd"}, "DATA_ROOTS"),
    ],
)
def test_it_refuses_with_one_sentence(project, changes, sentence):
    config = {**CONFIG, "dataset_path": "org/pairs", **changes}
    with pytest.raises(runs.RunRefused, match=sentence):
        launch(project, config=config)
    assert not Run.objects.exists()


def test_no_secret_enters_a_config(project):
    for secret in ("hf_abcdefghijklmnopqrst", "https://mona:pass@host/x"):
        config = {**CONFIG, "dataset_path": "org/pairs", "columns": {"prompt": secret}}
        with pytest.raises(runs.RunRefused, match="HF_TOKEN"):
            launch(project, config=config)
    run = launch(project)
    assert not {"token", "password", "secret"} & {
        word for key in run.config for word in key.split("_")
    }


def test_a_folder_that_leads_out_of_model_roots_is_refused(project, settings):
    root = settings.MODEL_ROOTS[0]
    root.mkdir(parents=True)
    (root / "good").mkdir()
    (root / "evil").symlink_to("/etc")
    config = {**CONFIG, "dataset_path": "org/pairs"}
    launch(project, config={**config, "base_model": "good"})
    launch(project, config={**config, "base_model": str(root / "good")})
    with pytest.raises(runs.RunRefused, match="MODEL_ROOTS"):
        launch(project, config={**config, "base_model": str(root / "evil")})
    with pytest.raises(runs.RunRefused, match="There is no model"):
        launch(project, config={**config, "base_model": str(root / "missing")})


def test_rows_of_another_project_cannot_be_used(project):
    other = make_project()
    with pytest.raises(runs.RunRefused, match="no snapshot"):
        launch(project, snapshot=make_snapshot(other), config=CONFIG)
    with pytest.raises(runs.RunRefused, match="no run"):
        launch(project, base_run=make_run(other))


# --- Claiming ---


def test_the_oldest_run_is_claimed_with_a_lease_and_a_fence(project):
    first, _ = launch(project), launch(project)
    worker = make_worker()
    attempt = claim(worker)
    first.refresh_from_db()
    assert (attempt.run, attempt.fence) == (first, 1)
    assert (first.state, first.fence) == (State.RUNNING, 1)
    assert GpuSlot.objects.get().attempt == attempt
    lease = Attempt.objects.filter(lease_until__gt=Now() + timedelta(seconds=100))
    assert lease.exists()


def test_a_full_draining_or_stopped_worker_takes_nothing(project):
    launch(project), launch(project)
    worker = make_worker()
    claim(worker)
    assert runs.claim(worker) is None
    assert runs.claim(make_worker("b", draining=True)) is None
    assert runs.claim(make_worker("c", pid=0)) is None


def test_an_idle_host_gets_the_run_that_a_busy_host_was_rung_for(project, settings):
    """The doorbell may ring at a busy host; the idle one sweeps by itself."""
    busy, idle = make_worker("busy"), make_worker("idle")
    launch(project)
    claim(busy)
    run = launch(project)
    assert runs.claim(busy) is None  # the trigger is used up here
    assert claim(idle).run == run


@pytest.mark.django_db(transaction=True)
def test_sixteen_claimers_share_four_slots_and_three_runs():
    project = make_project()
    for _ in range(3):
        launch(project)
    workers = [make_worker("a", slots=2), make_worker("b", slots=2)]
    claimed: list[Attempt] = []

    def compete(worker: Worker) -> None:
        # Whoever is passed over looks again, as the agent does.
        for _ in range(4):
            if attempt := runs.claim(worker):
                claimed.append(attempt)

    at_once(*(partial(compete, workers[n % 2]) for n in range(16)))
    assert sorted(attempt.run_id for attempt in claimed) == sorted(
        Run.objects.values_list("pk", flat=True)
    )
    assert GpuSlot.objects.exclude(attempt=None).count() == 3


def test_the_database_itself_allows_one_running_attempt(project):
    attempt = claim_one(project)
    with pytest.raises(IntegrityError):
        Attempt.objects.create(run=attempt.run, fence=2, worker=attempt.worker)


def test_a_run_waits_for_the_run_it_starts_from(project):
    base = launch(project)
    run = launch(project, base_run=base)
    worker = make_worker(slots=2)
    attempt = claim(worker)
    assert attempt.run == base
    assert runs.claim(worker) is None
    run.refresh_from_db()
    assert run.waiting_for == f"run {base.pk} to succeed"

    attempts.finish(attempt, State.SUCCEEDED, message="", result={}, uri="store:x")
    assert claim(worker).run == run


def test_a_run_fails_with_the_run_it_starts_from(project):
    base = launch(project)
    run = launch(project, base_run=base)
    last = launch(project, base_run=run)
    runs.cancel(base, actor=None)
    assert runs.claim(make_worker()) is None
    runs.settle_queue()
    for waiting in (run, last):
        waiting.refresh_from_db()
        assert waiting.state == State.FAILED
    assert f"Run {base.pk}" in run.error["message"]
    with pytest.raises(runs.RunRefused, match="left no model"):
        launch(project, base_run=base)


def test_a_run_waits_until_its_snapshot_is_frozen(project):
    snapshot = make_snapshot(project, state="freezing", sha256="")
    run = launch(project, snapshot=snapshot, config=CONFIG)
    assert runs.claim(make_worker()) is None
    run.refresh_from_db()
    assert run.waiting_for == f"snapshot {snapshot.pk} to be frozen"


def test_a_queued_run_says_what_it_waits_for(project):
    run, second = launch(project), launch(project)
    runs.settle_queue()
    run.refresh_from_db()
    assert "start --only gpu" in run.waiting_for
    make_worker()
    runs.settle_queue()
    second.refresh_from_db()
    assert second.waiting_for == "a free slot, position 2"


# --- Ending ---


def claim_one(project, **fields) -> Attempt:
    launch(project, **fields)
    return claim(make_worker())


def test_a_result_is_accepted_once(project):
    attempt = claim_one(project)
    accepted = [
        attempts.finish(attempt, State.SUCCEEDED, message="", result={"n": n}, uri="x")
        for n in range(2)
    ]
    assert accepted == [True, False]
    attempt.run.refresh_from_db()
    attempt.refresh_from_db()
    assert attempt.run.result == {"n": 0}
    assert attempt.state == Attempt.State.SUCCEEDED
    assert GpuSlot.objects.get().attempt is None


def test_the_fence_rejects_the_result_of_a_lost_attempt(project):
    stale = claim_one(project)
    assert attempts.lose(stale, "Silent.")
    assert not attempts.beat(stale)
    attempts.free_slot(stale)
    current = claim(stale.worker)
    assert current.fence == stale.fence + 1

    assert not attempts.finish(stale, State.SUCCEEDED, message="", result={})
    assert not attempts.finish(stale, State.FAILED, message="", error=FAILED)
    assert not attempts.interrupt(stale)
    assert not attempts.lose(stale, "Again.")
    current.refresh_from_db()
    assert current.state == Attempt.State.RUNNING
    assert GpuSlot.objects.get().attempt == current
    assert attempts.beat(current)


def test_losing_an_attempt_keeps_its_slot_for_its_own_host(project):
    attempt = claim_one(project)
    attempts.lose(attempt, "Silent.")
    assert GpuSlot.objects.get().attempt == attempt
    assert runs.claim(attempt.worker) is None


def test_a_run_is_given_up_after_three_losses(project):
    attempt = claim_one(project)
    for loss in range(attempts.MAX_LOST):
        assert attempts.lose(attempt, f"Loss {loss}.")
        attempts.free_slot(attempt)
        attempt = runs.claim(attempt.worker) or attempt
    run = Run.objects.get()
    assert run.state == State.FAILED
    assert run.error["class"] == "Lost"
    assert run.finished_at

    runs.retry(run, actor=None)
    attempt = claim(attempt.worker)
    attempts.lose(attempt, "Once more.")
    run.refresh_from_db()
    assert run.state == State.QUEUED  # a retry begins to count anew


def test_an_interrupted_run_is_queued_again(project):
    attempt = claim_one(project)
    assert attempts.interrupt(attempt)
    attempt.run.refresh_from_db()
    assert attempt.run.state == State.QUEUED
    assert claim(attempt.worker).fence == 2


def test_every_change_is_an_event(project, mona):
    run = launch(project, actor=mona)
    attempt = claim(make_worker())
    runs.stop(run, actor=mona)
    attempts.finish(attempt, State.STOPPED, message="Stopped.", result={})
    kinds = list(run.events.order_by("pk").values_list("kind", flat=True))
    assert kinds == ["launched", "claimed", "stop_asked", "stopped"]


# --- Asking ---


def test_canceling_a_queued_run_is_immediate_and_idempotent(project, mona):
    run = launch(project)
    runs.cancel(run, actor=mona)
    runs.cancel(run, actor=mona)
    run.refresh_from_db()
    assert run.state == State.CANCELED
    assert run.events.filter(kind="canceled").count() == 1
    assert runs.claim(make_worker()) is None


def test_a_running_run_is_asked_once_and_cancel_beats_stop(project, mona):
    run = claim_one(project).run
    for _ in range(2):
        runs.stop(run, actor=mona)
    run.refresh_from_db()
    assert (run.state, run.wish) == (State.STOPPING, "stop")
    runs.cancel(run, actor=mona)
    runs.stop(run, actor=mona)
    run.refresh_from_db()
    assert run.wish == "cancel"
    assert run.events.filter(kind__endswith="asked").count() == 2


def test_what_has_ended_cannot_be_stopped(project):
    attempt = claim_one(project)
    attempts.finish(attempt, State.SUCCEEDED, message="", result={})
    for ask in (runs.stop, runs.cancel):
        with pytest.raises(runs.RunRefused, match="succeeded"):
            ask(attempt.run, actor=None)


def test_only_a_failed_run_is_retried(project):
    attempt = claim_one(project)
    with pytest.raises(runs.RunRefused, match="running"):
        runs.retry(attempt.run, actor=None)
    attempts.finish(attempt, State.FAILED, message="no", error=FAILED)
    runs.retry(attempt.run, actor=None)
    run = Run.objects.get()
    assert (run.state, run.error, run.finished_at) == (State.QUEUED, None, None)


def test_a_lost_run_follows_the_wish_it_had(project):
    attempt = claim_one(project)
    runs.cancel(attempt.run, actor=None)
    assert attempts.lose(attempt, "Silent.")
    assert Run.objects.get().state == State.CANCELED
