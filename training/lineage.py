"""What a run came from, link by link, down to the judgments; and what it wrote."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from django.urls import reverse

from labelhub.models import Judgment
from training.models import Run, Sample, Snapshot
from training.recipes import Ledger
from training.storage import open_store

_SAMPLES_SHOWN = 2000


@dataclass(frozen=True)
class Link:
    """One thing in the chain, with where to read about it."""

    name: str
    what: str
    url: str = ""
    sha256: str = ""
    is_this: bool = False


@dataclass
class Prompt:
    """A fixed prompt, and what the model wrote for it at each step."""

    messages: list[dict[str, Any]]
    completions: dict[int, str] = field(default_factory=dict)


def chain_of(run: Run) -> list[Link]:
    """From the judgments to this run, in the order in which they came to be."""
    links = [*_data_links(run), _base_link(run)]
    links.append(Link(run.name, f"this run, number {run.pk}", is_this=True))
    # base_run_id too: Django sets the reverse of each, and would ask for it by itself.
    children = run.children.only("name", "algorithm", "project_id", "base_run_id")
    for child in children.order_by("pk")[:20]:
        child.project = run.project
        what = f"{child.algorithm}, starts from this one"
        links.append(Link(child.name, what, child.get_absolute_url()))
    return links


@dataclass(frozen=True)
class TracedRow:
    """A row as the trainer read it, with the judgments that made it what it is."""

    number: int
    values: dict[str, Any]
    judgments: list[Judgment]


def traced_rows(snapshot: Snapshot, split: str, places: range) -> list[TracedRow]:
    """The rows of a split at these places, with who judged them, when, by what guide.

    Raises:
        StorageError: the file is not in the store any more.
    """
    rows = _read_rows(snapshot, split, places)
    wanted = {pk for row in rows for pk in row["judgment_ids"] or ()}
    judged = (
        Judgment.objects.filter(project=snapshot.project_id, pk__in=wanted)
        .select_related("annotator", "assignment__guideline")
        .in_bulk()
    )
    return [
        TracedRow(
            number + 1,
            row,
            [judged[pk] for pk in row["judgment_ids"] or () if pk in judged],
        )
        for number, row in zip(places, rows, strict=True)
    ]


def _read_rows(snapshot: Snapshot, split: str, places: range) -> list[dict[str, Any]]:
    from training.dataset_files import read_places

    with open_store().open(f"{snapshot.uri}/{split}.parquet") as file:
        return read_places(file, places)


def frozen_ledger(run: Run) -> Ledger | None:
    """What became of the judged tasks, once the run's snapshot is frozen."""
    told = run.snapshot.ledger if run.snapshot else None
    return Ledger.from_dict(told) if told else None


def trained_ledgers(run: Run) -> dict[str, Any]:
    """What the trainer made of the rows of each split, once it has read them."""
    told = (run.result or {}).get("ledger")
    if told is None:
        read = run.events.filter(kind="data_ready").order_by("-pk").first()
        told = read.data.get("ledger") if read else None
    ledgers = told or {}
    return {name: ledgers[name] for name in ("train", "eval") if name in ledgers}


def samples_of(run: Run) -> list[Prompt]:
    """What the model wrote for each of its fixed prompts, by rising step."""
    samples = Sample.objects.filter(attempt__run=run).order_by(
        "index", "step", "attempt__fence"
    )
    prompts: dict[int, Prompt] = {}
    for sample in samples[:_SAMPLES_SHOWN]:
        prompt = prompts.setdefault(sample.index, Prompt(sample.messages))
        # A later attempt wrote the same step again: what it wrote stands.
        prompt.completions[sample.step] = sample.completion
    return list(prompts.values())


def _data_links(run: Run) -> Iterator[Link]:
    snapshot = run.snapshot
    if snapshot is None:
        return
    snapshot.project = run.project
    sources = snapshot.statistics.get("sources") or {}
    told = ", ".join(f"{count:,} {source}" for source, count in sources.items())
    rows_url = reverse("training:run_rows", args=[run.project.slug, run.pk])
    yield Link(
        f"{snapshot.n_judgments:,} judgments", told or "read one by one", rows_url
    )
    what = f"{snapshot.n_train:,} rows to train on, {snapshot.n_eval:,} held out"
    url = snapshot.get_absolute_url()
    yield Link(str(snapshot).capitalize(), what, url, snapshot.sha256)


def _base_link(run: Run) -> Link:
    if run.base_run is None:
        return Link(run.config.get("base_model", "not told"), "base model")
    run.base_run.project = run.project
    what = f"base model, run {run.base_run.pk}"
    return Link(run.base_run.name, what, run.base_run.get_absolute_url())
