"""What matters about a run, in one line: how far, how good, and what is wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from django.db.models import Max, Min, OuterRef, QuerySet, Subquery
from django.utils import timezone

from training.core.errors import ERROR_CODES
from training.models import Attempt, MetricPoint, Run

# What the evaluation of each algorithm is called where its trainer logs it.
EVAL_ACCURACY = {
    "dpo": "eval_rewards/accuracies",
    "ipo": "eval_rewards/accuracies",
    "reward_model": "eval_accuracy",
}
EVAL_LOSS = "eval_loss"
_SPELLED = {"nan": "NaN", "inf": "infinite", "-inf": "minus infinity"}


@dataclass(frozen=True)
class Score:
    """A number of the held-out rows, with what it stands on."""

    label: str
    value: float
    n: int = 0
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Failure:
    """Why a run failed, for somebody who wants to go on."""

    kind: str
    message: str
    where: str
    lines: str
    remedy: str


@dataclass(frozen=True)
class Headline:
    seconds_left: float | None
    score: Score | None
    baselines: list[Score]
    ceiling: Score | None
    concern: str


def with_scores(runs: QuerySet[Run]) -> QuerySet[Run]:
    """Annotate each run with the newest evaluation of its newest attempt."""
    newest = MetricPoint.objects.filter(
        run=OuterRef("pk"), attempt__fence=OuterRef("fence")
    ).order_by("-step")
    accuracy = newest.filter(name__in=set(EVAL_ACCURACY.values()))
    loss = newest.filter(name=EVAL_LOSS)
    return runs.annotate(
        eval_accuracy=Subquery(accuracy.values("value")[:1]),
        eval_loss=Subquery(loss.values("value")[:1]),
    )


def headline_of(run: Run) -> Headline:
    """The line for one run; it must come from `with_scores`."""
    statistics = run.snapshot.statistics if run.snapshot else {}
    attempt = run.attempts.order_by("-fence").first()
    return Headline(
        seconds_left=_seconds_left(run, attempt),
        score=score_of(run),
        baselines=baselines_of(statistics),
        ceiling=ceiling_of(statistics),
        concern=_concern(run, attempt),
    )


def failure_of(run: Run) -> Failure | None:
    """What the failure card says, or None for a run that has not failed."""
    if run.state != Run.State.FAILED:
        return None
    error = run.error or {}
    code = error.get("code", "")
    known = ERROR_CODES.get(code)
    lines = error.get("lines") or []
    return Failure(
        kind=" ".join(filter(None, [code, error.get("class", "")])),
        message=error.get("message") or "The attempt ended without saying why.",
        where=error.get("where", ""),
        lines=lines if isinstance(lines, str) else "\n".join(lines),
        remedy=known.remedy if known else "",
    )


def score_of(run: Run) -> Score | None:
    """The evaluation that speaks for the run; it must come from `with_scores`."""
    accuracy: float | None = run.eval_accuracy  # type: ignore[attr-defined]
    loss: float | None = run.eval_loss  # type: ignore[attr-defined]
    n = run.snapshot.n_eval if run.snapshot else 0
    if accuracy is not None:
        return proportion("Accuracy", accuracy, n)
    return None if loss is None else Score("Held-out loss", loss, n)


def proportion(label: str, share: float, n: int) -> Score:
    """A share of n rows with its 95 % interval, by Wilson's formula.

    >>> proportion("Accuracy", 1.0, 10).low > 0.7
    True
    """
    if n == 0:
        return Score(label, share)
    z = 1.959964
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    spread = z / (1 + z * z / n)
    spread *= math.sqrt(max(0.0, share * (1 - share)) / n + z * z / (4 * n * n))
    return Score(label, share, n, max(0.0, middle - spread), min(1.0, middle + spread))


def baselines_of(statistics: dict[str, Any]) -> list[Score]:
    return []


def ceiling_of(statistics: dict[str, Any]) -> Score | None:
    return None


def _seconds_left(run: Run, attempt: Attempt | None) -> float | None:
    """By the pace of the last hundred steps, evaluations and checkpoints included."""
    if run.state != Run.State.RUNNING or attempt is None or not run.max_steps:
        return None
    pace = attempt.metrics.filter(
        run=run, name="loss", step__gte=max(0, run.step - 100)
    ).aggregate(first=Min("step"), last=Max("step"), started=Min("at"), ended=Max("at"))
    if pace["first"] is None or pace["first"] == pace["last"]:
        return None
    seconds_a_step = (pace["ended"] - pace["started"]) / (pace["last"] - pace["first"])
    return float(seconds_a_step * max(0, run.max_steps - run.step))


def _concern(run: Run, attempt: Attempt | None) -> str:
    """One sentence if something is wrong, else nothing."""
    if attempt is None:
        return ""
    if attempt.state == Attempt.State.RUNNING and attempt.lease_until:
        silent = timezone.now() - attempt.lease_until
        if silent.total_seconds() > 0:
            return (
                "The worker has not been heard from for a while; if it stays silent, "
                "the run goes on elsewhere from its last checkpoint."
            )
    broken = (
        attempt.metrics.filter(run=run, name__in=["loss", "grad_norm", EVAL_LOSS])
        .exclude(nonfinite="")
        .order_by("step")
        .first()
    )
    if broken is not None:
        return (
            f"{broken.name} is {_SPELLED[broken.nonfinite]} since step {broken.step}: "
            "what is learned after that is lost. Stop, and launch a copy with a lower "
            "learning rate."
        )
    return ""
