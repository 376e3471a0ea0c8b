"""The leaderboard of vicuna-bench, against one made from its files alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.optimize import minimize

from labelhub.importing import import_files
from labelhub.measuring import measure
from tests.labelhub.test_import_vicuna import JUDGE, VICUNA, pytestmark  # noqa: F401


def test_the_leaderboard_is_the_one_of_the_files(project):
    import_files(project, sorted(VICUNA.glob("*.jsonl")), JUDGE)
    ranking = measure(project)["model"]["ranking"]
    [group] = ranking["groups"]
    found = {row["model"]: row["points"] for row in group}
    names, games = _games()
    expected = _strengths(names, games)
    assert list(found) == sorted(names, key=lambda name: -expected[name])
    for name in names:
        # Theirs is without the prior, which draws ours to the middle a little.
        assert found[name].value == pytest.approx(expected[name], abs=8), name
        assert found[name].low < found[name].value < found[name].high
    assert ranking["n_without_model"] == ranking["n_same_model"] == 0
    assert sum(d["won"] + d["tied"] + d["lost"] for d in ranking["duels"]) == 720


def _games() -> tuple[list[str], list[tuple[str, str, int]]]:
    answers, games = {}, []
    for path in VICUNA.glob("answer_*.jsonl"):
        for line in path.open():
            answer = json.loads(line)
            answers[answer["answer_id"]] = answer["model_id"]
    for path in VICUNA.glob("review_*.jsonl"):
        for line in path.open():
            review = json.loads(line)
            a, b = (answers[review[f"answer{n}_id"]] for n in (1, 2))
            games.append((a, b, int(np.sign(review["score"][0] - review["score"][1]))))
    return sorted({name for *pair, _ in games for name in pair}), games


def _strengths(names, games) -> dict[str, float]:
    place = {name: n for n, name in enumerate(names)}
    first = np.array([place[a] for a, _, _ in games])
    second = np.array([place[b] for _, b, _ in games])
    outcome = np.array([said for *_, said in games])

    def less_likely(x):
        lead = x[first] - x[second]
        total = np.logaddexp(np.logaddexp(lead / 2, -lead / 2), x[-1])
        return (total - np.where(outcome == 0, x[-1], outcome * lead / 2)).sum()

    x = minimize(less_likely, np.zeros(len(names) + 1), method="BFGS").x
    points = 1000 + 400 / np.log(10) * (x[:-1] - x[:-1].mean())
    return dict(zip(names, points.tolist(), strict=True))
