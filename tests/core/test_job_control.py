"""Runs that do not go straight to their end: stopped, killed, resumed, watched."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.core.conftest import make_pairs
from training.core.run import anchored, main
from training.core.run_directory import RunDirectory, iter_lines, write_json

pytestmark = pytest.mark.slow

LONG = {"max_steps": 5000, "num_sample_prompts": 0}
LONG_LOGGING = {"log_interval": 1, "eval_interval": 5000, "save_interval": 20}


def run_job(config, **options):
    from training.core.runner import RLHFJobRunner

    return RLHFJobRunner(config, **options).run()


def losses(run):
    return {
        line["step"]: line["loss"] for line, _ in run.iter_metrics() if "loss" in line
    }


def start(run, *, parent_code=None, **environment):
    """The trainer as a process, behind a parent of its own where that has code."""
    command = [sys.executable, "-m", "training.core.run", str(run.path)]
    if parent_code:
        command = [sys.executable, "-c", parent_code, *command]
    with run.log.open("wb") as log:
        return subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        )


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)
    return found


def write_config(config):
    """config.json as a supervisor writes it, with paths relative to the directory."""
    run = RunDirectory(config.output_dir)
    values = {**config.to_dict(), "output_dir": ".", "dataset_path": "data"}
    write_json(run.config, values)
    return run


@pytest.fixture(
    params=[("sft", "lora"), ("reward_model", "lora"), ("dpo", "full")], ids="-".join
)
def finished(request, trained):
    return trained(*request.param)


def test_resuming_repeats_the_losses(finished, make_config, no_reload):
    original, whole, before = finished
    method = str(original.method)
    config = make_config(str(original.algorithm), peft={"method": method})
    run = RunDirectory(config.output_dir)
    [oldest, _] = sorted(before.checkpoints.iterdir())
    shutil.copytree(oldest, run.checkpoints / oldest.name)

    result = run_job(config)

    step = int(oldest.name.rpartition("-")[2])
    expected = {n: loss for n, loss in losses(before).items() if n > step}
    assert losses(run) == expected
    assert len(expected) == 2
    assert result.total_steps == whole.total_steps
    assert result.final_loss == whole.final_loss
    assert "resumed" in [line["kind"] for line, _ in iter_lines(run.events)]


def test_a_run_that_is_asked_to_stop_saves_first(make_config):
    config = make_config()
    run = RunDirectory(config.output_dir)
    run.write_control("stop")

    result = run_job(config)

    assert (result.status, result.total_steps) == ("stopped", 1)
    assert run.read_result()["final_checkpoint_path"] == "checkpoints/checkpoint-1"
    assert run.newest_valid_checkpoint().name == "checkpoint-1"
    assert not run.final.exists()


def test_a_checkpoint_that_is_asked_for_is_made_once(make_config, no_reload):
    config = make_config(logging={"save_interval": 8})
    run = RunDirectory(config.output_dir)
    run.write_control("checkpoint")

    result = run_job(config)

    assert result.status == "completed"
    events = [line for line, _ in iter_lines(run.events)]
    saved = [line["step"] for line in events if line["kind"] == "checkpoint"]
    assert saved == [1, 8]


def test_a_wish_to_stop_at_the_last_step_comes_too_late(make_config, no_reload):
    config = make_config(max_steps=1)
    RunDirectory(config.output_dir).write_control("stop")
    assert run_job(config).status == "completed"


def test_killing_the_supervisor_kills_the_trainer_and_leaves_no_result(
    make_config, no_reload
):
    config = make_config("reward_model", logging=LONG_LOGGING, **LONG)
    run = write_config(config)
    code = "import subprocess, sys; subprocess.run(sys.argv[1:])"
    parent = start(run, parent_code=code, LABELHUB_DIE_WITH_PARENT="1")
    try:
        wait_for(lambda: run.newest_valid_checkpoint())
    finally:
        parent.kill()
        parent.wait()

    def is_still():
        size = run.metrics.stat().st_size
        time.sleep(0.5)
        return size == run.metrics.stat().st_size

    wait_for(is_still, seconds=10)
    assert run.read_result() is None

    # What it left is enough to go on from.
    resumed = int(run.newest_valid_checkpoint().name.rpartition("-")[2])
    shorter = {**config.to_dict(), "max_steps": resumed + 2}
    result = run_job(type(config).from_dict(shorter))
    assert (result.status, result.total_steps) == ("completed", resumed + 2)


def test_sigterm_stops_as_a_supervisor_would(make_config):
    run = write_config(make_config("sft", logging=LONG_LOGGING, **LONG))
    trainer = start(run)
    try:
        wait_for(lambda: losses(run))
        trainer.send_signal(signal.SIGTERM)
        assert trainer.wait(timeout=60) == 0
    finally:
        trainer.kill()
    result = run.read_result()
    assert result["status"] == "stopped"
    assert 0 < result["total_steps"] < 5000
    assert run.newest_valid_checkpoint() is not None


def test_the_command_reports_a_configuration_it_cannot_run(make_config):
    run = write_config(make_config())
    values = {"algorithm": "dpo", "lerning_rate": 1}
    write_json(run.config, values)
    assert main([str(run.path)]) == 1
    error = run.read_result()["error"]
    assert error["code"] == "RLHF001"
    assert "did you mean learning_rate?" in error["message"]


def test_paths_in_a_run_directory_are_its_own(make_config):
    config = make_config()
    run = write_config(config)
    values = {**config.to_dict(), "output_dir": ".", "dataset_path": "data"}
    for given, expected in [
        ("inputs/base_model", str(run.path / "inputs" / "base_model")),
        ("org/name@main", "org/name@main"),
        ("/models/llama", "/models/llama"),
    ]:
        found = anchored(type(config).from_dict({**values, "base_model": given}), run)
        assert found.base_model == expected
        assert found.dataset_path == str(run.path / "data")
        assert found.output_dir == str(run.path)


def test_a_run_leaves_other_directories_alone(make_config, no_reload, monkeypatch):
    """The trainer writes its run directory and nothing else."""
    config = make_config(rows=make_pairs(16), eval_rows=[], max_steps=1)
    elsewhere = RunDirectory(config.output_dir).path.parent / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    run_job(config)
    assert list(elsewhere.iterdir()) == []
