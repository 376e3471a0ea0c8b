"""The versions of a project's guidelines: what changed, and who judged by which."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import SequenceMatcher

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from labelhub import access, progress
from labelhub.forms import CompareForm
from labelhub.http import PersonRequest


@require_safe
def guidelines(request: PersonRequest, slug: str) -> HttpResponse:
    """All versions, and the lines that differ between two of them, or the last two."""
    project = access.project_for(request.user, slug, access.REVIEWERS)
    rows = list(
        project.guidelines.select_related("created_by")
        .defer("text")
        .order_by("-version")
    )
    versions = [row.version for row in rows]
    form = CompareForm(request.GET, versions=versions)
    status = 200 if form.is_valid() else 422
    compared = form.compared() if form.is_valid() else (None, None)
    if form.is_valid():
        shown = dict(zip(("old", "new"), compared, strict=True))
        form = CompareForm(initial=shown, versions=versions)
    asked = [version for version in compared if version is not None]
    texts = {v.version: v for v in project.guidelines.filter(version__in=asked)}
    old, new = (None if v is None else texts.get(v) for v in compared)
    counted = progress.of(project).get("by_guideline")
    context = {
        "project": project,
        "versions": [
            (version, None if counted is None else counted.get(str(version.pk), 0))
            for version in rows
        ],
        "form": form,
        "new": new,
        "old": old,
        "lines": list(differing(old.text, new.text)) if old and new else [],
        "tab": "settings",
    }
    return render(request, "labelhub/guidelines.html", context, status=status)


def differing(old: str, new: str) -> Iterator[tuple[str, str]]:
    """Every line of both, and whether it is `kept`, `removed` or `added`.

    >>> list(differing("Be kind.\\nBe brief.", "Be kind.\\nBe clear."))
    [('kept', 'Be kind.'), ('removed', 'Be brief.'), ('added', 'Be clear.')]
    """
    before, after = old.splitlines(), new.splitlines()
    matcher = SequenceMatcher(a=before, b=after, autojunk=False)
    for kind, i, i_end, j, j_end in matcher.get_opcodes():
        if kind == "equal":
            yield from (("kept", line) for line in before[i:i_end])
            continue
        yield from (("removed", line) for line in before[i:i_end])
        yield from (("added", line) for line in after[j:j_end])
