"""The log of a run: its last lines, then what follows."""

from __future__ import annotations

from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe
from django_htmx.http import HttpResponseStopPolling

from labelhub.http import PersonRequest
from training import access
from training.models import Attempt, Run
from training.run_log import read_on, read_tail
from training.views.runs import render_tab, scored_run


@require_safe
def run_log(request: PersonRequest, slug: str, pk: int) -> HttpResponse:
    """The newest attempt's log, or that of `?attempt=`."""
    run = scored_run(request, slug, pk)
    attempts = list(run.attempts.select_related("worker").order_by("fence"))
    asked = request.GET.get("attempt")
    shown = [a for a in attempts if asked in (None, str(a.fence))]
    if asked is not None and not shown:
        raise Http404("No such attempt.")
    attempt = shown[-1] if shown else None
    return render_tab(
        request,
        run,
        "log",
        attempts=attempts,
        attempt=attempt,
        part=read_tail(attempt) if attempt else None,
        is_growing=attempt is not None and attempt.state == Attempt.State.RUNNING,
    )


@require_safe
def log_more(request: PersonRequest, slug: str, pk: int, fence: int) -> HttpResponse:
    """What follows a position; 204 if nothing does, 286 once nothing will."""
    run = access.run_for(request.user, slug, pk)
    offset, skip, newest = (
        _number(request.GET.get(name, "")) for name in ("offset", "skip", "newest")
    )
    attempt = _attempt(run, fence)
    is_growing = attempt.state == Attempt.State.RUNNING
    part = read_on(attempt, max(0, offset), max(0, skip))
    if is_growing and part.newest == newest:
        return HttpResponse(status=204)
    context = {
        "project": run.project,
        "run": run,
        "attempt": attempt,
        "part": part,
        "is_growing": is_growing,
    }
    response = render(request, "training/_log_lines.html", context)
    return response if is_growing else HttpResponseStopPolling(response.content)


def _attempt(run: Run, fence: int) -> Attempt:
    attempt = run.attempts.filter(fence=fence).first()
    if attempt is None:
        raise Http404("No such attempt.")
    return attempt


def _number(text: str) -> int:
    """A number of a position, or -1 for what is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else -1
