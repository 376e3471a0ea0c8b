"""A supervisor brings its attempt to one end, and ships all that the trainer wrote."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from django.db import OperationalError, connection

from tests.builders import make_project, make_worker
from training import (
    attempts,
    failures,
    inputs,
    processes,
    runs,
    storage,
    supervisor,
)
from training.models import Attempt, GpuSlot, LogChunk, MetricPoint, Run, Sample
from training.supervisor import Supervisor

pytestmark = pytest.mark.django_db(transaction=True)

FAKE_TRAINER = Path(__file__).with_name("fake_trainer.py")
State = Run.State


@pytest.fixture(autouse=True)
def _cheap_and_quick(settings, monkeypatch):
    settings.TRAINER_COMMAND = [sys.executable, str(FAKE_TRAINER)]
    monkeypatch.setattr(supervisor, "LISTEN_SECONDS", 0.05)
    monkeypatch.setattr(supervisor, "SHIP_SECONDS", 0.05)
    monkeypatch.setattr(supervisor, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(
        supervisor,
        "GRACE",
        {"stop": (20.0, 5.0), "shutdown": (20.0, 5.0), "cancel": (0.1, 0.3)},
    )


def queue(plan: str = "", project=None, **fields) -> Run:
    config = {"algorithm": "dpo", "base_model": "org/tiny", "dataset_path": "org/pairs"}
    return runs.launch(
        project or make_project(),
        actor=None,
        name=plan or "plain",
        config={**config, **fields.pop("config", {})},
        **fields,
    )


def claim(worker=None) -> Attempt:
    attempt = runs.claim(worker or make_worker())
    assert attempt is not None
    return attempt


def supervise(plan: str = "", **fields) -> Run:
    """Launch, claim and supervise to the end."""
    run = queue(plan, **fields)
    Supervisor(claim()).supervise()
    run.refresh_from_db()
    return run


class Background:
    """A supervisor in a thread, as if in its own process, until the block ends."""

    def __init__(self, attempt: Attempt) -> None:
        self.supervisor = Supervisor(attempt)
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.supervisor.supervise()
        finally:
            connection.close()

    def __enter__(self) -> Supervisor:
        self.thread.start()
        return self.supervisor

    def __exit__(self, *error: object) -> None:
        self.thread.join(timeout=30)
        assert not self.thread.is_alive()


def eventually(condition, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "this did not come true"
        time.sleep(0.02)


def steps_of(run: Run) -> int:
    return MetricPoint.objects.filter(run=run, name="loss").count()


def test_a_run_succeeds_with_all_that_it_wrote():
    run = supervise()
    attempt = run.attempts.get()
    assert run.state == State.SUCCEEDED
    assert run.result["status"] == "completed"
    assert (run.step, run.max_steps) == (10, 10)
    assert (attempt.state, attempt.exit_code) == (Attempt.State.SUCCEEDED, 0)
    assert GpuSlot.objects.get().attempt is None

    losses = MetricPoint.objects.filter(run=run, name="loss").order_by("step")
    assert [point.value for point in losses] == [1 / step for step in range(1, 11)]
    odd = MetricPoint.objects.filter(run=run, name="odd").first()
    assert odd and (odd.value, odd.nonfinite) == (None, "nan")
    assert Sample.objects.get().completion == "Hello."
    kinds = set(run.events.values_list("kind", flat=True))
    assert {"claimed", "phase", "succeeded"} <= kinds
    assert "progress" not in kinds


def test_the_model_is_in_the_store_before_the_run_has_succeeded(tmp_path):
    run = supervise()
    storage.open_store().get_tree(run.uri, tmp_path / "model")
    assert (tmp_path / "model" / "weights").read_text() == "trained"


def test_a_run_whose_model_cannot_be_stored_has_failed(monkeypatch):
    def refuse(*args: object) -> str:
        raise storage.StorageError("The store is full.")

    monkeypatch.setattr(storage.Store, "put_tree", refuse)
    run = supervise()
    assert run.state == State.FAILED
    assert run.error["message"] == "The store is full."
    assert GpuSlot.objects.get().attempt is None


def test_a_trainer_inherits_no_secret(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgres://mona:secret@db/x")
    monkeypatch.setenv("SECRET_KEY", "s")
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefghijklmnop")
    run = supervise()
    words = LogChunk.objects.get(attempt__run=run).text.split()
    assert {"PATH", "CUDA_VISIBLE_DEVICES", "HF_TOKEN"} <= set(words)
    assert not {"DATABASE_URL", "SECRET_KEY", "DATA_DIR"} & set(words)


def test_the_hub_token_goes_only_where_the_hub_is_needed(settings, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefghijklmnop")
    (settings.MODEL_ROOTS[0] / "tiny").mkdir(parents=True)
    (settings.DATA_ROOTS[0] / "pairs").mkdir(parents=True)
    run = supervise(config={"base_model": "tiny", "dataset_path": "pairs"})
    assert run.state == State.SUCCEEDED
    words = LogChunk.objects.get(attempt__run=run).text.split()
    assert "HF_TOKEN" not in words
    assert "HF_HUB_OFFLINE" in words


def test_config_json_refers_to_files_of_the_run_directory(settings):
    (settings.MODEL_ROOTS[0] / "tiny").mkdir(parents=True)
    settings.DATA_ROOTS[0].mkdir(parents=True)
    (settings.DATA_ROOTS[0] / "pairs.jsonl").write_text("{}\n")
    supervise(config={"base_model": "tiny", "dataset_path": "pairs.jsonl"})
    directory = inputs.attempt_directory(Attempt.objects.get())
    config = json.loads(directory.config.read_text())
    assert config["base_model"] == "inputs/base_model"
    assert config["dataset_path"] == "inputs/dataset_path.jsonl"
    assert config["output_dir"] == "."


def test_a_run_starts_from_the_model_of_another(tmp_path):
    base = supervise()
    run = queue("seconds=0", project=base.project, base_run=base)
    attempt = claim(make_worker())
    directory = inputs.make_directory(attempt)
    inputs.fetch_inputs(attempt, directory)
    assert (directory.inputs / "base_model" / "weights").read_text() == "trained"
    assert attempt.run == run


def test_a_trainer_that_says_why_it_failed_is_believed():
    run = supervise("do=fail")
    assert run.state == State.FAILED
    assert (run.error["code"], run.error["message"]) == ("RLHF020", "No rows.")
    assert run.error["where"] == "reading data"


def test_a_crash_is_told_with_class_place_and_lines_but_no_token():
    error = supervise("do=crash").error
    assert error["class"] == "RuntimeError"
    assert re.fullmatch(r"starting, fake_trainer\.py:\d+ in main", error["where"])
    assert error["lines"][0].startswith("Traceback")
    assert error["lines"][-1] == "RuntimeError: token [redacted] was refused"
    assert "hf_" not in "".join(LogChunk.objects.values_list("text", flat=True))


def test_exit_code_0_without_a_result_is_no_success():
    run = supervise("do=silent")
    assert run.state == State.FAILED
    assert run.error["class"] == "NoResult"


def test_a_trainer_killed_by_a_signal_has_failed_and_is_not_repeated():
    run = queue("seconds=5")
    with Background(claim()) as boss:
        eventually(lambda: steps_of(run) > 0)
        os.kill(boss.child.pid, signal.SIGKILL)
    run.refresh_from_db()
    assert run.state == State.FAILED
    assert "signal 9" in run.error["message"]
    assert run.attempts.get().exit_code == -9


@pytest.mark.parametrize("kills, name", [([0, 1], "OutOfMemory"), ([2, 2], "Killed")])
def test_a_kill_that_nobody_asked_for_is_put_down_to_memory(monkeypatch, kills, name):
    counted = iter(kills)
    monkeypatch.setattr(supervisor, "_killed_for_memory", lambda: next(counted))
    error = supervise("do=die").error
    assert error["class"] == name
    assert "memory" in error["message"]


def test_the_kernel_tells_how_many_it_killed_for_memory(tmp_path, monkeypatch):
    group = tmp_path / "a" / "b"
    group.mkdir(parents=True)
    (group / "memory.events").write_text("oom 4\noom_kill 3\noom_group_kill 0\n")
    own = tmp_path / "cgroup"
    monkeypatch.setattr(supervisor, "OWN_GROUP", own)
    monkeypatch.setattr(supervisor, "GROUPS", tmp_path)
    own.write_text("0::/a/b\n")
    assert supervisor._killed_for_memory() == 3
    own.write_text("4:memory:/a/b\n")
    assert supervisor._killed_for_memory() == 0


def test_a_full_disk_is_told_in_one_sentence(monkeypatch):
    def refuse(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(inputs, "write_json", refuse)
    error = supervise().error
    assert (error["class"], error["message"]) == ("DiskFull", failures.DISK_FULL)


def test_a_disk_too_full_for_the_last_words_is_named(monkeypatch):
    monkeypatch.setattr(failures, "FULL_BYTES", 2**80)
    assert supervise("do=silent").error["class"] == "DiskFull"


def test_a_trainer_that_says_nothing_is_remarked_upon_once_a_silence():
    run = queue()
    boss = Supervisor(claim())
    boss._note_silence()
    assert not run.events.filter(kind="silent").exists()
    for silence in (1, 2):
        boss.shipper.shipped = {"log": silence}
        boss._note_silence()
        boss._heard_at -= supervisor.SILENCE_SECONDS
        boss._note_silence()
        boss._note_silence()
        assert run.events.filter(kind="silent").count() == silence


def test_cancel_is_heard_while_the_inputs_are_fetched(monkeypatch):
    fetching, go_on = threading.Event(), threading.Event()

    def fetch(*args: object) -> bool:
        fetching.set()
        return not go_on.wait(timeout=60)

    monkeypatch.setattr(inputs, "fetch_inputs", fetch)
    run = queue()
    try:
        with Background(claim()):
            assert fetching.wait(timeout=30)
            runs.cancel(run, actor=None)
    finally:
        go_on.set()
    run.refresh_from_db()
    assert run.state == State.CANCELED
    assert GpuSlot.objects.get().attempt is None


@pytest.mark.parametrize("wish", [runs.stop, runs.cancel])
def test_what_is_large_goes_when_nobody_goes_on_from_it(wish):
    run = queue("seconds=5")
    with Background(claim()) as boss:
        eventually(lambda: steps_of(run) > 0)
        wish(run, actor=None)
    assert not boss.directory.checkpoints.exists()
    assert boss.directory.log.exists()


def test_the_checkpoints_of_lost_attempts_go_when_the_run_has_succeeded():
    run = queue("seconds=1")
    worker = make_worker()
    lost = claim(worker)
    with Background(lost) as boss:
        eventually(lambda: steps_of(run) > 2)
        attempts.lose(lost, "Silent.")
    attempts.free_slot(lost)
    assert boss.directory.checkpoints.exists()
    Supervisor(claim(worker)).supervise()
    run.refresh_from_db()
    assert run.state == State.SUCCEEDED
    assert not boss.directory.checkpoints.exists()


def test_a_rejected_attempt_leaves_nothing_in_the_store(monkeypatch, settings):
    put_tree = storage.Store.put_tree

    def put_and_lose(store, folder, key):
        uri = put_tree(store, folder, key)
        attempts.lose(attempt, "Silent.")
        return uri

    monkeypatch.setattr(storage.Store, "put_tree", put_and_lose)
    queue()
    attempt = claim()
    Supervisor(attempt).supervise()
    assert not Path(settings.ARTIFACT_STORE, inputs.store_key(attempt)).exists()


def test_stop_saves_and_keeps_the_model():
    run = queue("seconds=5")
    with Background(claim()):
        eventually(lambda: steps_of(run) > 0)
        runs.stop(run, actor=None)
    run.refresh_from_db()
    assert run.state == State.STOPPED
    assert run.has_model
    assert run.result["status"] == "stopped"


@pytest.mark.parametrize("plan", ["seconds=5", "do=deaf seconds=9"])
def test_cancel_ends_also_a_trainer_that_does_not_listen(plan):
    run = queue(plan)
    with Background(claim()) as boss:
        eventually(lambda: steps_of(run) > 0)
        runs.cancel(run, actor=None)
    run.refresh_from_db()
    assert run.state == State.CANCELED
    assert not run.has_model
    assert not processes.marked(boss.directory.path)
    assert GpuSlot.objects.get().attempt is None


def test_a_run_starts_from_the_model_of_one_that_was_stopped():
    base = queue("seconds=5")
    worker = make_worker()
    with Background(claim(worker)):
        eventually(lambda: steps_of(base) > 0)
        runs.stop(base, actor=None)
    queue("seconds=0", project=base.project, base_run=base)
    attempt = claim(worker)
    directory = inputs.make_directory(attempt)
    inputs.fetch_inputs(attempt, directory)
    assert (directory.inputs / "base_model" / "weights").exists()


def test_going_down_queues_the_run_again_and_it_resumes():
    run = queue("seconds=2")
    worker = make_worker()
    with Background(claim(worker)) as boss:
        eventually(lambda: steps_of(run) > 2)
        boss.go_down(signal.SIGTERM, None)
    run.refresh_from_db()
    assert run.state == State.QUEUED
    assert run.attempts.get().state == Attempt.State.INTERRUPTED

    Supervisor(claim(worker)).supervise()
    run.refresh_from_db()
    assert run.state == State.SUCCEEDED
    first = run.events.get(kind="resumed", attempt__fence=2).data["first"]
    assert first > 2
    resumed = MetricPoint.objects.filter(attempt__fence=2).order_by("step").first()
    assert resumed and resumed.step == first


def test_the_next_attempt_finds_the_starter_model_that_was_made():
    run = queue("seconds=5")
    worker = make_worker()
    with Background(claim(worker)) as boss:
        eventually(lambda: steps_of(run) > 0)
        boss.directory.starter.mkdir(parents=True)
        (boss.directory.starter / "model.safetensors").write_text("taught")
        boss.go_down(signal.SIGTERM, None)
    again = claim(worker)
    directory = inputs.make_directory(again)
    inputs.fetch_inputs(again, directory)
    inputs.carry_starter(again, directory)
    assert (directory.starter / "model.safetensors").read_text() == "taught"
    assert not boss.directory.starter.exists()


def test_a_run_asked_to_stop_is_stopped_also_by_a_host_that_goes_down():
    run = queue("seconds=5")
    with Background(claim()) as boss:
        eventually(lambda: steps_of(run) > 0)
        runs.stop(run, actor=None)
        boss.go_down(signal.SIGTERM, None)
    run.refresh_from_db()
    assert (run.state, run.has_model) == (State.STOPPED, True)


def test_a_trainer_that_does_not_stop_is_killed_and_that_is_said(monkeypatch):
    monkeypatch.setitem(supervisor.GRACE, "stop", (0.1, 0.1))
    run = queue("do=deaf seconds=9")
    with Background(claim()):
        eventually(lambda: steps_of(run) > 0)
        runs.stop(run, actor=None)
    run.refresh_from_db()
    assert run.state == State.FAILED
    assert run.error["class"] == "NotStopped"


def test_a_supervisor_that_starts_while_the_database_is_away_waits_for_it():
    left = iter(range(3))

    def away(execute, *query):
        if next(left, None) is not None:
            raise OperationalError("server closed the connection")
        return execute(*query)

    run = queue()
    attempt = claim()
    with connection.execute_wrapper(away):
        Supervisor(attempt).supervise()
    run.refresh_from_db()
    assert (run.state, run.attempts.count()) == (State.SUCCEEDED, 1)


def test_a_database_that_is_away_before_training_is_no_failure(monkeypatch):
    def away(*args: object) -> bool:
        raise OperationalError("server closed the connection")

    monkeypatch.setattr(inputs, "fetch_inputs", away)
    run = queue()
    Supervisor(claim()).supervise()
    run.refresh_from_db()
    assert run.state == State.QUEUED
    assert GpuSlot.objects.get().attempt is None


def test_a_fenced_out_supervisor_kills_its_trainer_and_changes_nothing():
    run = queue("seconds=5")
    stale = claim()
    with Background(stale) as boss:
        eventually(lambda: steps_of(run) > 0)
        attempts.lose(stale, "Silent.")
    run.refresh_from_db()
    assert run.state == State.QUEUED
    assert not processes.marked(boss.directory.path)
    stale.refresh_from_db()
    assert stale.state == Attempt.State.LOST


def test_training_goes_on_while_the_database_is_away(monkeypatch):
    away = threading.Event()
    renew, ship = attempts.beat, supervisor.Shipper.ship
    monkeypatch.setattr(supervisor, "BEAT_SECONDS", 0.05)

    def fail_while_away(function):
        def call(*args, **kwargs):
            if away.is_set():
                raise OperationalError("server closed the connection")
            return function(*args, **kwargs)

        return call

    monkeypatch.setattr(attempts, "beat", fail_while_away(renew))
    monkeypatch.setattr(supervisor.Shipper, "ship", fail_while_away(ship))
    monkeypatch.setattr(attempts, "finish", fail_while_away(attempts.finish))
    run = queue("seconds=1")
    with Background(claim()) as boss:
        eventually(lambda: steps_of(run) > 0)
        away.set()
        eventually(boss.directory.result.exists)
        away.clear()
    run.refresh_from_db()
    assert run.state == State.SUCCEEDED
    assert steps_of(run) == 10
    assert run.attempts.count() == 1


def test_a_second_supervisor_of_the_same_attempt_finds_it_ended():
    run = supervise()
    Supervisor(run.attempts.select_related("run").get()).supervise()
    assert run.events.filter(kind="succeeded").count() == 1


def test_what_an_older_database_left_under_the_number_is_put_aside(settings):
    old = settings.RUNS_DIR / "1" / "attempt-1"
    run = queue("do=silent")
    attempt = claim()
    old = inputs.attempt_directory(attempt)
    old.path.mkdir(parents=True)
    old.write_result({"status": "completed"})
    Supervisor(attempt).supervise()
    run.refresh_from_db()
    assert run.state == State.FAILED
    assert list(settings.RUNS_DIR.glob("*-before-*/attempt-1/result.json"))


def test_a_missing_input_is_told_in_one_sentence(settings):
    folder = settings.MODEL_ROOTS[0] / "tiny"
    folder.mkdir(parents=True)
    run = queue(config={"base_model": str(folder)})
    folder.rmdir()
    Supervisor(claim()).supervise()
    run.refresh_from_db()
    assert run.state == State.FAILED
    assert run.error["message"].startswith("There is no model at")
    assert run.error["class"] == "ReferenceRefused"


def test_peak_memory_is_measured():
    run = queue("seconds=1")
    Supervisor(claim()).supervise()
    peak = run.attempts.get().peak_memory_bytes
    assert 2**20 < peak < psutil.virtual_memory().total
