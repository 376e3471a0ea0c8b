"""Makes agreement.json with irrCAC 0.4.4, krippendorff 0.9 and scikit-learn.

Run once, in an environment of its own, as irrCAC asks for an old scipy:
`python make_agreement.py > agreement.json`.
A row is a task, a column a judge, -1 a judge who did not see the task.
"""

from __future__ import annotations

import json
import warnings

import krippendorff
import numpy as np
import pandas as pd
from irrCAC.raw import CAC
from sklearn.metrics import cohen_kappa_score

warnings.simplefilter("ignore")


def tables() -> dict[str, np.ndarray]:
    chance = np.random.default_rng(4)
    found = {}
    for name, (tasks, judges, verdicts, missing, right) in {
        "two judges": (60, 2, 3, 0.0, 0.6),
        "five judges": (80, 5, 4, 0.0, 0.5),
        "missing cells": (90, 6, 4, 0.5, 0.6),
        "mostly missing": (120, 12, 3, 0.8, 0.7),
        "skewed thumbs": (100, 3, 2, 0.2, 0.93),
        "guessers": (70, 4, 4, 0.1, 0.0),
    }.items():
        if name == "skewed thumbs":
            truth = (chance.random(tasks) < 0.04).astype(int)
        else:
            truth = chance.integers(0, verdicts, tasks)
        table = chance.integers(0, verdicts, (tasks, judges))
        table = np.where(chance.random(table.shape) < right, truth[:, None], table)
        table = np.where(chance.random(table.shape) < missing, -1, table)
        found[name] = table[(table >= 0).any(axis=1)]
    found["one differs"] = np.zeros((20, 3), dtype=int)
    found["one differs"][7, 1] = 1
    found["all agree"] = np.tile(np.arange(12)[:, None] % 2, (1, 3))
    found["always opposite"] = np.column_stack(
        [np.arange(14) % 2, 1 - np.arange(14) % 2]
    )
    return found


def figures(table: np.ndarray) -> dict[str, object]:
    said = pd.DataFrame(table).astype(float).replace(-1.0, np.nan)
    # Named, for with a newer pandas irrCAC takes a missing cell for a category.
    cac = CAC(said, categories=sorted(set(table[table >= 0].tolist())), digits=12)
    found: dict[str, object] = {}
    if table.shape[1] == 2:
        found["cohen_of_two"] = float(cohen_kappa_score(*table.T))
    if (table >= 0).all():
        # With missing cells Conger's weighs judges alike, ours pairs of judgments.
        found["cohen"] = cac.conger()["est"]["coefficient_value"]
    for name, method in {"fleiss": "fleiss", "ac1": "gwet"}.items():
        est = getattr(cac, method)()["est"]
        low, high = est["confidence_interval"]
        found[name] = est["coefficient_value"]
        found[f"{name}_interval"] = [low, high]
    found["alpha"] = krippendorff.alpha(
        said.T.to_numpy(), level_of_measurement="nominal"
    )
    found["alpha_ordinal"] = krippendorff.alpha(
        said.T.to_numpy(), level_of_measurement="ordinal"
    )
    return {"table": table.tolist(), **found}


if __name__ == "__main__":
    found = {name: figures(table) for name, table in tables().items()}
    print(json.dumps(found))
