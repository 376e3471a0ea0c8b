"""What a run came from, link by link, down to the judgments; and what it wrote."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from django.urls import NoReverseMatch

from training.models import Run, Sample, Snapshot

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
    links = list(_data_links(run.snapshot)) if run.snapshot else []
    links.append(_base_link(run))
    links.append(Link(run.name, f"this run, number {run.pk}", is_this=True))
    children = run.children.order_by("pk").only("pk", "name", "project_id", "algorithm")
    for child in children[:20]:
        child.project = run.project
        what = f"{child.algorithm}, starts from this one"
        links.append(Link(child.name, what, child.get_absolute_url()))
    return links


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


def _data_links(snapshot: Snapshot) -> Iterator[Link]:
    sources = snapshot.statistics.get("sources") or {}
    told = ", ".join(
        f"{counts['judgments']:,} {source}" for source, counts in sources.items()
    )
    yield Link(f"{snapshot.n_judgments:,} judgments", told or "of this project")
    what = f"{snapshot.n_train:,} rows to train on, {snapshot.n_eval:,} held out"
    yield Link(str(snapshot).capitalize(), what, _url_of(snapshot), snapshot.sha256)


def _base_link(run: Run) -> Link:
    if run.base_run is None:
        return Link(run.config.get("base_model", "not told"), "base model")
    run.base_run.project = run.project
    what = f"base model, run {run.base_run.pk}"
    return Link(run.base_run.name, what, run.base_run.get_absolute_url())


def _url_of(snapshot: Snapshot) -> str:
    try:
        return snapshot.get_absolute_url()
    except NoReverseMatch:
        return ""
