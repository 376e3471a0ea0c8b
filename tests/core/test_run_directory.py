"""The files between web and trainer are whole or absent, whoever is killed."""

from __future__ import annotations

import json
import math
import os

import pytest

from training.core.run_directory import (
    RunDirectory,
    iter_lines,
    read_valid_manifest,
    write_json,
    write_manifest,
)


@pytest.fixture
def run(tmp_path):
    return RunDirectory(tmp_path)


def make_checkpoint(run, step):
    folder = run.checkpoints / f"checkpoint-{step}"
    (folder / "nested").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(1000) + bytes([step % 256]))
    (folder / "nested" / "state.json").write_text("{}")
    write_manifest(folder, step)
    return folder


def test_metrics_survive_with_nan_and_infinity(run):
    run.append_metrics(1, {"loss": 0.5, "grad_norm": math.nan}, epoch=0.1)
    run.append_metrics(2, {"loss": math.inf, "reward": None}, epoch=None)

    raw = run.metrics.read_text().splitlines()
    assert json.loads(raw[0])["grad_norm"] == "nan"
    (first, _), (second, end) = run.iter_metrics()
    assert math.isnan(first["grad_norm"])
    assert second["loss"] == math.inf
    assert second["reward"] is None
    assert end == run.metrics.stat().st_size


def test_reading_goes_on_from_an_offset(run):
    run.append_metrics(1, {"loss": 1.0}, epoch=0.0)
    [(_, offset)] = run.iter_metrics()
    run.append_metrics(2, {"loss": 0.5}, epoch=0.0)
    [(line, _)] = run.iter_metrics(offset)
    assert line["step"] == 2


def test_a_line_still_being_written_is_left_for_later(run):
    run.events.write_bytes(b'{"kind": "a"}\n{"ki')
    [(line, offset)] = iter_lines(run.events)
    assert line == {"kind": "a"}
    with run.events.open("ab") as file:
        file.write(b'nd": "b"}\n')
    [(line, _)] = iter_lines(run.events, offset)
    assert line == {"kind": "b"}


def test_a_torn_line_is_passed_over(run):
    run.events.write_bytes(b'{"ki\n{"kind": "b"}\n')
    assert [line for line, _ in iter_lines(run.events)] == [{"kind": "b"}]


def test_nothing_written_yet_is_no_error(run):
    assert list(run.iter_metrics()) == []
    assert run.read_control() is None
    assert run.read_result() is None
    assert run.newest_valid_checkpoint() is None


def test_control_and_result_come_back(run):
    run.write_control("stop")
    assert run.read_control() == "stop"
    run.write_result({"status": "completed", "final_loss": math.nan})
    assert run.read_result()["final_loss"] == "nan"


def test_a_full_disk_keeps_the_old_file(run, monkeypatch):
    write_json(run.result, {"a": 1})

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_json(run.result, {"a": 2})
    assert json.loads(run.result.read_text()) == {"a": 1}
    assert [path.name for path in run.path.iterdir()] == ["result.json"]


def test_text_that_is_no_valid_unicode_is_kept(run):
    run.append_sample(1, {"text": "half of a pair: \ud83d"})
    [(line, _)] = iter_lines(run.samples)
    assert line["text"] == "half of a pair: \ud83d"


def test_the_newest_whole_checkpoint_is_found(run):
    make_checkpoint(run, 5)
    newest = make_checkpoint(run, 10)
    (run.checkpoints / "checkpoint-20").mkdir()
    assert run.newest_valid_checkpoint() == newest


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "model.safetensors").write_bytes(b"short"),
        lambda folder: (folder / "model.safetensors").write_bytes(b"\1" * 1001),
        lambda folder: (folder / "nested" / "state.json").unlink(),
        lambda folder: (folder / "manifest.json").unlink(),
        lambda folder: (folder / "manifest.json").write_text("{"),
        lambda folder: (folder / "manifest.json").write_text("[]"),
    ],
)
def test_a_damaged_checkpoint_is_not_used(run, damage):
    older = make_checkpoint(run, 5)
    damage(make_checkpoint(run, 10))
    assert run.newest_valid_checkpoint() == older


def test_the_manifest_tells_step_sizes_and_hashes(run):
    manifest = read_valid_manifest(make_checkpoint(run, 7))
    assert manifest["step"] == 7
    assert manifest["files"]["nested/state.json"]["size"] == 2
