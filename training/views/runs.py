"""The pages of runs: the list, and one run with its tabs."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import yaml
from django.core.paginator import Paginator
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe
from django_htmx.http import HttpResponseStopPolling

from labelhub.access import READERS, Role, project_for
from labelhub.http import PersonRequest
from training import access, lineage
from training.headline import failure_of, headline_of, score_of, with_scores
from training.models import Run, Snapshot
from training.storage import StorageError

RUNS_A_PAGE = 50
ROWS_A_PAGE = 20
REVIEWERS = frozenset({Role.REVIEWER, Role.MANAGER})
"""Who may see who judged what."""

STATES = [("active", "Waiting or running"), *Run.State.choices]


@require_safe
def run_list(request: PersonRequest, slug: str) -> HttpResponse:
    project = project_for(request.user, slug, READERS)
    everything = Run.objects.filter(project=project)
    algorithms = everything.order_by("algorithm").values_list("algorithm", flat=True)
    # PostgreSQL takes no NUL, not even to find nothing.
    chosen = {
        name: request.GET.get(name, "").replace("\0", "\N{REPLACEMENT CHARACTER}")
        for name in ("state", "algorithm")
    }
    runs = everything.select_related("snapshot", "base_run").order_by("-pk")
    if chosen["state"] == "active":
        runs = runs.exclude(state__in=Run.FINAL)
    elif chosen["state"]:
        runs = runs.filter(state=chosen["state"])
    if chosen["algorithm"]:
        runs = runs.filter(algorithm=chosen["algorithm"])

    page = Paginator(with_scores(runs), RUNS_A_PAGE).get_page(request.GET.get("page"))
    for run in page.object_list:
        run.project = project
        run.score = score_of(run)  # type: ignore[attr-defined]
    context = {
        "project": project,
        "tab": "runs",
        "page": page,
        "states": STATES,
        "algorithms": algorithms.distinct(),
        "chosen": chosen,
        "is_filtered": any(chosen.values()),
    }
    return render(request, "training/runs.html", context)


@require_safe
def run_detail(request: PersonRequest, slug: str, pk: int) -> HttpResponse:
    run = scored_run(request, slug, pk)
    attempt = run.attempts.select_related("worker").order_by("-fence").first()
    return render_tab(
        request, run, "overview", chain=lineage.chain_of(run), attempt=attempt
    )


@require_safe
def run_head(request: PersonRequest, slug: str, pk: int) -> HttpResponse:
    """The head of the page, polled; 204 while nothing has changed, 286 at the end."""
    run = scored_run(request, slug, pk)
    head = _head(run)
    if run.is_final:
        response = render(request, "training/_run_head.html", head)
        return HttpResponseStopPolling(response.content)
    if request.GET.get("seen") == head["digest"]:
        return HttpResponse(status=204)
    return render(request, "training/_run_head.html", head)


@require_safe
def run_samples(request: PersonRequest, slug: str, pk: int) -> HttpResponse:
    run = scored_run(request, slug, pk)
    return render_tab(request, run, "samples", prompts=lineage.samples_of(run))


@require_safe
def run_data(request: PersonRequest, slug: str, pk: int) -> HttpResponse:
    run = scored_run(request, slug, pk)
    return render_tab(
        request,
        run,
        "data",
        frozen=lineage.frozen_ledger(run),
        trained=lineage.trained_ledgers(run),
    )


@require_safe
def run_rows(request: PersonRequest, slug: str, pk: int) -> HttpResponse:
    """The rows a run was given; reviewers and managers see who judged each."""
    run = scored_run(request, slug, pk)
    if run.snapshot is None or run.snapshot.state != Snapshot.State.READY:
        raise Http404("This run has no frozen dataset.")
    split = "eval" if request.GET.get("split") == "eval" else "train"
    n = run.snapshot.n_eval if split == "eval" else run.snapshot.n_train
    page = Paginator(range(n), ROWS_A_PAGE).get_page(request.GET.get("page"))
    places = range(n)[(page.number - 1) * ROWS_A_PAGE :][:ROWS_A_PAGE]
    context: dict[str, Any] = {
        "split": split,
        "page": page,
        "may_trace": run.project.role in REVIEWERS,
    }
    try:
        context["rows"] = lineage.traced_rows(run.snapshot, split, places)
    except StorageError as error:
        context["store_error"] = str(error)
    return render_tab(request, run, "rows", **context)


@require_safe
def run_config(request: PersonRequest, slug: str, pk: int) -> HttpResponse:
    run = scored_run(request, slug, pk)
    as_yaml = yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True)
    return render_tab(
        request,
        run,
        "config",
        settings=list(_flat(run.config)),
        as_json=json.dumps(run.config, indent=2, ensure_ascii=False),
        as_yaml=as_yaml,
        command=f"python manage.py train run-{run.pk}.yaml --project {slug}",
    )


@require_safe
def run_history(request: PersonRequest, slug: str, pk: int) -> HttpResponse:
    run = scored_run(request, slug, pk)
    events = run.events.select_related("actor", "attempt").order_by("-pk")
    page = Paginator(events, 100).get_page(request.GET.get("page"))
    attempts = run.attempts.select_related("worker").order_by("-fence")
    return render_tab(request, run, "history", page=page, attempts=attempts)


def scored_run(request: PersonRequest, slug: str, pk: int) -> Run:
    return access.run_for(request.user, slug, pk, runs=with_scores(Run.objects.all()))


def render_tab(
    request: PersonRequest, run: Run, name: str, **context: Any
) -> HttpResponse:
    template = "run_detail" if name == "overview" else f"run_{name}"
    context |= _head(run) | {"project": run.project, "tab": "runs", "run_tab": name}
    return render(request, f"training/{template}.html", context)


def _head(run: Run) -> dict[str, Any]:
    headline, failure = headline_of(run), failure_of(run)
    shown = repr((run.state, run.step, run.max_steps, run.phase, run.waiting_for))
    shown += repr((headline, failure))
    digest = hashlib.md5(shown.encode(), usedforsecurity=False).hexdigest()
    return {"run": run, "headline": headline, "failure": failure, "digest": digest}


def _flat(values: dict[str, Any], prefix: str = "") -> Any:
    """Every setting with its dotted name, in the order of the configuration."""
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
