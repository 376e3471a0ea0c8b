"""What was imported into a project, and importing more."""

from __future__ import annotations

from collections.abc import Sequence

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import (
    require_http_methods,
    require_POST,
    require_safe,
)

from labelhub import access, importing
from labelhub.forms import ImportForm
from labelhub.http import PersonRequest
from labelhub.importing import ImportRefused, uploads
from labelhub.models import ImportBatch, Project

PER_PAGE = 50


@require_safe
def import_list(request: PersonRequest, slug: str) -> HttpResponse:
    project = access.project_for(request.user, slug, access.MANAGERS)
    batches = project.imports.select_related("created_by").order_by("-pk")
    page = Paginator(batches, PER_PAGE).get_page(request.GET.get("page"))
    context = {"project": project, "page": page, "tab": "imports"}
    return render(request, "labelhub/imports.html", context)


@require_http_methods(["GET", "POST"])
def import_data(request: PersonRequest, slug: str) -> HttpResponse:
    project = access.project_for(request.user, slug, access.MANAGERS)
    if request.method == "GET":
        return _page(request, project, ImportForm())
    data = request.POST.copy()
    form = ImportForm(data, request.FILES)
    form.is_valid()
    # Kept even if the form is wrong: the browser will not send the files again.
    data["upload"] = token = _keep_upload(request, project, form)
    if not form.is_valid():
        return _page(request, project, form)
    try:
        batch = importing.offer_upload(
            project, token, form.cleaned_data["options"], request.user
        )
    except ImportRefused as exc:
        form.add_error(None, exc.sentence)
        return _page(request, project, form, exc.problems)
    if batch.is_repeat:
        messages.info(request, "These files were imported already: nothing is new.")
    return redirect(batch)


def _keep_upload(request: PersonRequest, project: Project, form: ImportForm) -> str:
    """The token of the files that were sent now, or else of those that were before."""
    token, files = request.POST.get("upload", ""), form.cleaned_data.get("file")
    text = request.POST.get("text", "").strip()
    if not uploads.is_owned(token, project, request.user):
        if token and not files and not text:
            form.add_error("file", "What was kept is gone; choose the files again.")
        token = ""
    if files or (text and not token):
        token = uploads.keep(project, request.user, files or [], token)
    if token:
        uploads.keep_pasted(token, text)
    return token


def _page(
    request: PersonRequest,
    project: Project,
    form: ImportForm,
    problems: Sequence[str] = (),
) -> HttpResponse:
    kept = uploads.kept_files(form.data.get("upload", ""))
    names = [name for _, name in kept if name != uploads.PASTED]
    context = {
        "project": project,
        "form": form,
        "kept": names,
        "problems": problems,
        "tab": "imports",
    }
    status = 422 if form.is_bound else 200
    return render(request, "labelhub/import_data.html", context, status=status)


@require_safe
def import_batch(request: PersonRequest, slug: str, pk: int) -> HttpResponse:
    """One import; htmx asks for the part that changes until it is over."""
    batch = access.import_for(request.user, slug, pk)
    name = "labelhub/_import.html" if request.htmx else "labelhub/import_batch.html"
    context = {
        "project": batch.project,
        "batch": batch,
        "made": [(name, batch.counts.get(name, 0)) for name in _MADE],
        "is_silent": ImportBatch.objects.silent().filter(pk=pk).exists(),
        "tab": "imports",
    }
    return render(request, name, context)


_MADE = ("prompts", "responses", "tasks", "judgments")


@require_POST
def start_import(request: PersonRequest, slug: str, pk: int) -> HttpResponse:
    """Start it again after a failure, or when nothing is heard of it."""
    batch = access.import_for(request.user, slug, pk)
    is_silent = ImportBatch.objects.silent().filter(pk=pk).exists()
    if is_silent or batch.state == ImportBatch.State.FAILED:
        importing.ring(batch)
    return redirect(batch)
