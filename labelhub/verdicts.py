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
    """One button: what it stands for, what it says, the keys that press it."""

    side: str
    label: str
    keys: tuple[str, ...]
    strength: int = 0

    @property
    def shown(self) -> str:
        """What the browser sends."""
        return f"{self.side}-{self.strength}" if self.strength else self.side


class Answer(NamedTuple):
    """What is stored of what was pressed."""

    verdict: Verdict
    strength: int


LEFT = Choice("left", "A is better", ("1", "a"))
TIE = Choice("tie", "Tie", ("3", "0", "t"))
BOTH_BAD = Choice("both_bad", "Both bad", ("x", "4"))
RIGHT = Choice("right", "B is better", ("2", "b"))
BAD = Choice("bad", "Bad", ("0",))
GOOD = Choice("good", "Good", ("1",))
CHOICES = (LEFT, TIE, BOTH_BAD, RIGHT, BAD, GOOD)

SCALES = {
    3: (LEFT, TIE, BOTH_BAD, RIGHT),
    5: (
        Choice("left", "A is much better", ("1",), 2),
        Choice("left", "A is better", ("2", "a"), 1),
        Choice("tie", "Tie", ("3", "0", "t")),
        Choice("both_bad", "Both bad", ("x",)),
        Choice("right", "B is better", ("4", "b"), 1),
        Choice("right", "B is much better", ("5",), 2),
    ),
    7: (
        Choice("left", "A is much better", ("1",), 3),
        Choice("left", "A is better", ("2", "a"), 2),
        Choice("left", "A is slightly better", ("3",), 1),
        Choice("tie", "Tie", ("4", "0", "t")),
        Choice("both_bad", "Both bad", ("x",)),
        Choice("right", "B is slightly better", ("5",), 1),
        Choice("right", "B is better", ("6", "b"), 2),
        Choice("right", "B is much better", ("7",), 3),
    ),
}
"""By the points of the scale. On one with strengths the digits are places on it."""

_SIDES = {"left": (Verdict.A, Verdict.B), "right": (Verdict.B, Verdict.A)}
"""What the left and the right response are: as they lie, and swapped."""


class UnknownVerdict(ValueError):
    """The sentence is meant for the person who sent it."""


def choices(project: Project) -> list[Choice]:
    """What the project offers, in the order of the columns: left … right."""
    if not project.is_pairwise:
        return [BAD, GOOD]
    is_offered = {"tie": project.allow_tie, "both_bad": project.allow_both_bad}
    scale = SCALES[project.strength_points]
    return [choice for choice in scale if is_offered.get(choice.side, True)]


def offered(project: Project) -> list[Verdict]:
    """The verdicts there are to give, however strongly."""
    answers = (stored(c.shown, project, swapped=False) for c in choices(project))
    return list(dict.fromkeys(answer.verdict for answer in answers))


def stored(shown: str, project: Project, *, swapped: bool) -> Answer:
    """What to store for what was pressed."""
    offered = {choice.shown: choice for choice in choices(project)}
    if shown not in offered:
        raise UnknownVerdict(
            f"“{shown}” is no verdict here; choose one of {', '.join(offered)}."
        )
    side, strength = offered[shown].side, offered[shown].strength
    if side in _SIDES:
        return Answer(_SIDES[side][swapped], strength)
    return Answer(Verdict(side), strength)


def as_shown(verdict: str, strength: int = 0, *, swapped: bool) -> str:
    """What was pressed for the verdict that was stored."""
    for side, sides in _SIDES.items():
        if sides[swapped] == verdict:
            return f"{side}-{strength}" if strength else side
    return str(verdict)


def in_words(verdict: str, strength: int, project: Project, *, swapped: bool) -> str:
    """What the button said that was pressed; the plain words if it is gone since."""
    shown = as_shown(verdict, strength, swapped=swapped)
    labels = {choice.shown: choice.label for choice in (*CHOICES, *choices(project))}
    return labels.get(shown) or labels[shown.partition("-")[0]]


def side_on_the_left(project: Project, *, swapped: bool) -> Side:
    if not project.is_pairwise:
        return Side.NONE
    return Side.B if swapped else Side.A
