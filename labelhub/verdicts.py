"""The vocabulary of verdicts, and left and right -> a and b.

Pages and API speak of left and right, as the annotator saw them. Only models and
this module know a and b.
"""

from __future__ import annotations

from typing import NamedTuple

from labelhub.models import Judgment, Project

Verdict = Judgment.Verdict
Side = Judgment.Side


class Choice(NamedTuple):
    """One button: what the browser sends, what it says, the keys that press it."""

    shown: str
    label: str
    keys: tuple[str, ...]


LEFT = Choice("left", "A is better", ("1", "a"))
TIE = Choice("tie", "Tie", ("3", "0", "t"))
BOTH_BAD = Choice("both_bad", "Both bad", ("x", "4"))
RIGHT = Choice("right", "B is better", ("2", "b"))
BAD = Choice("bad", "Bad", ("0",))
GOOD = Choice("good", "Good", ("1",))
CHOICES = (LEFT, TIE, BOTH_BAD, RIGHT, BAD, GOOD)

_SIDES = {"left": (Verdict.A, Verdict.B), "right": (Verdict.B, Verdict.A)}
"""What the left and the right response are: as they lie, and swapped."""


class UnknownVerdict(ValueError):
    """The sentence is meant for the person who sent it."""


def choices(project: Project) -> list[Choice]:
    """What the project offers, in the order of the columns: left … right."""
    if not project.is_pairwise:
        return [BAD, GOOD]
    between = [TIE] * project.allow_tie + [BOTH_BAD] * project.allow_both_bad
    return [LEFT, *between, RIGHT]


def stored(shown: str, project: Project, *, swapped: bool) -> Verdict:
    """The verdict to store for what was pressed."""
    offered = [choice.shown for choice in choices(project)]
    if shown not in offered:
        raise UnknownVerdict(
            f"“{shown}” is no verdict here; choose one of {', '.join(offered)}."
        )
    if shown in _SIDES:
        return _SIDES[shown][swapped]
    return Verdict(shown)


def as_shown(verdict: str, *, swapped: bool) -> str:
    """What was pressed for the verdict that was stored."""
    for shown, sides in _SIDES.items():
        if sides[swapped] == verdict:
            return shown
    return str(verdict)


def side_on_the_left(project: Project, *, swapped: bool) -> Side:
    if not project.is_pairwise:
        return Side.NONE
    return Side.B if swapped else Side.A
