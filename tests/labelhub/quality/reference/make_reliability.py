"""Makes reliability.json with the Dawid-Skene of crowd-kit 1.4.2.

Run once, in an environment of its own: `python make_reliability.py > reliability.json`.
Rows are tasks, columns judges, -1 a judge who did not see the task.
"""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
from crowdkit.aggregation.classification.dawid_skene import DawidSkene


def tables() -> dict[str, np.ndarray]:
    chance = np.random.default_rng(11)
    found = {}
    for name, (tasks, judges, verdicts, missing) in {
        "thumbs": (120, 6, 2, 0.3),
        "pairs with ties": (150, 8, 3, 0.4),
        "four verdicts": (150, 9, 4, 0.2),
    }.items():
        right = np.linspace(0.5, 0.95, judges)
        truth = chance.integers(0, verdicts, tasks)
        table = chance.integers(0, verdicts, (tasks, judges))
        table = np.where(chance.random(table.shape) < right, truth[:, None], table)
        table = np.where(chance.random(table.shape) < missing, -1, table)
        found[name] = table[(table >= 0).any(axis=1)]
    return found


def figures(table: np.ndarray) -> dict[str, object]:
    task, judge = np.nonzero(table >= 0)
    votes = pd.DataFrame({"task": task, "worker": judge, "label": table[task, judge]})
    # A tolerance below any step: its own stops at a flat bound, not at the maximum.
    model = DawidSkene(n_iter=400, tol=-1e9).fit(votes)
    verdicts = range(int(table.max()) + 1)
    return {
        "table": table.tolist(),
        "right": model.probas_.loc[range(len(table)), list(verdicts)].values.tolist(),
        "errors": [
            [
                [float(model.errors_.loc[(j, said), k]) for said in verdicts]
                for k in verdicts
            ]
            for j in range(table.shape[1])
        ],
    }


if __name__ == "__main__":
    print(json.dumps({name: figures(table) for name, table in tables().items()}))
