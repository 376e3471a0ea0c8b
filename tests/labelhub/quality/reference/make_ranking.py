"""Makes ranking.json with choix 0.4.1 and statsmodels 0.15, on data without ties.

Run once, in an environment of its own: `python make_ranking.py > ranking.json`.
A comparison is [prompt, first, second, outcome, length, side].
"""

from __future__ import annotations

import json

import choix
import numpy as np
import statsmodels.api as sm


def compared(n: int, n_models: int, seed: int, gap: float) -> np.ndarray:
    chance = np.random.default_rng(seed)
    strength = np.linspace(-gap, gap, n_models)
    first = chance.integers(0, n_models, n)
    second = (first + chance.integers(1, n_models, n)) % n_models
    length = np.round(chance.normal(0, 0.5, n), 1)
    side = chance.choice([-1, 1], n)
    lead = strength[first] - strength[second] + 0.6 * length + 0.2 * side
    outcome = np.where(chance.random(n) < 1 / (1 + np.exp(-lead)), 1, -1)
    return np.column_stack(
        [chance.integers(0, 60, n), first, second, outcome, length, side]
    )


def figures(rows: np.ndarray, n_models: int) -> dict[str, object]:
    _, first, second, outcome, length, side = rows.T
    pairs = np.where(outcome == 1, [first, second], [second, first]).T.astype(int)
    strength = choix.opt_pairwise(
        n_models, [tuple(pair) for pair in pairs.tolist()], alpha=0.0, tol=1e-14
    )
    design = np.zeros((len(rows), n_models + 2))
    design[np.arange(len(rows)), first.astype(int)] += 1
    design[np.arange(len(rows)), second.astype(int)] -= 1
    design[:, -2], design[:, -1] = length, side
    # The first model is where strengths count from.
    fit = sm.Logit((outcome == 1).astype(int), design[:, 1:]).fit(
        method="newton", tol=1e-14, maxiter=200, disp=0
    )
    controlled = np.append(0.0, fit.params[:-2])
    return {
        "rows": rows.tolist(),
        "n_models": n_models,
        "choix": (strength - strength.mean()).tolist(),
        "statsmodels": (controlled - controlled.mean()).tolist(),
        "effects": fit.params[-2:].tolist(),
    }


if __name__ == "__main__":
    found = {
        "four models": figures(compared(300, 4, 1, 0.8), 4),
        "twelve models": figures(compared(900, 12, 2, 1.5), 12),
        "few comparisons": figures(compared(40, 3, 3, 0.3), 3),
    }
    print(json.dumps(found))
