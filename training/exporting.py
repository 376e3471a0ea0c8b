"""Database to frozen snapshot, and snapshot to files. A snapshot never changes."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now
from django_q.tasks import async_task

from labelhub.models import Event, Project, User
from training.core.run_directory import write_json
from training.models import Snapshot
from training.recipes import Recipe, explain_no_rows
from training.storage import Manifest, manifest_of, open_store
from training.tallying import Progress, Tally

if TYPE_CHECKING:
    from training.dataset_files import Format

RUN_FILES = ("train.parquet", "eval.parquet", "snapshot.json")
"""What a run takes along."""


class ExportError(Exception):
    """The dataset cannot be frozen or written; the message is one sentence."""


def freeze(
    project: Project,
    recipe: Recipe,
    *,
    actor: User | None = None,
    progress: Progress | None = None,
) -> Snapshot:
    """Freeze now, in this process. Where that fails, nothing stays behind."""
    snapshot = begin(project, recipe, actor=actor)
    try:
        return complete(snapshot, progress)
    except BaseException:
        Snapshot.objects.filter(pk=snapshot.pk).exclude(
            state=Snapshot.State.READY
        ).delete()
        raise


def begin(project: Project, recipe: Recipe, *, actor: User | None = None) -> Snapshot:
    """A snapshot that is still to be made, by `complete` in some process."""
    recipe.check_fits(project.kind)
    return Snapshot.objects.create(
        project=project, recipe=recipe.as_dict(), created_by=actor
    )


def ask(project: Project, recipe: Recipe, *, actor: User) -> Snapshot:
    """A snapshot that the queue makes. Asked again while it is made, the same one."""
    with transaction.atomic():
        Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        freezing = Snapshot.objects.filter(
            project=project, state=Snapshot.State.FREEZING, recipe=recipe.as_dict()
        )
        snapshot = freezing.first() or begin(project, recipe, actor=actor)
        ring(snapshot)
    return snapshot


def complete(snapshot: Snapshot, progress: Progress | None = None) -> Snapshot:
    """Read, decide, write, store; then the snapshot is ready, for good.

    Safe to run twice, even at once: the files are addressed by their content, and of
    two processes only one finds the row still freezing. Killed, it is run again.

    Raises:
        ExportError: there is no row to make; nothing was stored.
        StorageError: the store did not take the files.
    """
    recipe = Recipe.from_dict(snapshot.recipe)
    beat = Beat(snapshot, progress)
    with _own_room() as room:
        folder = room / "snapshot"
        folder.mkdir()
        tally = Tally(room / "scratch.sqlite3", recipe, beat)
        try:
            tally.read(snapshot.project)
            tally.settle()
            facts = _write(tally, snapshot.project, folder)
        finally:
            tally.close()
        beat("Storing files", 0, 0)
        manifest = manifest_of(folder)
        digest = hashlib.sha256(json.dumps(manifest).encode()).hexdigest()
        uri = open_store().put_tree(folder, f"snapshots/{digest}")
    _accept(snapshot, facts, _listed(manifest), uri)
    return snapshot


@contextmanager
def _own_room() -> Iterator[Path]:
    """A folder to freeze in. Those of processes that were killed are removed first.

    Whoever works in a room holds its lock, which the kernel frees when they die.
    """
    settings.DATA_DIR.mkdir(parents=True, exist_ok=True)
    for left in settings.DATA_DIR.glob("freezing-*"):
        if (lock := _enter(left)) is not None:
            shutil.rmtree(left, ignore_errors=True)
            os.close(lock)
    lock = None
    while lock is None:  # Somebody may have cleared away a room not yet locked.
        room = Path(tempfile.mkdtemp(prefix="freezing-", dir=settings.DATA_DIR))
        lock = _enter(room)
    try:
        yield room
    finally:
        shutil.rmtree(room, ignore_errors=True)
        os.close(lock)


def _enter(room: Path) -> int | None:
    """Lock a room; None if somebody works there or it has gone."""
    try:
        lock = os.open(room, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_there = room.exists()
    except BlockingIOError:
        is_there = False
    if is_there:
        return lock
    os.close(lock)
    return None


class Beat:
    """Shows progress in the snapshot's row, at most once a second."""

    def __init__(self, snapshot: Snapshot, progress: Progress | None = None) -> None:
        self.snapshot = snapshot
        self.progress = progress
        self.said_at = 0.0

    def __call__(self, phase: str, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(phase, done, total)
        if total and time.monotonic() - self.said_at < 1:
            return
        self.said_at = time.monotonic()
        Snapshot.objects.filter(
            pk=self.snapshot.pk, state=Snapshot.State.FREEZING
        ).update(
            progress=f"{phase} {done:,} of {total:,}" if total else phase,
            beat_at=Now(),
        )


def ring(snapshot: Snapshot) -> None:
    """Have the queue start a process that freezes it; ringing twice does no harm."""
    transaction.on_commit(
        lambda: async_task("training.tasks.freeze_snapshot", snapshot.pk), robust=True
    )


def start(snapshot_id: int) -> subprocess.Popen[bytes]:
    """Start the process that freezes it; it outlives the caller."""
    return subprocess.Popen(  # noqa: S603
        [
            *(sys.executable, str(settings.BASE_DIR / "manage.py")),
            *("freeze_snapshot", str(snapshot_id)),
        ],
        cwd=settings.BASE_DIR,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )


def fail(snapshot: Snapshot, error: str) -> None:
    Snapshot.objects.filter(pk=snapshot.pk, state=Snapshot.State.FREEZING).update(
        state=Snapshot.State.FAILED, error=error, finished_at=Now()
    )


def fetch(snapshot: Snapshot, directory: Path) -> None:
    """Copy what a run needs into its data folder, every hash checked."""
    _copy(snapshot, directory, RUN_FILES)


def export(snapshot: Snapshot, directory: Path, format: Format) -> None:
    """Write the whole snapshot to a folder, which appears whole or not at all."""
    check_is_free(directory)
    draft = directory.with_name(f".{directory.name}.{uuid.uuid4().hex}")
    try:
        _copy(snapshot, draft, [file["name"] for file in snapshot.files])
        if format != "parquet":
            _convert(draft, format)
        draft.replace(directory)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def check_is_free(directory: Path) -> None:
    """Refuse a folder that holds something, before an hour is spent on filling it."""
    if directory.exists() and not directory.is_dir():
        raise ExportError(f"{directory} is a file: name a folder.")
    if directory.is_dir() and any(directory.iterdir()):
        raise ExportError(f"{directory} is not empty: name another folder.")


def _write(tally: Tally, project: Project, folder: Path) -> dict[str, Any]:
    """Every file of the snapshot; answer what snapshot.json holds."""
    from training.dataset_files import (
        JUDGMENTS,
        LEDGER,
        CanonicalHash,
        Format,
        dataset_card,
        schema_of,
        write_parquet,
    )
    from training.statistics import statistics_of

    recipe, ledger = tally.recipe, tally.ledger()
    if not ledger.rows:
        raise ExportError(explain_no_rows(ledger, recipe))
    canonical, rows = CanonicalHash(recipe.shape), dict[str, int]()
    schema = schema_of(recipe.as_dict())
    for split in ("train", "eval"):
        path = folder / f"{split}.parquet"
        found = canonical.seen(split, tally.rows(split))
        rows[split] = write_parquet(path, schema, found)
        if not rows[split]:
            path.unlink()
    write_parquet(folder / "judgments.parquet", JUDGMENTS, tally.judgments())
    write_parquet(folder / "ledger.parquet", LEDGER, tally.left_out())
    if sum(rows.values()) != ledger.rows:
        raise AssertionError(f"{ledger.rows} rows were to be written, not {rows}.")
    facts = {
        "project": project.name,
        "recipe": recipe.as_dict(),
        "ledger": ledger.as_dict(),
        "rows": rows,
        "n_judgments": tally.one("SELECT COUNT(*) FROM judgment"),
        "statistics": statistics_of(tally),
        "sha256": canonical.hexdigest(),
        "files": _listed(manifest_of(folder)),
    }
    write_json(folder / "snapshot.json", facts)
    (folder / "README.md").write_text(dataset_card(facts, Format.PARQUET))
    return facts


def _accept(
    snapshot: Snapshot, facts: dict[str, Any], files: list[dict[str, Any]], uri: str
) -> None:
    with transaction.atomic():
        accepted = Snapshot.objects.filter(
            pk=snapshot.pk, state=Snapshot.State.FREEZING
        ).update(
            state=Snapshot.State.READY,
            n_judgments=facts["n_judgments"],
            n_train=facts["rows"]["train"],
            n_eval=facts["rows"]["eval"],
            ledger=facts["ledger"],
            statistics=facts["statistics"],
            sha256=facts["sha256"],
            files=files,
            uri=uri,
            progress="",
            finished_at=Now(),
        )
        if accepted:
            Event.objects.create(
                project=snapshot.project,
                actor=snapshot.created_by,
                verb="snapshot.frozen",
                subject=f"snapshot:{snapshot.pk}",
                data={"sha256": facts["sha256"], "recipe": snapshot.recipe},
            )
    snapshot.refresh_from_db()


def _listed(manifest: Manifest) -> list[dict[str, Any]]:
    return [
        {"name": name, "bytes": file["size"], "sha256": file["sha256"]}
        for name, file in manifest.items()
    ]


def _copy(snapshot: Snapshot, directory: Path, names: Iterable[str]) -> None:
    if snapshot.state != Snapshot.State.READY:
        raise ExportError(f"Snapshot {snapshot.pk} is {snapshot.state}, not ready.")
    store = open_store()
    directory.mkdir(parents=True, exist_ok=True)
    for file in snapshot.files:
        if file["name"] in names:
            # By the hash in the database, not by the one in the store.
            store.get_file(
                f"{snapshot.uri}/{file['name']}",
                directory / file["name"],
                file["sha256"],
            )


def _convert(folder: Path, format: Format) -> None:
    """Rewrite the rows in another format, and say so in the files beside them."""
    from training.dataset_files import as_lines, dataset_card

    for parquet in (folder / "train.parquet", folder / "eval.parquet"):
        if parquet.exists():
            with parquet.with_suffix(f".{format}").open("wb") as file:
                file.writelines(as_lines(parquet, format))
            parquet.unlink()
    facts = json.loads((folder / "snapshot.json").read_text())
    (folder / "README.md").write_text(dataset_card(facts, format))
    data = {
        name: file
        for name, file in manifest_of(folder).items()
        if name not in ("README.md", "snapshot.json")
    }
    write_json(folder / "snapshot.json", facts | {"files": _listed(data)})
