"""Projects: the list, one of them, a new one, its settings."""

from __future__ import annotations

from copy import copy
from datetime import date
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, transaction
from django.db.models import Exists, QuerySet, Sum
from django.forms import ModelForm
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from labelhub import access, progress
from labelhub.forms import ProjectForm, ProjectSettingsForm, VerdictSettingsForm
from labelhub.http import PersonRequest
from labelhub.models import Event, Membership, Project

STEPS = {
    "labelhub:import_data": "Import data",
    "labelhub:members": "Add members",
    "labelhub:judge": "Judge",
    "training:freeze": "Freeze dataset",
    "training:launch": "Launch run",
}
"""From nothing to a first run, each with the page where it is done."""


@require_safe
def project_list(request: PersonRequest) -> HttpResponse:
    projects = list(access.projects_of(request.user).annotate(n_judged=_n_judged()))
    roles = dict(
        request.user.memberships.values_list("project_id", "role")  # one query for all
    )
    for project in projects:
        project.role = roles.get(project.pk, Membership.Role.MANAGER)
    return render(request, "labelhub/projects.html", {"projects": projects})


@require_safe
def project_detail(request: PersonRequest, slug: str) -> HttpResponse:
    """What there is to do here: for an annotator judging, for the others the whole."""
    project = access.project_for(request.user, slug, Membership.Role.values)
    membership = project.memberships.filter(user=request.user).first()
    context: dict[str, Any] = {
        "project": project,
        "tab": "overview",
        "n_mine": membership.n_judged if membership else 0,
    }
    if project.role in access.READERS:
        context |= _overview(project)
    if project.role == Membership.Role.MANAGER:
        context["steps"] = _steps(project)
    return render(request, "labelhub/project.html", context)


def _overview(project: Project) -> dict[str, Any]:
    counted = progress.of(project)
    active = progress.active(project)
    seconds = counted.get("seconds", {})
    members = list(_members(project))
    return {
        "counted": counted,
        "bars": _bars(counted.get("days", [])),
        "leases": progress.leases(project),
        "n_active": len(active),
        "members": [
            (member, seconds.get(str(member.user_id)), active.get(member.user_id))
            for member in members
        ],
        "last_import": project.imports.order_by("-pk").first(),
        "guideline": project.current_guideline(),
    }


BAR_HEIGHT = 64


def _bars(days: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The chart's bars, as high as their day is beside the best; none if none is."""
    most = max((day["n"] for day in days), default=0)
    if not most:
        return []
    bars = []
    for place, day in enumerate(days):
        # A day with one judgment is not a day without.
        height = max(round(BAR_HEIGHT * day["n"] / most), 2 * bool(day["n"]))
        name = date.fromisoformat(day["day"])
        bar = {"x": place * 20, "y": BAR_HEIGHT - height, "height": height}
        bars.append({**bar, "day": name, "n": day["n"]})
    return bars


def _steps(project: Project) -> list[dict[str, Any]]:
    """The way from data to a first run; empty once it has been walked."""
    row = Project.objects.values(
        members=Exists(project.memberships.filter(role__in=access.JUDGES)),
        judge=Exists(project.assignments.filter(state="submitted")),
        freeze=Exists(project.snapshots.all()),
        launch=Exists(project.runs.all()),
    ).get(pk=project.pk)
    done: dict[str, Any] = {**row, "import_data": project.n_tasks > 0}
    if done["launch"]:
        return []
    steps = [
        {"page": page, "label": label, "is_done": done[page.partition(":")[2]]}
        for page, label in STEPS.items()
    ]
    # What was skipped is not asked for again: verdicts may come with the import.
    behind = [n for n, step in enumerate(steps, 1) if step["is_done"]]
    n_behind = max(behind) if done["import_data"] else 0
    return [{**step, "is_next": n == n_behind} for n, step in enumerate(steps)]


def _members(project: Project) -> QuerySet[Membership]:
    return project.memberships.select_related("user").order_by("-n_judged", "pk")[:8]


def _n_judged() -> Sum:
    return Sum("memberships__n_judged", default=0)


@require_http_methods(["GET", "POST"])
def create_project(request: PersonRequest) -> HttpResponse:
    if not request.user.is_superuser:
        raise PermissionDenied
    form = ProjectForm(request.POST or None)
    if form.is_valid():
        form.instance.created_by = request.user
        if project := _save(form, request, verb="project.created"):
            return redirect(project)
    status = 422 if form.is_bound else 200
    return render(
        request, "labelhub/create_project.html", {"form": form}, status=status
    )


@require_http_methods(["GET", "POST"])
def project_settings(request: PersonRequest, slug: str) -> HttpResponse:
    project = access.project_for(request.user, slug, access.MANAGERS)
    # A copy, for the form writes what was typed onto its instance, and the page
    # should still name the project as it is.
    form = ProjectSettingsForm(request.POST or None, instance=copy(project))
    if form.is_valid() and _save(form, request, verb="project.changed"):
        return redirect("labelhub:project_settings", slug=slug)
    context = {"form": form, "project": project, "tab": "settings"}
    status = 422 if form.is_bound else 200
    return render(request, "labelhub/project_settings.html", context, status=status)


@require_http_methods(["GET", "POST"])
def verdict_settings(request: PersonRequest, slug: str) -> HttpResponse:
    project = access.project_for(request.user, slug, access.MANAGERS)
    form = VerdictSettingsForm(request.POST or None, instance=copy(project))
    if form.is_valid():
        with transaction.atomic():
            form.save()
            _record(form, project, request, "project.changed")
        return redirect("labelhub:verdict_settings", slug=slug)
    context = {"form": form, "project": project, "tab": "settings"}
    status = 422 if form.is_bound else 200
    return render(request, "labelhub/verdict_settings.html", context, status=status)


def _save(form: ProjectForm, request: PersonRequest, *, verb: str) -> Project | None:
    """None, and a word on the form, where somebody took the name a moment ago."""
    try:
        with transaction.atomic():
            # Two who write guidelines at once would make the same version.
            list(Project.objects.select_for_update().filter(pk=form.instance.pk))
            project: Project = form.save()
            if form.cleaned_data["guidelines"] or project.current_guideline():
                project.write_guideline(form.cleaned_data["guidelines"], request.user)
            _record(form, project, request, verb)
    except IntegrityError:
        form.add_error("name", "There is a project of this name already.")
        return None
    return project


def _record(
    form: ModelForm[Project], project: Project, request: PersonRequest, verb: str
) -> None:
    """Write down what was changed: nothing, where the form was sent twice."""
    if changed := form.changed_data:
        data = {name: str(form.cleaned_data[name]) for name in changed}
        Event.objects.create(project=project, actor=request.user, verb=verb, data=data)
