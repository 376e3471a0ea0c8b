"""The pages of frozen datasets: the list, freezing one, one of them, its files."""

from __future__ import annotations

from typing import Any

from django.core.cache import cache
from django.core.paginator import Paginator
from django.http import (
    HttpResponse,
    HttpResponseBase,
)
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import (
    require_http_methods,
    require_POST,
    require_safe,
)
from django_htmx.http import HttpResponseClientRefresh, HttpResponseStopPolling

from labelhub.access import MANAGERS, READERS, project_for
from labelhub.http import PersonRequest
from labelhub.models import Judgment, Project
from training import access, downloads, exporting, previewing
from training.forms import SnapshotForm
from training.integrity import SILENT_AFTER
from training.models import Snapshot
from training.recipes import Ledger, Recipe, usual_algorithm
from training.storage import StorageError, open_store

SNAPSHOTS_A_PAGE = 50
ROWS_SHOWN = 3


@require_safe
def snapshot_list(request: PersonRequest, slug: str) -> HttpResponse:
    project = project_for(request.user, slug, READERS)
    snapshots = (
        Snapshot.objects.filter(project=project)
        .select_related("created_by")
        .order_by("-pk")
    )
    page = Paginator(snapshots, SNAPSHOTS_A_PAGE).get_page(request.GET.get("page"))
    for snapshot in page.object_list:
        snapshot.project = project
    context = {"project": project, "tab": "snapshots", "page": page}
    return render(request, "training/snapshots.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def freeze(request: PersonRequest, slug: str) -> HttpResponse:
    """Choose a recipe, see its ledger, freeze.

    The ledger is that of a GET with the fields in its address (htmx asks so at every
    change), or of a POST by the button Preview.
    """
    project = project_for(request.user, slug, MANAGERS)
    data = request.POST or ("algorithm" in request.GET and request.GET) or None
    form = SnapshotForm(data, project=project)
    is_wanted = request.method == "POST" and "preview" not in request.POST
    if form.is_valid() and form.recipe and is_wanted:
        return redirect(exporting.ask(project, form.recipe, actor=request.user))

    recipe = form.recipe
    if not form.is_bound:
        recipe = Recipe(algorithm=usual_algorithm(project.kind))
    context = {
        "project": project,
        "tab": "snapshots",
        "form": form,
        "recipe": recipe,
        "ledger": _previewed(project, recipe) if recipe else None,
    }
    name = "training/_preview.html" if request.htmx else "training/freeze.html"
    status = 422 if form.errors and not request.htmx else 200
    return render(request, name, context, status=status)


@require_safe
def snapshot_detail(request: PersonRequest, slug: str, pk: int) -> HttpResponse:
    """One snapshot; while it is made, htmx asks here for how far it is."""
    snapshot = access.snapshot_for(request.user, slug, pk)
    context = {"project": snapshot.project, "tab": "snapshots", "snapshot": snapshot}
    if snapshot.state != Snapshot.State.FREEZING and request.htmx:
        stop = HttpResponseClientRefresh()
        stop.status_code = HttpResponseStopPolling.status_code
        return stop
    if snapshot.state == Snapshot.State.FREEZING:
        seen = snapshot.beat_at or snapshot.created_at
        context["is_silent"] = timezone.now() - seen > SILENT_AFTER
    if request.htmx:
        return render(request, "training/_freezing.html", context)
    if snapshot.state == Snapshot.State.READY:
        context |= _described(snapshot)
    return render(request, "training/snapshot.html", context)


@require_POST
def freeze_again(request: PersonRequest, slug: str, pk: int) -> HttpResponse:
    """Start the work once more, where the process that did it has died."""
    snapshot = access.snapshot_for(request.user, slug, pk, MANAGERS)
    if snapshot.state == Snapshot.State.FREEZING:
        exporting.ring(snapshot)
    return redirect(snapshot)


@require_safe
def snapshot_file(
    request: PersonRequest, slug: str, pk: int, name: str
) -> HttpResponseBase:
    """One file as it is, or the rows of train and eval as JSON lines or CSV."""
    snapshot = access.snapshot_for(request.user, slug, pk)
    return downloads.snapshot_file(snapshot, name)


def _previewed(project: Project, recipe: Recipe) -> Ledger:
    """The ledger to be; the counting of votes is kept while somebody tries options."""
    newest = Judgment.objects.filter(project=project).order_by("-id").values_list("id")
    key = f"patterns:{project.pk}:{newest.first()}"
    patterns = cache.get(key)
    if patterns is None:
        patterns = previewing.patterns_of(project)
        cache.set(key, patterns, timeout=20)
    return previewing.preview(patterns, recipe)


def _described(snapshot: Snapshot) -> dict[str, Any]:
    from training.dataset_files import read_rows

    store = open_store()
    try:
        with store.open(f"{snapshot.uri}/train.parquet") as file:
            rows = list(read_rows(file, ROWS_SHOWN))
    except StorageError as error:
        return {"ledger": Ledger.from_dict(snapshot.ledger), "store_error": str(error)}
    return {"ledger": Ledger.from_dict(snapshot.ledger), "rows": rows}
