"""Projects: the list, one of them, a new one."""

from __future__ import annotations

from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from labelhub import access
from labelhub.forms import ProjectForm
from labelhub.http import PersonRequest
from labelhub.models import Membership


@require_safe
def project_list(request: PersonRequest) -> HttpResponse:
    projects = access.projects_of(request.user)
    return render(request, "labelhub/projects.html", {"projects": projects})


@require_safe
def project_detail(request: PersonRequest, slug: str) -> HttpResponse:
    project = access.project_for(request.user, slug, Membership.Role.values)
    return render(request, "labelhub/project.html", {"project": project})


@require_http_methods(["GET", "POST"])
def create_project(request: PersonRequest) -> HttpResponse:
    if not request.user.is_superuser:
        raise PermissionDenied
    form = ProjectForm(request.POST or None)
    if form.is_valid():
        with transaction.atomic():
            form.instance.created_by = request.user
            project = form.save()
            if form.cleaned_data["guidelines"]:
                project.write_guideline(form.cleaned_data["guidelines"], request.user)
        return redirect(project)
    status = 422 if form.is_bound else 200
    return render(
        request, "labelhub/create_project.html", {"form": form}, status=status
    )
