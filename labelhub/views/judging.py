"""The judging pages: one item after another, and one's own history of them.

Nothing given to a template here names a model, or says which response is a.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import (
    require_http_methods,
    require_POST,
    require_safe,
)
from django_htmx.http import push_url

from labelhub import access, probes, queue, verdicts
from labelhub.differences import compare
from labelhub.forms import NoteForm
from labelhub.http import PersonRequest
from labelhub.models import Assignment, Judgment, Membership, Project, User
from labelhub.preferences import preferences_of, questions
from labelhub.queue import EndState

HISTORY = 50
"""How many of their last items a person is shown."""

State = Assignment.State
_ENDED = [State.SUBMITTED, State.SKIPPED]


@never_cache
@require_safe
def judge(request: PersonRequest, slug: str) -> HttpResponse:
    """Go to the item at hand, or say why there is none."""
    project = access.project_for(request.user, slug, Membership.Role.values)
    return _next_item(request, project)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def judge_item(request: PersonRequest, slug: str, pk: UUID) -> HttpResponse:
    """One item to its own annotator; its answer, and then the next item."""
    assignment = access.assignment_for(request.user, slug, pk)
    if request.method != "POST":
        return _item(request, assignment)
    form = NoteForm(request.POST)
    if not form.is_valid():
        error = " ".join(map(str, form.errors["note"]))
        typed = request.POST.get("note", "")
        return _item(request, assignment, error=error, note=typed, status=422)
    note = form.cleaned_data["note"]
    if request.POST.get("action") == "skip":
        queue.skip(assignment.pk, request.user, note)
        return _next_item(request, assignment.project, "Skipped", after=assignment)
    shown = request.POST.get("verdict", "")
    try:
        judgment = queue.submit(
            assignment.pk,
            request.user,
            shown,
            note=note,
            replaces=_revision(request.POST.get("replaces", "")),
        )
    except verdicts.UnknownVerdict as exc:
        return _item(request, assignment, error=str(exc), note=note, status=422)
    saved = _what_was_saved(judgment, assignment, shown)
    known = _known_answer(judgment, assignment)
    return _next_item(
        request, assignment.project, saved, after=assignment, known_answer=known
    )


@require_POST
def extend_item(request: PersonRequest, slug: str, pk: UUID) -> HttpResponse:
    """The page is still being read: 204, or 409 if the item was lost meanwhile."""
    assignment = access.assignment_for(request.user, slug, pk)
    return HttpResponse(status=204 if queue.extend(assignment) else 409)


@never_cache
@require_safe
def judging_history(request: PersonRequest, slug: str) -> HttpResponse:
    project = access.project_for(request.user, slug, access.JUDGES)
    ended = _ended(project, request.user).select_related("task__prompt")
    items = _nearest(ended, "-ended_at", HISTORY)
    standing = {
        judgment.assignment_id: judgment
        for judgment in Judgment.objects.standing().filter(assignment__in=items)
    }
    rows = [_history_row(project, item, standing.get(item.pk)) for item in items]
    context = {"project": project, "rows": rows}
    return render(request, "labelhub/judging_history.html", context)


def _history_row(
    project: Project, item: Assignment, judgment: Judgment | None
) -> dict[str, Any]:
    answer = "Skipped"
    if judgment:
        answer = verdicts.in_words(
            judgment.verdict, judgment.strength, project, swapped=item.swapped
        )
    return {
        "address": _address(project, item.pk),
        "prompt": item.task.prompt.last_user_turn,
        "answer": answer,
        "judgment": judgment,
        "ended_at": item.ended_at,
    }


def _known_answer(judgment: Judgment, assignment: Assignment) -> str:
    """What the right answer was, for those whose project tells them."""
    if not assignment.project.gold_feedback:
        return ""
    gold = probes.gold_behind(judgment)
    if gold is None:
        return ""
    project, swapped = assignment.project, assignment.swapped
    right = verdicts.in_words(gold.verdict, 0, project, swapped=swapped)
    given = verdicts.in_words(judgment.verdict, 0, project, swapped=swapped)
    known = f"The answer to that item was known: “{right}”"
    if gold.verdict == judgment.verdict:
        return f"{known}, as you said. {gold.explanation}".strip()
    return f"{known}. You said “{given}”. {gold.explanation}".strip()


def _revision(typed: str) -> int:
    return int(typed) if typed.isdecimal() and len(typed) < 6 else 0


def _what_was_saved(judgment: Judgment, assignment: Assignment, shown: str) -> str:
    if _shown(judgment, assignment) != shown:
        return (
            "You had answered this item already, in another tab perhaps; that answer"
            " stands."
        )
    if judgment.surplus:
        return (
            "Saved as an extra: while you were reading, the item was withdrawn or"
            " given to somebody else."
        )
    return "Saved"


def _shown(judgment: Judgment, assignment: Assignment) -> str:
    return verdicts.as_shown(
        judgment.verdict, judgment.strength, swapped=assignment.swapped
    )


def _next_item(
    request: PersonRequest,
    project: Project,
    saved: str = "",
    *,
    after: Assignment | None = None,
    known_answer: str = "",
) -> HttpResponse:
    item = queue.claim(project, request.user)
    if isinstance(item, Assignment):
        address = _address(project, item.pk)
    else:
        address = reverse("labelhub:judge", args=[project.slug])
    if not request.htmx:
        if saved:
            messages.success(request, saved)
        if known_answer:
            messages.info(request, known_answer)
        if isinstance(item, Assignment) or saved:
            return redirect(address)
        return _queue_end(request, project, item)
    more: dict[str, Any] = {"saved": saved, "known_answer": known_answer}
    if after is not None:
        more["previous"] = _address(project, after.pk)
    if isinstance(item, EndState):
        response = _queue_end(request, project, item, **more)
    else:
        if after is not None:
            more["has_new_guideline"] = after.guideline_id != item.guideline_id
        response = _item(request, item, **more)
    return push_url(response, address)


def _item(
    request: PersonRequest,
    assignment: Assignment,
    *,
    status: int = 200,
    **more: Any,
) -> HttpResponse:
    project = assignment.project
    standing = None
    if assignment.state == State.SUBMITTED:
        standing = assignment.judgments.standing().get()
    left, right = assignment.text_a, assignment.text_b or ""
    if assignment.swapped:
        left, right = right, left
    context = {
        "item": assignment,
        "address": _address(project, assignment.pk),
        "left": left,
        "right": right,
        "replaces": standing.revision if standing else 0,
        "note": standing.note if standing else "",
        "chosen": standing and _shown(standing, assignment),
    }
    context |= _conversation(assignment)
    context |= _reading(request, left, right if project.is_pairwise else None)
    return _page(request, project, "_item", context | more, assignment, status)


def _conversation(assignment: Assignment) -> dict[str, Any]:
    """The system prompt apart, for it is long, and the same on many items."""
    turns = assignment.turns
    context: dict[str, Any] = {"turns": turns, "language": assignment.language}
    if turns[0]["role"] == "system" and len(turns) > 1:
        first_line = turns[0]["content"].strip().partition("\n")[0]
        context["system"] = turns[0] | {"first_line": first_line}
        turns = turns[1:]
    return context | {"earlier": turns[:-1], "last_turn": turns[-1]}


def _reading(request: PersonRequest, left: str, right: str | None) -> dict[str, Any]:
    """The item as this person likes to read it."""
    reading = preferences_of(request.user)
    context: dict[str, Any] = {
        "reading": reading,
        "is_raw": reading["text"] == "written",
    }
    if right is not None and reading["differences"] == "on":
        parts = compare(left, right)
        context["left_parts"], context["right_parts"] = parts or (None, None)
        context["is_too_long_to_compare"] = parts is None
    return context


def _queue_end(
    request: PersonRequest, project: Project, end: EndState, **more: Any
) -> HttpResponse:
    status = 403 if end.reason is queue.Reason.NOT_A_JUDGE else 200
    context = {"end": end} | more
    return _page(request, project, "_queue_end", context, None, status)


def _page(
    request: PersonRequest,
    project: Project,
    fragment: str,
    context: dict[str, Any],
    at: Assignment | None,
    status: int,
) -> HttpResponse:
    """The fragment alone for htmx, which swaps it in; else the whole page around it."""
    is_whole = not request.htmx or request.htmx.history_restore_request
    context |= {
        "project": project,
        "fragment": f"labelhub/{fragment}.html",
        "is_whole": is_whole,
        "choices": verdicts.choices(project),
        "progress": project.progress_of(request.user),
    }
    # Undo leads to what was just answered; nothing need be looked up for that.
    if "previous" not in context:
        context |= _neighbours(request, project, at)
    if is_whole or context.get("has_new_guideline"):
        context["guideline"] = project.current_guideline()
    if is_whole:
        pairwise = project.is_pairwise
        context["preferences"] = questions(request.user, is_pairwise=pairwise)
    name = "judge.html" if is_whole else "_judge_swap.html"
    return render(request, f"labelhub/{name}", context, status=status)


def _ended(project: Project, annotator: User) -> QuerySet[Assignment]:
    return Assignment.objects.filter(
        project=project, annotator=annotator, state__in=_ENDED
    )


def _neighbours(
    request: PersonRequest, project: Project, at: Assignment | None
) -> dict[str, str]:
    """Where undo and the arrow keys lead: the item before, and the one after."""
    before = _ended(project, request.user)
    after = before.none()
    if at is not None and at.state in _ENDED:
        # SQLite compares times as text, and the column has fewer digits than the
        # parameter: without this an item would lie before itself.
        before = before.exclude(pk=at.pk)
        after = before.filter(ended_at__gt=at.ended_at)
        before = before.filter(ended_at__lt=at.ended_at)
    return {
        name: "".join(_address(project, item.pk) for item in found)
        for name, found in (
            ("previous", _nearest(before, "-ended_at", 1)),
            ("following", _nearest(after, "ended_at", 1)),
        )
    }


def _nearest(ended: QuerySet[Assignment], order: str, count: int) -> list[Assignment]:
    """The first of them. Each state is asked for apart, for so they lie in the index
    in this order; of both together a database would sort somebody's 50,000."""
    found = [
        item
        for state in _ENDED
        for item in ended.filter(state=state).order_by(order)[:count]
    ]
    is_falling = order.startswith("-")
    return sorted(found, key=attrgetter("ended_at"), reverse=is_falling)[:count]


def _address(project: Project, pk: UUID) -> str:
    return reverse("labelhub:judge_item", args=[project.slug, pk])
