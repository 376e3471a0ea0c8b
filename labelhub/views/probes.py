"""The hidden checks of a project: how often, and which items are gold."""

from __future__ import annotations

from copy import copy
from typing import Any

from django.contrib import messages
from django.db import transaction
from django.db.models import Count, F, Q, QuerySet
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from labelhub import access, probes
from labelhub.forms import GoldForm, ProbesForm
from labelhub.http import PersonRequest
from labelhub.models import Event, GoldAnswer, Project, Task

MOST_GOLD = 500


@require_http_methods(["GET", "POST"])
def probes_page(request: PersonRequest, slug: str) -> HttpResponse:
    project = access.project_for(request.user, slug, access.MANAGERS)
    if "task" in request.GET:
        return _to_gold(request, project)
    form = ProbesForm(request.POST or None, instance=copy(project))
    if form.is_valid():
        with transaction.atomic():
            form.save()
            if changed := form.changed_data:
                Event.objects.create(
                    project=project,
                    actor=request.user,
                    verb="probes.changed",
                    data={name: str(form.cleaned_data[name]) for name in changed},
                )
        messages.success(request, "Saved.")
        return redirect("labelhub:probes", slug=slug)
    context = {
        "project": project,
        "form": form,
        "golds": _golds(project),
        "n_repeats": project.tasks.filter(status="probe", repeat_of__gold=None).count(),
        "tab": "settings",
    }
    status = 422 if form.is_bound else 200
    return render(request, "labelhub/probes.html", context, status=status)


def _to_gold(request: PersonRequest, project: Project) -> HttpResponse:
    typed = request.GET["task"].strip()
    if typed.isdecimal() and len(typed) < 19:
        tasks = project.tasks.filter(pk=int(typed), repeat_of__isnull=True)
        if tasks.exists():
            return redirect("labelhub:gold", slug=project.slug, pk=int(typed))
    messages.error(request, f"There is no task “{typed[:40]}” in this project.")
    return redirect("labelhub:probes", slug=project.slug)


def _golds(project: Project) -> QuerySet[GoldAnswer]:
    """The newest, with how many answered and how many of them were right."""
    answers = Q(
        task__repeats__judgments__superseded_by__isnull=True,
        task__repeats__judgments__isnull=False,
    )
    return (
        GoldAnswer.objects.filter(task__project=project)
        .select_related("task__prompt")
        .annotate(
            n_answers=Count("task__repeats__judgments", filter=answers),
            n_right=Count(
                "task__repeats__judgments",
                filter=answers & Q(task__repeats__judgments__verdict=F("verdict")),
            ),
        )
        .order_by("-pk")[:MOST_GOLD]
    )


@require_http_methods(["GET", "POST"])
def gold(request: PersonRequest, slug: str, pk: int) -> HttpResponse:
    """One task with its texts, and what the right verdict on it is."""
    task = _task(request, slug, pk)
    known = GoldAnswer.objects.filter(task=task).first()
    initial: dict[str, Any] = {}
    if known is not None:
        initial = {"verdict": known.verdict, "explanation": known.explanation}
    form = GoldForm(request.POST or None, project=task.project, initial=initial)
    if form.is_valid():
        probes.set_gold(task, **form.cleaned_data, actor=request.user)
        messages.success(request, f"Task {task.pk} is a gold item.")
        return redirect("labelhub:probes", slug=slug)
    context = {
        "project": task.project,
        "task": task,
        "known": known,
        "form": form,
        "is_raw": "raw" in request.GET,
        "tab": "settings",
    }
    status = 422 if form.is_bound else 200
    return render(request, "labelhub/gold.html", context, status=status)


@require_POST
def withdraw_gold(request: PersonRequest, slug: str, pk: int) -> HttpResponse:
    task = _task(request, slug, pk)
    probes.withdraw_gold(task, request.user)
    return redirect("labelhub:probes", slug=slug)


def _task(request: PersonRequest, slug: str, pk: int) -> Task:
    task = access.task_for(request.user, slug, pk, access.MANAGERS)
    if task.repeat_of_id is not None:
        raise Http404("A probe is no task of its own.")
    return task
