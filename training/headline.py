"""What matters about a run, in one line: how far, how good, and what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import IntegerField, Max, Min, OuterRef, QuerySet, Subquery
from django.db.models.functions import Cast, Coalesce
from django.utils import timezone

from labelhub.quality.estimate import wilson
from training.core.errors import ERROR_CODES
from training.models import Attempt, MetricPoint, Run, RunEvent

# What the evaluation of each algorithm is called where its trainer logs it.
EVAL_ACCURACY = {
    "dpo": "eval_rewards/accuracies",
    "ipo": "eval_rewards/accuracies",
    "reward_model": "eval_accuracy",
}
EVAL_LOSS = "eval_loss"
PEOPLE = "people agree"
_BASELINES = {
    "baseline_longer_wins": "longer wins",
    "baseline_bag_of_words": "bag of words",
}
_DISPLACED = -0.1
"""A mean reward of the chosen responses below this is likelihood displacement."""
_SPELLED = {"nan": "NaN", "inf": "infinite", "-inf": "minus infinity"}


@dataclass(frozen=True)
class Score:
    """A number of the held-out rows, with what it stands on."""

    label: str
    value: float
    n: int = 0
    low: float | None = None
    high: float | None = None
    is_share: bool = False


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
    compared: list[Score]
    """What the score is to be held against: what it must beat, what people reach."""
    concern: str


def with_scores(runs: QuerySet[Run]) -> QuerySet[Run]:
    """Annotate each run with the newest evaluation of its newest attempt."""
    # By the attempt's id and not by a join, which would walk every point of the run.
    attempt = Attempt.objects.filter(
        run=OuterRef(OuterRef("pk")), fence=OuterRef(OuterRef("fence"))
    )
    newest = MetricPoint.objects.filter(
        attempt=Subquery(attempt.values("pk")[:1])
    ).order_by("-step")
    # Name by name, so that each is the end of a stretch of the index. Before the first
    # step every pair is a tie, which trainers count as wrong.
    accuracies = [
        Subquery(newest.filter(name=name, step__gt=0).values("value")[:1])
        for name in sorted(set(EVAL_ACCURACY.values()))
    ]
    loss = newest.filter(name=EVAL_LOSS)
    read = RunEvent.objects.filter(run=OuterRef("pk"), kind="data_ready")
    used = Cast("data__ledger__eval__used", IntegerField())
    held_out = read.order_by("-pk").values(n=used)
    return runs.annotate(
        eval_accuracy=Coalesce(*accuracies),
        eval_loss=Subquery(loss.values("value")[:1]),
        n_held_out=Subquery(held_out[:1]),
    )


def headline_of(run: Run) -> Headline:
    """The line for one run; it must come from `with_scores`."""
    attempt = run.attempts.order_by("-fence").first()
    return Headline(
        seconds_left=_seconds_left(run, attempt),
        score=score_of(run),
        compared=compared_of(run),
        concern=_concern(run, attempt),
    )


def failure_of(run: Run) -> Failure | None:
    """What the failure card says, or None for a run that has not failed."""
    if run.state != Run.State.FAILED:
        return None
    error = run.error or {}
    known = ERROR_CODES.get(error.get("code", ""))
    lines = error.get("lines") or []
    return Failure(
        kind=" ".join(filter(None, [error.get("code"), error.get("class")])),
        message=error.get("message") or "The attempt ended without saying why.",
        where=_place(error.get("where")),
        lines=lines if isinstance(lines, str) else "\n".join(lines),
        remedy=known.remedy if known else "",
    )


def score_of(run: Run) -> Score | None:
    """The evaluation that speaks for the run; it must come from `with_scores`.

    At the end that is what was measured on the final model, with an interval that
    draws prompts; until then it is what the trainer logged last.
    """
    measured = _measured(run)
    if "accuracy" in measured:
        return _measured_share(measured, "accuracy", "Accuracy")
    if "perplexity" in measured:
        return Score("Perplexity", measured["perplexity"], int(measured.get("rows", 0)))
    accuracy: float | None = run.eval_accuracy  # type: ignore[attr-defined]
    loss: float | None = run.eval_loss  # type: ignore[attr-defined]
    # As the trainer counted them: some rows may have been too long for it.
    n: int = run.n_held_out or 0  # type: ignore[attr-defined]
    if accuracy is not None:
        low, high = (
            wilson(accuracy * n, n) if n and 0 <= accuracy <= 1 else (None, None)
        )
        return Score("Accuracy", accuracy, n, low, high, is_share=True)
    return None if loss is None else Score("Held-out loss", loss, n)


def compared_of(run: Run) -> list[Score]:
    """Rules that read no meaning, on the same rows where that was measured; people."""
    measured = _measured(run)
    if "perplexity_before" in measured:
        return [Score("before training", measured["perplexity_before"])]
    found = [
        _measured_share(measured, name, label)
        for name, label in _BASELINES.items()
        if name in measured
    ]
    rules = found or list(_frozen("length_bias", "longer wins", run))
    return [*rules, *_frozen("agreement", PEOPLE, run)]


def _measured(run: Run) -> dict[str, float]:
    return (run.result or {}).get("eval_metrics") or {}


def _measured_share(measured: Mapping[str, float], name: str, label: str) -> Score:
    return Score(
        label,
        measured[name],
        int(measured.get("pairs", 0)),
        measured.get(f"{name}_low"),
        measured.get(f"{name}_high"),
        is_share=True,
    )


def _frozen(name: str, label: str, run: Run) -> Iterator[Score]:
    """An estimate among the snapshot's statistics, if it is there and has a value."""
    if run.algorithm not in EVAL_ACCURACY or run.snapshot is None:
        return
    found = run.snapshot.statistics.get(name) or {}
    if found.get("value") is not None:
        yield Score(
            label,
            found["value"],
            found.get("n", 0),
            found.get("low"),
            found.get("high"),
            is_share=True,
        )


def _place(where: Any) -> str:
    """Where a trainer failed: in words, or the phase, step and line that it tells."""
    if not isinstance(where, dict):
        return str(where or "")
    step = where.get("step")
    parts = [where.get("phase"), f"step {step}" if step else "", where.get("place")]
    return ", ".join(str(part) for part in parts if part)


def _seconds_left(run: Run, attempt: Attempt | None) -> float | None:
    """By the pace of the last hundred steps, evaluations and checkpoints included."""
    if run.state != Run.State.RUNNING or attempt is None or not run.max_steps:
        return None
    pace = attempt.metrics.filter(
        name="loss", step__gte=max(0, run.step - 100)
    ).aggregate(first=Min("step"), last=Max("step"), started=Min("at"), ended=Max("at"))
    if pace["first"] is None or pace["first"] == pace["last"]:
        return None
    seconds_a_step = (pace["ended"] - pace["started"]) / (pace["last"] - pace["first"])
    return float(seconds_a_step * max(0, run.max_steps - run.step))


def _concern(run: Run, attempt: Attempt | None) -> str:
    """One sentence if something is wrong, else nothing."""
    if attempt is None:
        return ""
    lease = attempt.lease_until
    is_held = attempt.state == Attempt.State.RUNNING
    if is_held and lease is not None and lease < timezone.now():
        return (
            "The worker has not been heard from for a while; if it stays silent, the "
            "run goes on elsewhere from its last checkpoint."
        )
    return _broken(run, attempt) or _beaten(run) or _drift(run, attempt)


def _beaten(run: Run) -> str:
    """A model that a rule of thumb matches is not of use yet, however it got there."""
    measured = _measured(run)
    rules = {label: measured[k] for k, label in _BASELINES.items() if k in measured}
    best = max(rules, key=lambda label: rules[label], default="")
    if not best or measured["accuracy"] > rules[best]:
        return ""
    return (
        f"This model does not beat the rule “{best}”, which is right on "
        f"{rules[best]:.1%} of the same held-out pairs. More judgments or a larger "
        "base model may."
    )


def _broken(run: Run, attempt: Attempt) -> str:
    broken = (
        attempt.metrics.filter(name__in=["loss", "grad_norm", EVAL_LOSS])
        .exclude(nonfinite="")
        .order_by("step")
        .first()
    )
    if broken is None:
        return ""
    return (
        f"{broken.name} is {_SPELLED[broken.nonfinite]} since step {broken.step}: what "
        "is learned after that is lost. Stop, and launch a copy with a lower learning "
        "rate."
    )


def _drift(run: Run, attempt: Attempt) -> str:
    """What the last evaluations say about where it goes."""
    # Name by name, so that each is the end of a stretch of the index.
    points = attempt.metrics.filter(value__isnull=False).order_by("-step")
    loss, chosen, margins = (
        [point.value or 0.0 for point in points.filter(name=name)[:3]]
        for name in (EVAL_LOSS, "eval_rewards/chosen", "eval_rewards/margins")
    )
    if len(loss) == 3 and loss[0] > loss[1] > loss[2]:
        return (
            f"Held-out loss has risen over three evaluations, from {loss[2]:.4g} to "
            f"{loss[0]:.4g}: rows are being learned by heart. Fewer epochs or a lower "
            "learning rate help."
        )
    if chosen and margins and chosen[0] < _DISPLACED and margins[0] > 0:
        return (
            f"Chosen responses get less likely too (reward {chosen[0]:.2f}) while the "
            "margin grows. A higher beta or a lower learning rate helps."
        )
    return ""
