"""What a run may start from: `run:ID`, `snapshot:ID`, a hub id, or a folder.

A path counts only below MODEL_ROOTS or DATA_ROOTS, with symbolic links followed, so
that a page cannot be used to read the rest of the machine.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings

from training.core.choices import starter_size
from training.core.config import RLHFConfig
from training.models import Run, Snapshot

if TYPE_CHECKING:
    from labelhub.models import Project

_HUB_ID = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?(@[\w][\w./-]*)?", re.ASCII)
HUB_ID_LENGTH = 96
"""The hub's own limit; the revision is not counted."""
_NUMBERED = re.compile(r"(run|snapshot):(\d{1,18})")


class ReferenceRefused(ValueError):
    """What was named is not there, or may not be used."""


def check_models(config: RLHFConfig, project: Project) -> Run | None:
    """The run whose model a job starts from, if it starts from one.

    Raises:
        ReferenceRefused: base_model or reward_model cannot be used.
    """
    base_run = _named_run(project, config.base_model)
    if base_run is None:
        model_folder(config.base_model)
    elif base_run.is_final and not base_run.has_model:
        state = base_run.get_state_display().lower()
        raise ReferenceRefused(
            f"Run {base_run.pk} is {state} and left no model to start from."
        )
    if config.reward_model is not None:
        judge = _named_run(project, config.reward_model)
        if judge is None:
            model_folder(config.reward_model)
        elif not judge.has_model:
            raise ReferenceRefused(f"Run {judge.pk} has no model to score with yet.")
    return base_run


def check_data(config: RLHFConfig, project: Project) -> Snapshot | None:
    """The snapshot a job trains on, or None for a path or a hub id that can be used.

    Raises:
        ReferenceRefused: dataset_path or eval_dataset_path cannot be used.
    """
    if config.eval_dataset_path is not None:
        data_path(config.eval_dataset_path)
    pk = numbered(config.dataset_path, "snapshot")
    if pk is None:
        data_path(config.dataset_path)
        return None
    # Only of the same project: judgments must not be carried across.
    snapshot = Snapshot.objects.filter(project=project, pk=pk).first()
    if snapshot is None:
        raise ReferenceRefused(f"There is no snapshot {pk} in {project.name}.")
    if snapshot.state == Snapshot.State.FAILED:
        raise ReferenceRefused(f"Snapshot {pk} failed: freeze another one.")
    return snapshot


def _named_run(project: Project, reference: str) -> Run | None:
    pk = numbered(reference, "run")
    if pk is None:
        return None
    # Only of the same project: a model carries the judgments it has learned.
    run = Run.objects.filter(project=project, pk=pk).first()
    if run is None:
        raise ReferenceRefused(f"There is no run {pk} in {project.name}.")
    return run


def numbered(value: str, kind: str) -> int | None:
    """The id in `run:12`, or None where the value is something else.

    >>> numbered("run:12", "run"), numbered("org/name", "run")
    (12, None)
    """
    if not value.startswith(f"{kind}:"):
        return None
    if not (found := _NUMBERED.fullmatch(value)):
        raise ReferenceRefused(f"{value!r} is no {kind}: write {kind}:12.")
    return int(found[2])


def model_folder(value: str) -> Path | None:
    """The folder that a model reference names, or None where there is none yet: for a
    hub id, and for a starter model, which the trainer makes."""
    if starter_size(value):
        return None
    if value.startswith("model:"):
        raise ReferenceRefused(
            f"{value!r}: the model registry is not built yet. Use run:ID for the "
            "model that a run has made."
        )
    return _below(value, settings.MODEL_ROOTS, "MODEL_ROOTS", "model")


def data_path(value: str) -> Path | None:
    """The file or folder that a data reference names, or None for a hub id."""
    return _below(value, settings.DATA_ROOTS, "DATA_ROOTS", "data")


def _below(value: str, roots: list[Path], variable: str, what: str) -> Path | None:
    for root in roots:
        path = (root / value).resolve()
        # Path.exists() raises for a name that is too long for the file system.
        if path.is_relative_to(root.resolve()) and os.path.exists(path):
            return path
    is_short = len(value.partition("@")[0]) <= HUB_ID_LENGTH
    if _HUB_ID.fullmatch(value) and ".." not in value and is_short:
        return None
    allowed = ", ".join(str(root) for root in roots)
    if any(Path(value).resolve().is_relative_to(root.resolve()) for root in roots):
        raise ReferenceRefused(f"There is no {what} at {value!r}.")
    raise ReferenceRefused(
        f"{value!r} is neither a hub id, as in org/name@revision, nor below "
        f"{variable} ({allowed})."
    )
