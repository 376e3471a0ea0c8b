"""How a person likes to read: one address, for the popover of the judging page."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST

from labelhub.http import PersonRequest
from labelhub.preferences import UnknownPreference, choose


@require_POST
def preferences(request: PersonRequest) -> HttpResponse:
    """Remember a choice: 204 to script, which draws it; else back to the page."""
    try:
        choose(request.user, request.POST.dict())
    except UnknownPreference as exc:
        return HttpResponse(str(exc), status=422, content_type="text/plain")
    if request.htmx:
        return HttpResponse(status=204)
    back = request.POST.get("next", "")
    if not url_has_allowed_host_and_scheme(back, {request.get_host()}):
        back = "labelhub:projects"
    return redirect(back)
