"""What moves a judge besides the text: side, length, haste, the same key again."""

from __future__ import annotations

import numpy as np

from labelhub.quality.arrays import Floats, Ints, share_by_prompt
from labelhub.quality.estimate import Estimate

HASTE = 1 / 3
"""Of the project's usual (median) time."""


def favour(prompt: Ints, winner: Ints, favoured: Ints, nothing: str) -> Estimate:
    """How often the left (or longer) response won; `bias.py` of columns.

    1 is a, -1 is b, 0 is neither, and then the row does not count.
    """
    counts = winner * favoured != 0
    won = winner[counts] == favoured[counts]
    return share_by_prompt(prompt[counts], won, nothing)


def usual_seconds(seconds: Floats) -> float:
    """The median of the times that are known; nan where none is."""
    known = seconds[np.isfinite(seconds)]
    return float(np.median(known)) if len(known) else float("nan")


def haste(prompt: Ints, seconds: Floats, usual: float) -> Estimate:
    """How many judgments took less than a third of the project's usual time."""
    known = np.isfinite(seconds)
    quick = seconds[known] < usual * HASTE
    return share_by_prompt(prompt[known], quick, "No judgment says how long it took.")


def same_answer(prompt: Ints, shown: Ints) -> Estimate:
    """How often the most frequent answer was given, as it was shown: left, right …

    Somebody who always presses one key has 1. -1 is an answer whose side is unknown.
    """
    known = shown >= 0
    answers = shown[known]
    most = np.bincount(answers).argmax() if len(answers) else 0
    return share_by_prompt(
        prompt[known], answers == most, "No judgment says what was on which side."
    )
