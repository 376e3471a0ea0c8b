"""The audit log: who changed what in a project, and when."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from labelhub import access
from labelhub.forms import AuditForm
from labelhub.http import PersonRequest

PER_PAGE = 50


@require_safe
def audit(request: PersonRequest, slug: str) -> HttpResponse:
    """Newest first. Older pages are found by id, so that the log may grow meanwhile."""
    project = access.project_for(request.user, slug, access.MANAGERS)
    form = AuditForm(request.GET, project=project)
    events = project.events.none()
    if form.is_valid():
        events = form.found()
    rows = list(events.select_related("actor").order_by("-pk")[: PER_PAGE + 1])
    context = {
        "project": project,
        "form": form,
        "events": rows[:PER_PAGE],
        "is_filtered": any(form.data.get(name) for name in form.fields),
        "older": rows[PER_PAGE - 1].pk if len(rows) > PER_PAGE else None,
        "tab": "settings",
    }
    status = 200 if form.is_valid() else 422
    return render(request, "labelhub/audit.html", context, status=status)
