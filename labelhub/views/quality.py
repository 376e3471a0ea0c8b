"""How far the judgments of a project can be trusted: what was measured last."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from labelhub import access, reports
from labelhub.http import PersonRequest
from labelhub.models import Judgment, Project, QualityReport

Numbers = dict[str, Any]

SHARES = {
    "agreement": ("Agreement", "Two people on one task said the same."),
    "baseline": ("Always the commonest verdict", "What agreement has to beat."),
    "self_consistency": ("Consistency", "The same person said the same again."),
    "position_bias": ("Left won", "Half is no preference."),
    "length_bias": ("Longer won", "Half is no preference, if length is no merit."),
}
BEYOND_CHANCE = {
    "alpha": (
        "Krippendorff’s α",
        "0 is chance; 0.3 to 0.55 is usual for open answers.",
    ),
    "ac1": ("Gwet’s AC1", "Holds where nearly all verdicts are the same."),
    "cohen": ("Cohen’s κ", "Each person with chances of their own."),
    "fleiss": ("Fleiss’ κ", "Everybody with the same chances."),
    "alpha_ordinal": ("α in order", "A tie lies between the two."),
}
OF_A_PERSON = {
    "reliability": "Sees the better",
    "accuracy": "Right",
    "gold": "Gold right",
    "agreement": "Agrees",
    "position_bias": "Left won",
    "length_bias": "Longer won",
    "haste": "In haste",
    "same_answer": "Same key",
    "self_consistency": "Consistent",
}
ENOUGH = 100
"""Tasks judged twice that give agreement to about ± 0.1."""


@require_safe
def quality(request: PersonRequest, slug: str) -> HttpResponse:
    """The last report; reading an outdated one asks for the next."""
    project = access.project_for(request.user, slug, access.REVIEWERS)
    report = reports.newest(project)
    if not request.htmx and reports.is_outdated(report, project):
        reports.ask(project)
    latest = project.quality_reports.order_by("-pk").first()
    context = {
        "project": project,
        "report": report,
        "underway": latest if latest and not latest.is_final else None,
        "failed": latest if latest and latest.state == "failed" else None,
        "sources": list(_sources(project, report)) if report else [],
        "tab": "quality",
    }
    name = "labelhub/_quality.html" if request.htmx else "labelhub/quality.html"
    return render(request, name, context)


@require_POST
def measure_quality(request: PersonRequest, slug: str) -> HttpResponse:
    project = access.project_for(request.user, slug, access.REVIEWERS)
    reports.ask(project, request.user)
    return redirect("labelhub:quality", slug=slug)


def _sources(project: Project, report: QualityReport) -> Iterator[Numbers]:
    """What the page shows of each kind of judge, people of this project first."""
    for source in Judgment.Source:
        numbers = report.numbers.get(source.value)
        if not numbers:
            continue
        twice = numbers["alpha"]["n"]
        yield {
            "label": source.label,
            "name": source.value,
            "n": numbers["n_judgments"],
            "twice": twice,
            "is_enough": twice >= ENOUGH,
            "measures": [
                *_measures(numbers, SHARES, is_share=True),
                *_measures(numbers, BEYOND_CHANCE, is_share=False),
            ],
            **_people(numbers["judges"]),
            "slices": _slices(numbers["slices"]),
            "ranking": _ranking(numbers.get("ranking")),
        }


def _measures(
    numbers: Numbers, names: dict[str, tuple[str, str]], *, is_share: bool
) -> Iterator[Numbers]:
    for key, (label, meaning) in names.items():
        if key in numbers:
            estimate = shown(numbers[key], is_share=is_share)
            yield {"label": label, "meaning": meaning, **estimate}


def shown(estimate: Numbers, *, is_share: bool) -> Numbers:
    """An estimate in words, and where its dot and whiskers are drawn."""
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    said = _percent if is_share else _decimal
    return {
        "n": estimate["n"],
        "because": estimate["because"],
        "value": None if value is None else said(value),
        "interval": _interval(low, high, said).replace(" % to", " to"),
        "plot": _plot(value, low, high, (0, 1) if is_share else (-0.2, 1)),
    }


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _decimal(number: float) -> str:
    return f"{number:.2f}"


def _whole(number: float) -> str:
    return f"{number:.0f}"


def _interval(
    low: float | None, high: float | None, said: Callable[[float], str]
) -> str:
    if low is None and high is None:
        return ""
    return " to ".join("…" if end is None else said(end) for end in (low, high))


WIDTH = 160
"""Of a plot, in its own units; 8 are left free on either side."""


def _plot(
    value: float | None,
    low: float | None,
    high: float | None,
    ends: tuple[float, float],
) -> dict[str, str] | None:
    if value is None:
        return None

    def x(number: float) -> str:
        share = (number - ends[0]) / ((ends[1] - ends[0]) or 1)
        return f"{8 + (WIDTH - 16) * min(1.0, max(0.0, share)):.1f}"

    middle = 0.5 if ends == (0, 1) else max(ends[0], 0)
    return {
        "value": x(value),
        "low": x(value if low is None else low),
        "high": x(value if high is None else high),
        "middle": x(middle),
    }


def _people(judges: dict[str, Numbers]) -> Numbers:
    columns = [
        key for key in OF_A_PERSON if any(key in person for person in judges.values())
    ]
    return {
        "columns": [OF_A_PERSON[key] for key in columns],
        "people": [
            {
                "name": name,
                "n": numbers["n_judgments"],
                "cells": [
                    shown(numbers[key], is_share=True) if key in numbers else None
                    for key in columns
                ],
            }
            for name, numbers in judges.items()
        ],
    }


def _slices(slices: Numbers) -> list[Numbers]:
    return [
        {
            "label": name,
            "parts": [
                {
                    "name": part,
                    "agreement": shown(numbers["agreement"], is_share=True),
                    "alpha": shown(numbers["alpha"], is_share=False),
                }
                for part, numbers in parts.items()
            ],
        }
        for name, parts in slices.items()
    ]


def _ranking(ranking: Numbers | None) -> Numbers | None:
    if not ranking:
        return None
    controlled = ranking.get("controlled", {})
    without = {
        row["model"]: round(row["points"]["value"])
        for group in controlled.get("groups", [])
        for row in group
    }
    groups = ranking.get("groups", [])
    ends = _ends([row["points"] for group in groups for row in group])
    return {
        "because": ranking.get("because", ""),
        "n_left_out": ranking["n_without_model"] + ranking["n_same_model"],
        "groups": [
            [_ranked(row, ends, without.get(row["model"])) for row in group]
            for group in groups
        ],
        "is_controlled": bool(without),
        "effects": [
            {"name": name, **shown(effect, is_share=False)}
            for name, effect in controlled.get("effects", {}).items()
        ],
        "duels": [
            {**duel, "share": shown(duel["share"], is_share=True)}
            for duel in ranking.get("duels", [])
        ],
    }


def _ends(points: list[Numbers]) -> tuple[float, float]:
    known = [
        end
        for point in points
        for end in (point["value"], point["low"], point["high"])
        if end is not None
    ]
    return (min(known), max(known)) if known else (0, 0)


def _ranked(row: Numbers, ends: tuple[float, float], without: int | None) -> Numbers:
    points = row["points"]
    value, low, high = points["value"], points["low"], points["high"]
    return {
        "model": row["model"],
        "ranks": (
            str(row["best"])
            if row["best"] == row["worst"]
            else f"{row['best']} to {row['worst']}"
        ),
        "value": _whole(value),
        "interval": _interval(low, high, _whole),
        "n": points["n"],
        "because": points["because"],
        "plot": _plot(value, low, high, ends),
        "without": without,
    }
