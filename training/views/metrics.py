"""The numbers behind a run's charts, in the shape that static/js/chart.js asks for."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any

from django.http import (
    HttpResponse,
    HttpResponseBadRequest,
    JsonResponse,
    StreamingHttpResponse,
)
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_safe

from labelhub.http import PersonRequest
from training import access
from training.headline import PEOPLE, Score, compared_of
from training.metrics import Curves, Series, read_curves, read_stretch
from training.models import MetricPoint, Run
from training.panels import Panel, panels_for

_LOST_COLOUR = 8
MAX_STEP = 2**31 - 1
_CSV_HEAD = ("attempt", "step", "name", "value", "unix_time")


# Compressed, for it holds nothing secret beside what a stranger could have written.
@gzip_page
@require_safe
def metrics(request: PersonRequest, slug: str, pk: int) -> HttpResponse:
    """The curves, or with `?after=` those buckets that changed; 204 if none did.

    With `?from=&to=` a stretch of them in narrower buckets.
    """
    run = access.run_for(request.user, slug, pk)
    if "from" in request.GET or "to" in request.GET:
        return _stretch(request, run)
    after, width = _cursor(request.GET.get("after", ""))
    # The state first: points may follow it, but a final state follows every point.
    curves = read_curves(run, after=after, width=width)
    if curves is None and after and not run.is_final:
        return HttpResponse(status=204)
    answer: dict[str, Any] = {
        "state": "done" if run.is_final else "running",
        "append": bool(after),
        "series": {},
        "panels": [],
    }
    if curves is not None:
        answer["cursor"] = f"{curves.cursor}.{curves.width}"
        answer["append"] = curves.start > 0
        answer |= _described(curves)
    elif after:
        answer["cursor"] = f"{after}.{width}"
    answer["panels"] = _panels(run, curves)
    return JsonResponse(answer, json_dumps_params={"allow_nan": False})


def _stretch(request: PersonRequest, run: Run) -> HttpResponse:
    first, last = (
        int(text) if text.isascii() and text.isdigit() and len(text) < 11 else -1
        for text in (request.GET.get("from", ""), request.GET.get("to", ""))
    )
    if not 0 <= first <= last:
        return HttpResponseBadRequest(
            "from and to are steps: whole numbers, and from is not above to.",
            content_type="text/plain",
        )
    curves = read_stretch(run, min(first, MAX_STEP), min(last, MAX_STEP))
    answer = {"series": {}} if curves is None else _described(curves)
    return JsonResponse(answer, json_dumps_params={"allow_nan": False})


@require_safe
def metrics_csv(
    request: PersonRequest, slug: str, pk: int
) -> HttpResponse | StreamingHttpResponse:
    """Every point as it was reported."""
    run = access.run_for(request.user, slug, pk)
    response = StreamingHttpResponse(_csv_lines(run), content_type="text/csv")
    response["Content-Disposition"] = f'attachment; filename="run-{run.pk}.csv"'
    return response


def _cursor(text: str) -> tuple[int, int]:
    """Newest point and bucket width as an earlier answer gave them, else 0."""
    newest, _, width = text.partition(".")
    parts = [newest, width]
    if not all(part.isascii() and part.isdigit() and len(part) < 19 for part in parts):
        return 0, 0
    return (int(newest), int(width)) if int(width) else (0, 0)


def _key(name: str, attempt: int) -> str:
    return f"{name}@{attempt}" if attempt else name


def _described(curves: Curves) -> dict[str, Any]:
    return {
        "from": curves.start,
        "width": curves.width,
        "series": {_key(s.name, s.attempt): _series(s) for s in curves.series},
    }


def _series(series: Series) -> dict[str, Any]:
    is_eval = series.name.startswith("eval_")
    described: dict[str, Any] = {
        "label": _label(series.name, series.attempt),
        "split": "eval" if is_eval else "train",
        "points": list(_points(series)),
        "nonfinite": [[step, kind] for step, kind, _ in series.nonfinite],
    }
    if series.last is not None:
        described["last"] = [series.steps[-1], _rounded(series.last)]
    if series.attempt:
        described["colour"] = _LOST_COLOUR
    return described


def _points(series: Series) -> Iterator[list[float]]:
    columns = (series.steps, series.mean, series.low, series.high)
    for step, mean, low, high in zip(*columns, strict=True):
        if mean is None or low is None or high is None:
            continue
        values = [mean] if low == high else [mean, low, high]
        yield [step, *map(_rounded, values)]


def _rounded(value: float) -> float:
    """Seven digits are what a float32 holds; more would double the answer."""
    return float(f"{value:.7g}")


def _label(name: str, attempt: int) -> str:
    word = name.removeprefix("eval_").rpartition("/")[2]
    label = f"{word}, held out" if name.startswith("eval_") else word
    return f"{label}, attempt {attempt}" if attempt else label


def _panels(run: Run, curves: Curves | None) -> list[dict[str, Any]]:
    names = {series.name for series in curves.series} if curves else set()
    return [_panel(run, panel) for panel in panels_for(run.algorithm, names)]


def _panel(run: Run, panel: Panel) -> dict[str, Any]:
    keys = [key for name in panel.names for key in (name, f"eval_{name}")]
    lost = [_key(key, fence) for fence in range(1, run.fence) for key in keys]
    described = {
        "key": panel.names[0],
        "title": panel.title,
        "help": panel.help,
        "names": keys + lost,
        "log": panel.log,
        "folded": panel.folded,
    }
    if panel.is_share:
        described["unit"] = "%"
        described["lines"] = [_line(score) for score in compared_of(run)]
    return described


def _line(score: Score) -> dict[str, Any]:
    line = {"value": score.value, "label": score.label}
    # The bands of several lines would hide the curves: only people get theirs.
    if score.label == PEOPLE and score.low is not None:
        line |= {"low": score.low, "high": score.high}
    return line


def _csv_lines(run: Run) -> Iterator[str]:
    writer = csv.writer(_Echo())
    yield writer.writerow(_CSV_HEAD)
    points = MetricPoint.objects.filter(run=run).order_by("pk")
    columns = ("pk", "attempt__fence", "step", "name", "value", "nonfinite", "at")
    last = 0
    # By keyset: a cursor held open for a slow reader would hold back SQLite's log.
    while page := list(points.filter(pk__gt=last).values_list(*columns)[:5000]):
        for _, fence, step, name, value, nonfinite, at in page:
            shown = nonfinite if value is None else value
            yield writer.writerow((fence, step, name, shown, at))
        last = page[-1][0]


class _Echo:
    """A file that hands back what is written to it."""

    def write(self, text: str) -> str:
        return text
