"""The data explorer: every task of a project, and one of them with all it holds."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from labelhub import access, exploring
from labelhub.forms import DataForm
from labelhub.http import PersonRequest

MOST_EVENTS = 50


@require_safe
def data(request: PersonRequest, slug: str) -> HttpResponse:
    """Newest first. Older pages are found by id, so imports may go on meanwhile."""
    project = access.project_for(request.user, slug, access.REVIEWERS)
    form = DataForm(request.GET, project=project)
    page = exploring.Page([], None)
    if form.is_valid():
        page = exploring.page(project, form.cleaned_data)
    splits = exploring.splits(page.tasks)
    context = {
        "project": project,
        "form": form,
        "page": page,
        "rows": [(task, splits.get(task.pk, [])) for task in page.tasks],
        "models": exploring.models_among(page.tasks),
        "is_filtered": any(form.data.get(name) for name in form.fields),
        "tab": "data",
    }
    status = 200 if form.is_valid() else 422
    return render(request, "labelhub/data.html", context, status=status)


@require_safe
def task_detail(request: PersonRequest, slug: str, pk: int) -> HttpResponse:
    """One task: its texts with their models, who judged it how, and what befell it."""
    task = access.task_for(request.user, slug, pk)
    project = task.project
    judgments = task.judgments.select_related("annotator", "assignment__guideline")
    without = task.assignments.exclude(state="submitted").select_related("annotator")
    events = project.events.filter(subject=f"task:{pk}").select_related("actor")
    context = {
        "project": project,
        "task": task,
        "judgments": judgments.order_by("pk"),
        "assignments": without.order_by("leased_at"),
        "events": events.order_by("-pk")[:MOST_EVENTS],
        "is_raw": "raw" in request.GET,
        "tab": "data",
    }
    return render(request, "labelhub/task.html", context)
