"""What managers do to a run."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from labelhub.access import MANAGERS
from labelhub.http import PersonRequest
from training import access, runs


@require_POST
def stop(request: PersonRequest, slug: str, pk: int) -> HttpResponse:
    return _act(request, slug, pk, runs.stop)


@require_POST
def cancel(request: PersonRequest, slug: str, pk: int) -> HttpResponse:
    return _act(request, slug, pk, runs.cancel)


@require_POST
def retry(request: PersonRequest, slug: str, pk: int) -> HttpResponse:
    return _act(request, slug, pk, runs.retry)


def _act(
    request: PersonRequest, slug: str, pk: int, action: Callable[..., None]
) -> HttpResponse:
    """Do it and go back to the run, which shows what has become of it."""
    run = access.run_for(request.user, slug, pk, MANAGERS)
    try:
        action(run, actor=request.user)
    except runs.RunRefused as refusal:
        messages.error(request, str(refusal))
    return redirect(run)
