"""The page that launches a run, and what it says while one is typing."""

from __future__ import annotations

import uuid

from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from labelhub.access import MANAGERS, project_for
from labelhub.http import PersonRequest
from labelhub.models import Project
from training import access, runs
from training.forms import LaunchForm, initial_of, summary_of, usual_start
from training.models import Snapshot


@require_http_methods(["GET", "POST"])
def launch(request: PersonRequest, slug: str) -> HttpResponse:
    project = project_for(request.user, slug, MANAGERS)
    if request.method == "GET":
        form = LaunchForm(project, initial=_initial(request, project))
        return _render_launch(request, form)
    form = LaunchForm(project, request.POST)
    if form.is_valid():
        cleaned = form.cleaned_data
        try:
            run = runs.launch(
                project,
                actor=request.user,
                name=cleaned["name"],
                config=form.config(),
                snapshot=cleaned["snapshot"],
                request_id=cleaned["request_id"],
                parent=cleaned["clone"],
            )
        except runs.RunRefused as refusal:
            form.refuse(str(refusal))
        else:
            return redirect(run)
    return _render_launch(request, form, status=422)


@require_POST
def launch_summary(request: PersonRequest, slug: str) -> HttpResponse:
    """What the run would take, from what is typed so far. Nothing is launched."""
    project = project_for(request.user, slug, MANAGERS)
    form = LaunchForm(project, request.POST)
    form.is_valid()
    context = {"summary": summary_of(form), "form": form}
    return render(request, "training/_launch_summary.html", context)


def _initial(request: PersonRequest, project: Project) -> dict[str, object]:
    if (pk := _number(request, "clone")) is not None:
        return initial_of(access.run_for(request.user, project.slug, pk, MANAGERS))
    initial: dict[str, object] = {"request_id": uuid.uuid4(), "method": "lora"}
    ready = Snapshot.objects.filter(project=project, state=Snapshot.State.READY)
    if (pk := _number(request, "snapshot")) is not None:
        snapshot = ready.filter(pk=pk).first()
    else:
        snapshot = ready.order_by("-pk").first()
    if snapshot is not None:
        algorithm = snapshot.recipe["for"]
        initial |= {
            "snapshot": snapshot.pk,
            "algorithm": algorithm,
            "name": f"{algorithm} on dataset {snapshot.pk}",
            **usual_start(project, algorithm),
        }
    return initial


def _number(request: PersonRequest, name: str) -> int | None:
    """The number of a row in the address, or None for what can be none."""
    text = request.GET.get(name, "")
    return int(text) if text.isdecimal() and len(text) < 19 else None


def _render_launch(
    request: PersonRequest, form: LaunchForm, status: int = 200
) -> HttpResponse:
    if form.is_bound:
        typed = form
    else:
        # Seen as if it had been sent, so that the summary is there from the start.
        typed = LaunchForm(form.project, form.initial)
        typed.is_valid()
    context = {
        "project": form.project,
        "tab": "runs",
        "form": form,
        "summary": summary_of(typed),
    }
    return render(request, "training/launch.html", context, status=status)
