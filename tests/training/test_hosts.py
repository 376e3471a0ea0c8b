"""The agent of a host beats, claims, reaps its own dead and frees its own slots."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from django.db.models.functions import Now

from tests.builders import make_project, make_run, make_worker
from training import attempts, hosts, inputs, processes, runs, tasks
from training.models import Attempt, GpuSlot, LogChunk, MetricPoint, Run, Worker

pytestmark = pytest.mark.django_db

State = Run.State
GONE = {"pid": os.getpid(), "started": "1", "boot_id": processes.boot_id()}
"""This process's pid, but of another process that had it before."""


@pytest.fixture(autouse=True)
def _no_gpu_here(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.fixture
def started(monkeypatch):
    """The attempts whose supervisors would have been started."""
    attempts: list[Attempt] = []

    def start(attempt: Attempt) -> subprocess.Popen[bytes]:
        attempts.append(attempt)
        return subprocess.Popen([sys.executable, "-c", ""])

    monkeypatch.setattr(hosts, "start_supervisor", start)
    return attempts


@pytest.fixture
def worker(settings):
    return make_worker(settings.WORKER_NAME, pid=os.getpid())


def claim(worker, **fields) -> Attempt:
    """An attempt of a new run; its supervisor is the process the fields say."""
    make_run(make_project())
    attempt = runs.claim(worker)
    assert attempt is not None
    Attempt.objects.filter(pk=attempt.pk).update(**fields)
    attempt.refresh_from_db()
    return attempt


def expire(attempt: Attempt) -> None:
    Attempt.objects.filter(pk=attempt.pk).update(
        lease_until=Now() - timedelta(seconds=1)
    )


def stray(attempt: Attempt, command: str = "import time; time.sleep(60)"):
    """A living process that works for the attempt."""
    directory = inputs.attempt_directory(attempt).path
    child = subprocess.Popen(
        [sys.executable, "-c", command],
        env={processes.ATTEMPT_MARK: str(directory)},
        start_new_session=True,
    )
    # For a moment after its start Linux shows a process without its environment.
    deadline = time.monotonic() + 10
    while not processes.marked(directory) and time.monotonic() < deadline:
        time.sleep(0.01)
    return child


def state_of(attempt: Attempt) -> tuple[str, str, bool]:
    attempt.refresh_from_db()
    run = Run.objects.get(pk=attempt.run_id)
    return run.state, attempt.state, GpuSlot.objects.filter(attempt=attempt).exists()


# --- What the host has ---


def test_a_host_without_a_gpu_has_one_slot():
    worker = hosts.register()
    assert worker.device["kind"] == "cpu"
    assert [slot.name for slot in worker.slots.all()] == ["CPU"]


def test_a_host_has_a_slot_for_each_gpu_it_may_use(monkeypatch, tmp_path):
    fake = tmp_path / "nvidia-smi"
    fake.write_text("#!/bin/sh\necho '0, NVIDIA H100, 81559'\necho '1, NVIDIA H100, 1'")
    fake.chmod(fake.stat().st_mode | stat.S_IEXEC)
    worker = hosts.register()
    assert worker.device["kind"] == "cuda"
    first, _ = worker.slots.order_by("index")
    assert (first.name, first.memory_bytes) == ("NVIDIA H100", 81559 * 2**20)

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    hosts.register()
    assert worker.slots.get().index == 1


def test_registering_again_keeps_what_runs():
    claim(hosts.register())
    hosts.register()
    assert Worker.objects.count() == 1
    assert GpuSlot.objects.get().attempt is not None


# --- The doorbell ---


def test_a_doubled_trigger_starts_one_supervisor(worker, started):
    make_run(make_project())
    assert [tasks.claim_runs(), tasks.claim_runs()] == [1, 0]
    assert len(started) == 1


def test_a_trigger_without_a_queued_run_does_nothing(worker, started):
    assert tasks.claim_runs() == 0


@pytest.mark.parametrize("silent", [{"pid": 0}, {"beat_at": "2020-01-01T00:00:00Z"}])
def test_a_host_without_a_living_agent_takes_nothing(worker, started, silent):
    Worker.objects.update(**silent)
    make_run(make_project())
    assert tasks.claim_runs() == 0


def test_a_trigger_at_a_busy_host_leaves_the_run_to_the_idle_host(
    worker, started, settings
):
    claim(worker)
    run = make_run(make_project())
    assert tasks.claim_runs() == 0  # rung here, and here is no room

    settings.WORKER_NAME = "idle"
    hosts.Agent().sweep()
    assert [attempt.run for attempt in started] == [run]
    assert started[0].worker.host == "idle"


def test_a_supervisor_that_cannot_be_started_is_a_lost_attempt(worker, monkeypatch):
    def refuse(attempt: Attempt) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(hosts, "start_supervisor", refuse)
    make_run(make_project())
    for _ in range(attempts.MAX_LOST):
        hosts.claim_and_start(worker)
    run = Run.objects.get()
    assert run.state == State.FAILED
    assert "No space left" in run.error["message"]
    assert GpuSlot.objects.get().attempt is None


def test_a_host_with_a_full_disk_takes_nothing(worker, started, monkeypatch):
    """Taken there, one run after another would fail."""
    run = make_run(make_project())
    monkeypatch.setattr(hosts, "MIN_FREE_BYTES", 2**80)
    assert tasks.claim_runs() == 0
    run.refresh_from_db()
    assert run.state == State.QUEUED


# --- Reaping ---


def test_a_living_supervisor_is_left_alone(worker):
    attempt = claim(worker, supervisor=processes.own_identity())
    hosts.reap(worker, judge_leases=True)
    assert state_of(attempt) == (State.RUNNING, "running", True)


def test_what_a_lost_attempt_had_put_in_the_store_is_removed(worker, settings):
    attempt = claim(worker, supervisor=GONE)
    half = Path(settings.ARTIFACT_STORE, inputs.store_key(attempt), "weights.0a.part")
    half.parent.mkdir(parents=True)
    half.write_text("hal")
    hosts.reap(worker, judge_leases=False)
    assert not half.parent.exists()


def test_what_was_accepted_stays_whoever_looks(worker, settings):
    """Killed after it was accepted, before it has ended."""
    attempt = claim(worker, supervisor=GONE)
    key = inputs.store_key(attempt)
    kept = Path(settings.ARTIFACT_STORE, key, "weights")
    kept.parent.mkdir(parents=True)
    kept.write_text("whole")
    done = {"message": "", "result": {}, "uri": f"store:{key}"}
    assert attempts.finish(attempt, State.SUCCEEDED, **done)
    GpuSlot.objects.update(attempt=attempt)
    hosts.reap(worker, judge_leases=False)
    assert kept.exists()
    assert GpuSlot.objects.get().attempt is None


@pytest.mark.parametrize(
    "supervisor",
    [GONE, {**processes.own_identity(), "boot_id": "before"}, {}],
    ids=["its pid was used again", "before the reboot", "never started"],
)
def test_the_attempt_of_a_dead_supervisor_is_queued_again(worker, supervisor):
    attempt = claim(worker, supervisor=supervisor)
    hosts.reap(worker, judge_leases=False)
    assert state_of(attempt) == (State.QUEUED, "lost", False)


def test_a_supervisor_that_is_just_starting_is_left_alone(worker):
    """The claimer may have been killed between claiming and telling who took over."""
    attempt = claim(worker, supervisor=GONE)
    child = stray(attempt)
    try:
        hosts.reap(worker, judge_leases=False)
        assert state_of(attempt) == (State.RUNNING, "running", True)
    finally:
        child.kill()
        child.wait()


def test_the_processes_of_a_dead_supervisor_are_killed_before_the_slot_is_free(worker):
    attempt = claim(worker, supervisor=GONE, trainer=GONE)
    child = stray(attempt)
    hosts.reap(worker, judge_leases=False)
    assert state_of(attempt) == (State.QUEUED, "lost", False)
    assert not processes.marked(inputs.attempt_directory(attempt).path)
    child.wait()


def test_a_slot_stays_taken_while_a_process_cannot_be_killed(worker, monkeypatch):
    attempt = claim(worker, supervisor=GONE)
    monkeypatch.setattr(processes, "kill", lambda find: False)
    hosts.reap(worker, judge_leases=False)
    assert state_of(attempt) == (State.RUNNING, "running", True)


def test_a_stranger_with_the_same_pid_is_never_killed(worker):
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    was = {"pid": stranger.pid, "started": "1", "boot_id": processes.boot_id()}
    claim(worker, supervisor=was, trainer=was)
    hosts.reap(worker, judge_leases=True)
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_what_a_dead_supervisor_had_not_shipped_is_shipped(worker):
    attempt = claim(worker, supervisor=GONE, trainer=GONE)
    directory = inputs.make_directory(attempt)
    directory.append_metrics(1, {"loss": 0.5}, epoch=None)
    directory.log.write_text("the last words")
    hosts.reap(worker, judge_leases=False)
    assert MetricPoint.objects.get().value == 0.5
    assert LogChunk.objects.get().text == "the last words"


def test_a_stopped_supervisor_is_ended_only_when_leases_are_judged(worker):
    attempt = claim(worker)
    child = stray(attempt)
    identity = processes.identity(child.pid)
    Attempt.objects.filter(pk=attempt.pk).update(supervisor=identity)
    expire(attempt)
    hosts.reap(worker, judge_leases=False)
    assert state_of(attempt) == (State.RUNNING, "running", True)
    hosts.reap(worker, judge_leases=True)
    assert state_of(attempt) == (State.QUEUED, "lost", False)
    child.wait()


def test_another_host_declares_an_attempt_lost_but_leaves_its_slot(worker):
    other = make_worker("other")
    attempt = claim(other, supervisor=GONE)
    hosts.reap(worker, judge_leases=True)
    assert state_of(attempt) == (State.RUNNING, "running", True)  # its lease is good
    expire(attempt)
    hosts.reap(worker, judge_leases=False)
    assert state_of(attempt) == (State.RUNNING, "running", True)
    hosts.reap(worker, judge_leases=True)
    assert state_of(attempt) == (State.QUEUED, "lost", True)

    hosts.reap(other, judge_leases=False)  # its own host is back
    assert state_of(attempt) == (State.QUEUED, "lost", False)


def test_leases_are_judged_only_after_a_time_of_contact(worker, monkeypatch):
    agent = hosts.Agent()
    agent._sweep_safely()
    assert not agent._has_been_in_contact()
    monkeypatch.setattr(runs, "LEASE", timedelta(0))
    assert agent._has_been_in_contact()


def test_a_second_agent_of_the_host_is_refused():
    with hosts._only_agent(), pytest.raises(hosts.AgentRuns, match="already"):
        hosts.Agent().run()


def test_saying_goodbye_queues_what_does_not_stop(worker, monkeypatch, started):
    monkeypatch.setattr(hosts, "GOODBYE_SECONDS", 0.3)
    agent = hosts.Agent()
    attempt = claim(worker)
    child = stray(
        attempt, "import signal,time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"
    )
    identity = processes.identity(child.pid)
    Attempt.objects.filter(pk=attempt.pk).update(supervisor=identity)
    agent.sweep()
    agent.say_goodbye()
    assert state_of(attempt) == (State.QUEUED, "interrupted", False)
    assert not processes.is_alive(identity)
    child.wait()
    assert Worker.objects.get().pid == 0
