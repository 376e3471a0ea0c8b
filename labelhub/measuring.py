"""A project's judgments, measured: columns in, the numbers of `labelhub.quality` out.

It takes seconds to minutes, so it runs in a process of its own, never in a request.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelhub.columns import (
    BOTH_BAD,
    TIE,
    A,
    B,
    Judgments,
    as_ints,
    places,
    read_judgments,
)
from labelhub.models import Judgment, Project
from labelhub.probes import gold_answered
from labelhub.quality.arrays import Bools, Ints, Judged, codes, groups
from labelhub.quality.bias import NO_LENGTH, NO_SIDE
from labelhub.quality.coefficients import (
    ac1,
    agreement,
    alpha,
    by_judge,
    coefficients,
    self_consistency,
)
from labelhub.quality.estimate import Estimate, share
from labelhub.quality.habits import favour, haste, same_answer, usual_seconds
from labelhub.quality.ranking import Comparisons, Ranking, duels, rank
from labelhub.quality.reliability import Compared, accuracies, reliabilities, sampled

MOST_JUDGES = 1000
MOST_SLICES = 20
"""How many get lines of their own, those with the most judgments first."""

Progress = Callable[[str], None]
Numbers = dict[str, Any]


def measure(
    project: Project, progress: Progress = lambda doing: None
) -> dict[str, Numbers]:
    """{source: {what: numbers}}; judgments of different sources are never mixed."""
    progress("reading judgments")
    read = read_judgments(project)
    found = {}
    for source in sorted(read.rows["source"].unique().to_pylist()):
        progress(f"measuring {source} judgments")
        rows = read.rows.filter(pc.equal(read.rows["source"], source))
        found[source] = _numbers(project, replace(read, rows=rows))
    if Judgment.Source.HUMAN in found:
        for person, right in _gold(project).items():
            found[Judgment.Source.HUMAN]["judges"].get(person, {})["gold"] = right
    return found


def _gold(project: Project) -> dict[str, Estimate]:
    """How often each person gave the answer that was known."""
    hits: dict[str, dict[int, list[bool]]] = {}
    for person, prompt, is_right in gold_answered(project):
        hits.setdefault(person, {}).setdefault(prompt, []).append(is_right)
    return {
        person: share(((sum(h), len(h)) for h in of_prompt.values()), nothing="")
        for person, of_prompt in hits.items()
    }


def _numbers(project: Project, read: Judgments) -> Numbers:
    rows, names = read.rows, read.judges
    once = _where(rows, _of(rows, "original") == _of(rows, "task"))
    judged = _judged(once)
    found: Numbers = {"n_judgments": len(once)}
    found |= coefficients(judged, len(names))
    if project.is_pairwise:
        found["alpha_ordinal"] = _in_order(judged)
        found |= _biases(once)
    known = _where(once, _of(once, "judge") < len(names))
    twice = _twice(_where(rows, _of(rows, "judge") < len(names)))
    found["self_consistency"] = _consistency(twice)
    found["judges"] = _judges(project, known, twice, names)
    found["slices"] = _slices(once) if found["agreement"].n else {}
    if project.is_pairwise:
        found["ranking"] = _ranking(once, read.models)
    return found


def _of(rows: pa.Table, name: str) -> Ints:
    found: Ints = rows[name].to_numpy()
    return found


def _where(rows: pa.Table, mask: Bools) -> pa.Table:
    return rows.filter(pa.array(mask))


def _judged(rows: pa.Table) -> Judged:
    return Judged.of(*(_of(rows, c) for c in ("prompt", "task", "judge", "verdict")))


def _in_order(judged: Judged) -> Estimate:
    """α where a tie lies between a and b, and both bad is a tie."""
    counts, prompt = judged.counts()
    in_order = np.zeros((len(counts), 3), dtype=np.int64)
    for verdict in range(counts.shape[1]):
        in_order[:, TIE if verdict == BOTH_BAD else verdict] += counts[:, verdict]
    return alpha(in_order, prompt, ordinal=True)


def _biases(rows: pa.Table) -> dict[str, Estimate]:
    verdict, prompt = _of(rows, "verdict"), _of(rows, "prompt")
    winner = np.select([verdict == A, verdict == B], [1, -1])
    return {
        "length_bias": favour(prompt, winner, _of(rows, "longer"), NO_LENGTH),
        "position_bias": favour(prompt, winner, _of(rows, "left"), NO_SIDE),
    }


def _twice(rows: pa.Table) -> pa.Table:
    """Judgments of repeats, each beside what the same person said the first time."""
    is_repeat = _of(rows, "original") != _of(rows, "task")
    first, again = _where(rows, ~is_repeat), _where(rows, is_repeat)
    n = int(_of(rows, "judge").max(initial=0)) + 1
    keys = _of(first, "task") * n + _of(first, "judge")
    order = np.argsort(keys, kind="stable")
    wanted = _of(again, "original") * n + _of(again, "judge")
    at, is_there = places(keys[order], wanted)
    said = _of(first, "verdict")[order[at[is_there]]]
    return _where(again, is_there).append_column("said", pa.array(said))


def _consistency(twice: pa.Table) -> Estimate:
    return self_consistency(*(_of(twice, c) for c in ("prompt", "said", "verdict")))


def _judges(
    project: Project, rows: pa.Table, twice: pa.Table, names: list[str]
) -> Numbers:
    """What can be said of each person by name, those with the most judgments first."""
    against = by_judge(_judged(rows).of_judges(len(names)))
    reliable = _reliabilities(project, rows, len(names))
    usual = usual_seconds(rows["seconds"].to_numpy())
    of_judge = dict(groups(_of(rows, "judge"), len(names)))
    again = dict(groups(_of(twice, "judge"), len(names)))
    most_first = sorted(of_judge, key=lambda judge: -len(of_judge[judge]))
    found = {}
    for judge in most_first[:MOST_JUDGES]:
        own = rows.take(of_judge[judge])
        numbers: Numbers = {"n_judgments": len(own), **against.get(judge, {})}
        numbers |= {name: every[judge] for name, every in reliable.items()}
        if project.is_pairwise:
            numbers |= _biases(own)
        prompt = _of(own, "prompt")
        numbers["haste"] = haste(prompt, own["seconds"].to_numpy(), usual)
        numbers["same_answer"] = same_answer(prompt, _shown(project, own))
        if judge in again:
            numbers["self_consistency"] = _consistency(twice.take(again[judge]))
        found[names[judge]] = numbers
    return found


def _reliabilities(
    project: Project, rows: pa.Table, n: int
) -> dict[str, list[Estimate]]:
    """{model: an estimate a judge}; empty where nobody shares a task with anybody."""
    judged = sampled(_judged(rows))
    if not len(judged) or len(judged) == int(judged.task.max()) + 1:
        return {}
    found = {"accuracy": accuracies(judged)}
    if project.is_pairwise:
        rows = _where(rows, np.isin(_of(rows, "prompt"), judged.prompt))
        verdict = _of(rows, "verdict")
        a, b = _of(rows, "a"), _of(rows, "b")
        response = codes(np.concatenate([a, b]))
        compared = Compared(
            prompt=_of(rows, "prompt"),
            judge=_of(rows, "judge"),
            a=response[: len(a)],
            b=response[len(a) :],
            outcome=np.select([verdict == A, verdict == B], [1, -1]),
            n_judges=n,
            n_responses=int(response.max()) + 1,
        )
        found["reliability"] = reliabilities(compared)
    return found


def _shown(project: Project, rows: pa.Table) -> Ints:
    """What was pressed: 0 left, 1 tie, 2 right, 3 both bad; -1 where it is unknown."""
    verdict, left = _of(rows, "verdict"), _of(rows, "left")
    if not project.is_pairwise:
        return verdict
    is_side = (verdict == A) | (verdict == B)
    shown = np.where(is_side & (left < 0), B - verdict, verdict)
    return np.where(is_side & (left == 0), -1, shown)


def _slices(rows: pa.Table) -> Numbers:
    """{slice: {part: agreement}}, where a slice has more than one part."""
    found: Numbers = {}
    for name in ("import", "category"):
        coded = rows[name].fill_null("").combine_chunks().dictionary_encode()
        labels, code = coded.dictionary.to_pylist(), as_ints(coded.indices)
        if len(labels) < 2:
            continue
        parts = sorted(groups(code, len(labels)), key=lambda part: -len(part[1]))
        found[name] = {}
        for part, own in parts[:MOST_SLICES]:
            judged = _judged(rows.take(own))
            counts, prompt = judged.counts()
            found[name][labels[part] or "none"] = {
                "n_judgments": len(judged),
                "agreement": agreement(counts, prompt),
                "alpha": alpha(counts, prompt),
                "ac1": ac1(counts, prompt),
            }
    return found


def _ranking(rows: pa.Table, models: list[str]) -> Numbers:
    """The leaderboard, as judged and with length and side taken out."""
    a, b = _of(rows, "model_a"), _of(rows, "model_b")
    named = (a >= 0) & (b >= 0)
    found: Numbers = {
        "n_without_model": int((~named).sum()),
        "n_same_model": int((named & (a == b)).sum()),
    }
    compared = _where(rows, named & (a != b))
    if not len(compared):
        return found | {"because": "No judgment is on answers of two named models."}
    comparisons, seen = _comparisons(compared)
    names = [models[model] for model in seen]
    ranking = rank(comparisons)
    found |= {"groups": _leaderboards(ranking, names), "tie": ranking.tie}
    found["duels"] = [
        {**asdict(duel), "first": names[duel.first], "second": names[duel.second]}
        | {"share": duel.share}
        for duel in duels(comparisons)
    ]
    effects = np.column_stack([_of(compared, "log_ratio"), _of(compared, "left")])
    moves = effects.any(axis=0)
    if moves.any():
        controlled = rank(replace(comparisons, effects=effects[:, moves].astype(float)))
        kept = np.array(("length", "side"))[moves].tolist()
        found["controlled"] = {
            "groups": _leaderboards(controlled, names),
            "effects": dict(zip(kept, controlled.effects, strict=True)),
        }
    return found


def _comparisons(rows: pa.Table) -> tuple[Comparisons, list[int]]:
    """Of the models that are there, renumbered, with which they were."""
    n = len(rows)
    both = np.concatenate([_of(rows, "model_a"), _of(rows, "model_b")])
    seen, code = np.unique(both, return_inverse=True)
    verdict = _of(rows, "verdict")
    comparisons = Comparisons(
        prompt=_of(rows, "prompt"),
        first=code[:n],
        second=code[n:],
        outcome=np.select([verdict == A, verdict == B], [1, -1]),
        n_models=len(seen),
        effects=np.zeros((n, 0)),
    )
    return comparisons, seen.tolist()


def _leaderboards(ranking: Ranking, names: list[str]) -> list[list[Numbers]]:
    return [
        [
            {
                "model": names[ranked.model],
                "points": _points(ranked.strength),
                "best": ranked.best,
                "worst": ranked.worst,
            }
            for ranked in group
        ]
        for group in ranking.groups
    ]


def _points(strength: Estimate) -> Estimate:
    """On Elo's scale: 1000 is the middle, 400 more are odds of ten to one."""

    def scaled(value: float | None) -> float | None:
        return None if value is None else 1000 + 400 / math.log(10) * value

    return replace(
        strength,
        value=scaled(strength.value),
        low=scaled(strength.low),
        high=scaled(strength.high),
    )
