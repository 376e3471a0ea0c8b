"""What `check_integrity` asks of snapshots and runs. Importing it registers it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import timedelta
from typing import IO, Any

from django.db.models import F
from django.db.models.functions import Coalesce, Now

from labelhub.integrity import FROM_BACKUP, Problem, Question, register
from labelhub.models import Event, Judgment
from training.models import Snapshot
from training.storage import StorageError, open_store

SILENT_AFTER = timedelta(minutes=2)
"""A process that freezes and has said nothing for so long has probably died."""
FREEZE_ANOTHER = "Put the file back from a backup, or freeze a new snapshot."

RUNS = (
    Question(
        """
        SELECT r.id, r.state, COUNT(a.id) AS n FROM training_run r
        LEFT JOIN training_attempt a ON a.run_id = r.id AND a.state = 'running'
        GROUP BY r.id, r.state HAVING COUNT(a.id)
            <> CASE WHEN r.state IN ('running', 'stopping') THEN 1 ELSE 0 END
        """,
        "run:{id}",
        "it is {state} and has {n} running attempts.",
    ),
    Question(
        """
        SELECT r.id, r.fence, MAX(a.fence) AS last FROM training_run r
        JOIN training_attempt a ON a.run_id = r.id
        GROUP BY r.id, r.fence HAVING MAX(a.fence) <> r.fence
        """,
        "run:{id}",
        "its fence is {fence}, its newest attempt has {last}.",
    ),
    Question(
        """
        SELECT a.id, COUNT(s.id) AS n FROM training_attempt a
        LEFT JOIN training_gpuslot s
        ON s.attempt_id = a.id AND s.worker_id = a.worker_id
        WHERE a.state = 'running' GROUP BY a.id HAVING COUNT(s.id) <> 1
        """,
        "attempt:{id}",
        "it runs and holds {n} slots of its worker.",
    ),
)


@register
def runs_and_slots() -> Iterator[Problem]:
    for question in RUNS:
        yield from question.problems()


@register
def silent_snapshots() -> Iterator[Problem]:
    silent = Snapshot.objects.filter(state=Snapshot.State.FREEZING).annotate(
        seen=Coalesce("beat_at", F("created_at"))
    )
    for pk in silent.filter(seen__lt=Now() - SILENT_AFTER).values_list("pk", flat=True):
        yield Problem(
            f"snapshot:{pk}",
            "it is freezing, and nothing was heard of it for two minutes.",
            f"Press Start again on its page, or give: freeze_snapshot {pk}.",
        )


@register
def frozen_snapshots() -> Iterator[Problem]:
    """What a snapshot says of itself, and its files."""
    for snapshot in Snapshot.objects.filter(state=Snapshot.State.READY).iterator():
        subject = f"snapshot:{snapshot.pk}"
        for sentence in _facts(snapshot):
            yield Problem(subject, sentence, FROM_BACKUP)
        for sentence in _files(snapshot):
            yield Problem(subject, sentence, FREEZE_ANOTHER)


def _facts(snapshot: Snapshot) -> Iterator[str]:
    ledger = snapshot.ledger
    left_out = sum(ledger["left_out"].values())
    if ledger["judged"] != ledger["exported"] + left_out:
        yield (
            f"{ledger['judged']} tasks were judged, but {ledger['exported']} exported"
            f" and {left_out} left out."
        )
    rows = snapshot.n_train + snapshot.n_eval
    if ledger["rows"] != rows:
        yield f"its ledger has {ledger['rows']} rows, train and eval have {rows}."
    told = Event.objects.filter(
        project=snapshot.project_id,
        verb="snapshot.frozen",
        subject=f"snapshot:{snapshot.pk}",
    ).count()
    if told != 1:
        yield f"the events tell {told} times that it was frozen."


def _files(snapshot: Snapshot) -> Iterator[str]:
    left_out = sum(snapshot.ledger["left_out"].values())
    rows = {
        "train.parquet": snapshot.n_train,
        "eval.parquet": snapshot.n_eval,
        "judgments.parquet": snapshot.n_judgments,
        "ledger.parquet": left_out,
    }
    store = open_store()
    for said in snapshot.files:
        name = said["name"]
        try:
            with store.open(f"{snapshot.uri}/{name}") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
                if digest != said["sha256"]:
                    yield f"{name} has been changed since it was frozen."
                    continue
                if name in rows:
                    file.seek(0)
                    yield from _rows(name, file, rows[name])
        except StorageError as error:
            yield str(error)


def _rows(name: str, file: IO[bytes], expected: int) -> Iterator[str]:
    # Here, because this module is imported by every process when it starts.
    import pyarrow.parquet as pq

    parquet = pq.ParquetFile(file)
    if parquet.metadata.num_rows != expected:
        yield f"{name} has {parquet.metadata.num_rows} rows, {expected} were frozen."
    if name == "judgments.parquet":
        gone = sum(
            len(ids) - Judgment.objects.filter(pk__in=ids).count()
            for ids in _ids(parquet)
        )
        if gone:
            yield f"{gone} of its judgments are no longer in the database."


def _ids(parquet: Any) -> Iterator[list[int]]:
    for batch in parquet.iter_batches(batch_size=5000, columns=["judgment_id"]):
        yield batch.column(0).to_pylist()
