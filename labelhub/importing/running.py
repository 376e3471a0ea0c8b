"""An import from beginning to end: refuse, or write, or go on where it was cut off."""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F
from django.db.models.functions import Now
from django_q.tasks import async_task

from labelhub import searching
from labelhub.importing.checking import Progress, Report, check, no_progress
from labelhub.importing.chunks import ahead, in_chunks
from labelhub.importing.detect import Source
from labelhub.importing.drafting import Draft, drafts_of
from labelhub.importing.files import Unreadable, sha256_of
from labelhub.importing.items import Item, LeftOut
from labelhub.importing.options import ImportOptions, ImportRefused
from labelhub.importing.uploads import NamedFile, discard, kept_files
from labelhub.importing.writing import TakenOver, Writer
from labelhub.models import Event, ImportBatch, Project, User

State = ImportBatch.State
CHECKED_AT_ONCE = 5 * 1024 * 1024
"""An upload below this many bytes is checked while the person waits."""


def check_files(
    project: Project,
    paths: Sequence[Path],
    options: ImportOptions,
    progress: Progress = no_progress,
) -> Report:
    """A dry run: what is wrong, what would be made in an empty project, examples."""
    return check(project, _named(paths), options, progress, counting=True)


def import_files(
    project: Project,
    paths: Sequence[Path],
    options: ImportOptions,
    *,
    actor: User | None = None,
    progress: Progress = no_progress,
) -> ImportBatch:
    """Import files that may refer to each other, or raise ImportRefused.

    The same files and options again resume what was cut off; if they were complete,
    `is_repeat` is set on the batch and nothing is read or written.
    """
    files = _named(paths)
    described = describe_files(files)
    done = batch_of(project, described, options)
    if done is not None and done.state == State.COMPLETE:
        done.is_repeat = True
        return done
    report = check(project, files, options, progress)
    report.refuse_problems()
    batch = open_batch(project, described, options, actor)
    _claim(batch)
    return _write(batch, report, options, progress)


def offer_upload(
    project: Project, token: str, options: ImportOptions, actor: User
) -> ImportBatch:
    """A waiting batch for what was uploaded, or ImportRefused.

    Small files are checked at once; large ones by the process that imports them.
    """
    files = kept_files(token)
    described = describe_files(files)
    done = batch_of(project, described, options)
    if done is not None and done.state == State.COMPLETE:
        discard(token)
        done.is_repeat = True
        return done
    if sum(file["bytes"] for file in described) < CHECKED_AT_ONCE:
        check(project, files, options).refuse_problems()
    batch = open_batch(project, described, options, actor, upload=token)
    ring(batch)
    return batch


def ring(batch: ImportBatch) -> None:
    """Have the queue start a process that imports it; ringing twice does no harm."""
    batch.state = State.WAITING
    ImportBatch.objects.filter(pk=batch.pk).exclude(
        state__in=(State.COMPLETE, State.REMOVED)
    ).update(state=State.WAITING, options=batch.options, error="", beat_at=Now())
    transaction.on_commit(
        lambda: async_task("labelhub.tasks.start_import", batch.pk), robust=True
    )


def start(batch_id: int) -> subprocess.Popen[bytes] | None:
    """Start the process that imports a waiting batch; it outlives the caller."""
    waiting = ImportBatch.objects.filter(pk=batch_id, state=State.WAITING)
    if not waiting.update(state=State.IMPORTING, beat_at=Now()):
        return None
    return subprocess.Popen(  # noqa: S603
        [
            *(sys.executable, str(settings.BASE_DIR / "manage.py")),
            *("import_data", "--batch", str(batch_id)),
        ],
        cwd=settings.BASE_DIR,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )


def run_batch(batch: ImportBatch, progress: Progress = no_progress) -> ImportBatch:
    """Import what was uploaded for this batch; what is wrong is kept on it."""
    if batch.state in (State.COMPLETE, State.REMOVED):
        return batch
    _claim(batch)
    token = batch.options.get("upload", "")
    try:
        options = ImportOptions.from_json(batch.options)
        files = kept_files(token)
        if not files:
            raise ImportRefused(
                f"The files of import {batch.pk} are not on this machine; upload them"
                " again."
            )
        report = check(batch.project, files, options, _Beat(batch, progress))
        report.refuse_problems()
    except Exception as exc:
        _fail(batch, str(exc) or type(exc).__name__)
        raise
    batch = _write(batch, report, options, progress)
    discard(token)
    return batch


class _Beat:
    """Shows in the batch's row how far the check is, at most once a second."""

    def __init__(self, batch: ImportBatch, progress: Progress) -> None:
        self.batch = batch
        self.progress = progress
        self.said_at = 0.0

    def __call__(self, doing: str, done: int, total: int) -> None:
        self.progress(doing, done, total)
        if time.monotonic() - self.said_at >= 1:
            self.said_at = time.monotonic()
            _update(self.batch, n_read=done, beat_at=Now())


def describe_files(files: Sequence[NamedFile]) -> list[dict[str, Any]]:
    """What a batch keeps of its files."""
    try:
        return [
            {"name": name, "sha256": sha256_of(path), "bytes": path.stat().st_size}
            for path, name in files
        ]
    except OSError as exc:
        raise ImportRefused(f"{exc.filename} cannot be read: {exc.strerror}.") from None


def batch_of(
    project: Project, described: list[dict[str, Any]], options: ImportOptions
) -> ImportBatch | None:
    """This very import, if it was begun before."""
    same = project.imports.filter(sha256=_identity(described, options))
    return same.exclude(state=State.REMOVED).first()


def open_batch(
    project: Project,
    described: list[dict[str, Any]],
    options: ImportOptions,
    actor: User | None,
    *,
    upload: str = "",
) -> ImportBatch:
    """The batch of this import: the one there is, or a new one that waits."""
    try:
        with transaction.atomic():
            batch = ImportBatch.objects.create(
                project=project,
                files=described,
                sha256=_identity(described, options),
                options=options.to_json() | {"upload": upload},
                created_by=actor,
            )
            _record("import.opened", batch, files=[f["name"] for f in described])
            return batch
    except IntegrityError:
        begun = batch_of(project, described, options)
        if begun is None:
            raise
        if upload:
            begun.options["upload"] = upload
        return begun


def _named(paths: Sequence[Path]) -> list[NamedFile]:
    return [(path, path.name) for path in paths]


def _identity(described: list[dict[str, Any]], options: ImportOptions) -> str:
    said = [[file["sha256"] for file in described], options.to_json()]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _claim(batch: ImportBatch) -> None:
    """Become the process that writes this batch; one that did before then stops."""
    batch.refresh_from_db()
    ours = ImportBatch.objects.filter(pk=batch.pk, fence=batch.fence).exclude(
        state__in=(State.COMPLETE, State.REMOVED)
    )
    if not ours.update(
        fence=F("fence") + 1,
        state=State.IMPORTING,
        n_read=0,
        n_rows=0,
        error="",
        beat_at=Now(),
        finished_at=None,
    ):
        raise ImportRefused(f"Import {batch.pk} was taken up by another process.")
    batch.refresh_from_db()


def _write(
    batch: ImportBatch, report: Report, options: ImportOptions, progress: Progress
) -> ImportBatch:
    writer = Writer(batch.project, batch, options, report.policy, report.index)
    try:
        _describe(batch, report)
        left_out = _write_rows(writer, report, progress)
        writer.write_pairs()
        writer.open_tasks()
        counts = writer.counts()
        counts["left_out"] = dict(Counter(counts["left_out"]) + left_out)
        _complete(batch, counts)
    except TakenOver as exc:
        raise ImportRefused(f"Stopped: {exc}.") from None
    except BaseException as exc:
        _fail(batch, str(exc) or type(exc).__name__)
        raise
    searching.index_new()
    batch.refresh_from_db()
    return batch


def _describe(batch: ImportBatch, report: Report) -> None:
    formats = dict.fromkeys(source.format.name for source in report.sources)
    files = [
        file | {"rows": source.n_rows}
        for file, source in zip(batch.files, report.sources, strict=True)
    ]
    _update(
        batch,
        n_read=0,
        n_rows=report.n_rows,
        format=", ".join(formats)[:40],
        files=files,
    )


def _write_rows(writer: Writer, report: Report, progress: Progress) -> Counter[str]:
    """Write file by file, as no chunk may hold both an id and what refers to it."""
    left_out: Counter[str] = Counter()
    n_read = n_written = 0

    def items(source: Source) -> Iterator[tuple[Item, str]]:
        nonlocal n_read
        for place, item in source.items():
            n_read += 1
            if isinstance(item, Item):
                yield item, source.format.judge_kind
            elif isinstance(item, LeftOut):
                left_out[str(item)] += 1
            else:
                raise Unreadable(place, str(item))

    def chunks(source: Source) -> Iterator[tuple[list[Draft], int]]:
        for chunk in in_chunks(items(source), writer.size):
            yield drafts_of(chunk), n_read

    for source in report.in_order():
        try:
            for drafts, n_read_then in ahead(chunks(source)):
                writer.write(drafts, n_read_then - n_written)
                n_written = n_read_then
                progress("importing", n_written, report.n_rows)
        except Unreadable as exc:
            raise ImportRefused(
                f"{source.name} was changed while it was imported ({exc});"
                " import it again."
            ) from None
    return left_out


def _update(batch: ImportBatch, **values: Any) -> None:
    """Write to the batch, if it is still ours."""
    ours = ImportBatch.objects.filter(pk=batch.pk, fence=batch.fence)
    if not ours.update(**values):
        raise TakenOver(f"another process has taken import {batch.pk} over")


def _complete(batch: ImportBatch, counts: dict[str, Any]) -> None:
    with transaction.atomic():
        _update(
            batch,
            state=State.COMPLETE,
            counts=counts,
            n_read=F("n_rows"),
            finished_at=Now(),
        )
        _record("import.completed", batch, counts=counts)


def _fail(batch: ImportBatch, why: str) -> None:
    with contextlib.suppress(TakenOver), transaction.atomic():
        _update(batch, state=State.FAILED, error=why, finished_at=Now())
        _record("import.failed", batch, error=why[:1000])


def _record(verb: str, batch: ImportBatch, **data: Any) -> None:
    Event.objects.create(
        project_id=batch.project_id,
        actor_id=batch.created_by_id,
        verb=verb,
        subject=f"import:{batch.pk}",
        data=data,
    )
