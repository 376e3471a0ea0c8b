"""What a snapshot says about its judgments, as numbers with intervals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from labelhub.quality.agreement import Unit, agreement, alpha
from labelhub.quality.bias import length_bias, position_bias
from training.recipes import Shape
from training.tallying import Tally


def statistics_of(tally: Tally) -> dict[str, Any]:
    """Counts of what was read and used; agreement and bias among what was used."""
    query = tally.scratch.execute
    query(_UNITS)
    statistics: dict[str, Any] = {
        "sources": dict(query("SELECT source, COUNT(*) FROM judgment GROUP BY 1")),
        "surplus": tally.one("SELECT COUNT(*) FROM judgment WHERE surplus"),
        "decided_by": dict(
            query("SELECT source, COUNT(*) FROM task WHERE reason = '' GROUP BY 1")
        ),
        "votes_per_task": dict(
            query("SELECT n_votes, COUNT(*) FROM task WHERE reason = '' GROUP BY 1")
        ),
        "prompts": {
            "train": tally.one("SELECT COUNT(*) FROM prompt WHERE NOT is_eval"),
            "eval": tally.one("SELECT COUNT(*) FROM prompt WHERE is_eval"),
        },
        "agreement": agreement(_units(tally)).as_dict(),
        "alpha": alpha(_units(tally)).as_dict(),
    }
    if tally.recipe.shape is Shape.LABELS:
        labels = query("SELECT SUM(label), SUM(NOT label) FROM row").fetchone()
        statistics["labels"] = {"good": labels[0] or 0, "bad": labels[1] or 0}
    if tally.one("SELECT COUNT(*) FROM task WHERE winner IS NOT NULL"):
        statistics |= {
            "length_bias": length_bias(_longer_won(tally)).as_dict(),
            "position_bias": position_bias(_left_won(tally)).as_dict(),
            "wins": [
                {"winner": winner, "loser": loser, "n": n}
                for winner, loser, n in query(
                    "SELECT winner, loser, COUNT(*) FROM task"
                    " WHERE winner IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2"
                )
            ],
        }
    return statistics


# Somebody who judged a task twice does not agree with somebody else: of one judge the
# last verdict counts. Who is not named is nobody else.
_UNITS = """
CREATE TABLE unit AS SELECT prompt, group_concat(verdict) AS verdicts FROM (
  SELECT judgment.prompt, judgment.task, judgment.verdict, MAX(judgment.id)
  FROM judgment JOIN task ON task.id = judgment.task AND task.source = judgment.source
  GROUP BY judgment.prompt, judgment.task, judge, iif(judge = '', judgment.id, 0)
) GROUP BY prompt, task
"""


def _units(tally: Tally) -> Iterator[Unit]:
    """The verdicts of each task by the source that decided it, surplus ones too."""
    for prompt, verdicts in tally.scratch.execute("SELECT prompt, verdicts FROM unit"):
        yield prompt, verdicts.split(",")


def _longer_won(tally: Tally) -> Iterator[tuple[int, bool]]:
    for prompt, won in tally.scratch.execute(
        "SELECT prompt, longer_won FROM task WHERE longer_won IS NOT NULL"
        " ORDER BY prompt"
    ):
        yield prompt, bool(won)


def _left_won(tally: Tally) -> Iterator[tuple[int, bool]]:
    for prompt, won in tally.scratch.execute(
        "SELECT judgment.prompt, judgment.verdict = shown_left FROM judgment JOIN task"
        " ON task.id = judgment.task AND task.source = judgment.source"
        " WHERE judgment.verdict IN ('a', 'b') AND shown_left <> ''"
        " ORDER BY judgment.prompt"
    ):
        yield prompt, bool(won)
