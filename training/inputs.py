"""What an attempt starts from, brought into its run directory."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import structlog
from django.conf import settings

from training import exporting, storage
from training.core.choices import starter_size
from training.core.run_directory import RunDirectory, write_json
from training.models import Attempt, Run
from training.references import data_path, model_folder, numbered

log = structlog.get_logger("training.inputs")


class InputMissing(Exception):
    """Something the run starts from is not where it should be."""


def attempt_directory(attempt: Attempt) -> RunDirectory:
    return RunDirectory(
        settings.RUNS_DIR / str(attempt.run_id) / f"attempt-{attempt.fence}"
    )


def make_directory(attempt: Attempt) -> RunDirectory:
    """The attempt's empty run directory.

    The numbers of runs begin anew with a new database, and what an older one left under
    the same number must not pass for a result or a checkpoint of this run.
    """
    directory = attempt_directory(attempt)
    folder, owner = directory.path.parent, str(attempt.run.request_id)
    mark = folder / "request_id"
    if folder.exists() and (not mark.exists() or mark.read_text() != owner):
        folder.rename(folder.with_name(f"{folder.name}-before-{owner}"))
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(owner)
    directory.path.mkdir(exist_ok=True)
    return directory


def fetch_inputs(attempt: Attempt, directory: RunDirectory) -> bool:
    """Write config.json and bring what it refers to; whether the hub is needed too.

    Raises:
        InputMissing, ReferenceRefused, StorageError: something is not there any more.
    """
    run = attempt.run
    config: dict[str, Any] = {**run.config, "output_dir": "."}
    directory.inputs.mkdir(exist_ok=True)
    for name in ("base_model", "reward_model"):
        if config.get(name):
            config[name] = _fetch_model(run, config[name], directory.inputs / name)
    if run.snapshot is not None:
        exporting.fetch(run.snapshot, directory.data)
        config["dataset_path"] = directory.data.name
    else:
        for name in ("dataset_path", "eval_dataset_path"):
            if config.get(name):
                config[name] = _link_data(config[name], directory.inputs / name)
    write_json(directory.config, config)
    brought = (f"{directory.inputs.name}/", directory.data.name)
    named = ("base_model", "reward_model", "dataset_path", "eval_dataset_path")
    return any(
        config[name]
        and not config[name].startswith(brought)
        and not starter_size(config[name])
        for name in named
        if name in config
    )


def carry_checkpoint(attempt: Attempt, directory: RunDirectory) -> Path | None:
    """Move the newest valid checkpoint of the run's earlier attempts to this one.

    Moved, not copied: it may be as large as the model, and its attempt is dead. Only
    those of this host are found; on another host the run begins anew.
    """
    found = []
    for fence, earlier in _earlier(attempt, directory):
        if (checkpoint := earlier.newest_valid_checkpoint()) is not None:
            found.append((int(checkpoint.name.rpartition("-")[2]), fence, checkpoint))
    if not found:
        return None
    _, _, newest = max(found)
    directory.checkpoints.mkdir(exist_ok=True)
    carried = directory.checkpoints / newest.name
    os.replace(newest, carried)
    return carried


def carry_starter(attempt: Attempt, directory: RunDirectory) -> None:
    """Move the starter model that an earlier attempt made here: it took minutes."""
    for _, earlier in _earlier(attempt, directory):
        if earlier.starter.is_dir():
            os.replace(earlier.starter, directory.starter)
            return


def _earlier(
    attempt: Attempt, directory: RunDirectory
) -> Iterator[tuple[int, RunDirectory]]:
    """The run's attempts before this one, which are dead, with their fences."""
    before = attempt.run.attempts.filter(fence__lt=attempt.fence)
    for fence in before.values_list("fence", flat=True):
        yield fence, RunDirectory(directory.path.with_name(f"attempt-{fence}"))


def store_key(attempt: Attempt) -> str:
    """Where in the store an attempt puts its model."""
    return f"runs/{attempt.run_id}/attempt-{attempt.fence}"


def withdraw(attempt: Attempt) -> None:
    """Remove from the store what an attempt has put there and was not accepted.

    Its processes must be gone, or be the caller: then it will never be accepted.
    """
    uri = storage.SCHEME + store_key(attempt)
    if Run.objects.filter(pk=attempt.run_id, uri=uri).exists():
        return
    try:
        storage.open_store().remove_tree(uri)
    except (OSError, storage.StorageError) as error:
        log.warning("could not be removed from the store", uri=uri, error=str(error))


def tidy(directory: RunDirectory) -> None:
    """Remove what is large and of no more use, of every attempt of the run here.

    For a run that nobody goes on from. What was said of it stays.
    """
    for path in directory.path.parent.glob("attempt-*"):
        each = RunDirectory(path)
        for folder in (each.data, each.inputs, each.checkpoints, each.final):
            shutil.rmtree(folder, ignore_errors=True)


def _fetch_model(run: Run, reference: str, target: Path) -> str:
    """The reference as the trainer may read it: a path in its directory or a hub id."""
    made_by = numbered(reference, "run")
    if made_by is not None:
        source = Run.objects.get(pk=made_by, project=run.project)
        if not source.has_model:
            raise InputMissing(f"Run {made_by} has no model to start from.")
        storage.open_store().get_tree(source.uri, target)
        if (target / "adapter_config.json").exists():
            # An adapter is nothing without the model it was trained on.
            _fetch_model(source, source.config["base_model"], target / "base")
    elif (folder := model_folder(reference)) is not None:
        target.symlink_to(folder)
    else:
        return reference
    return f"{target.parent.name}/{target.name}"


def _link_data(reference: str, target: Path) -> str:
    path = data_path(reference)
    if path is None:
        return reference
    target = target.with_suffix("".join(path.suffixes[-1:]) if path.is_file() else "")
    target.symlink_to(path)
    return f"{target.parent.name}/{target.name}"
