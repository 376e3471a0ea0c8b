from __future__ import annotations

import pytest

from labelhub import verdicts
from labelhub.models import Project

PAIRWISE = Project(kind="pairwise")
BINARY = Project(kind="binary")
FIVE = Project(kind="pairwise", strength_points=5)
SEVEN = Project(kind="pairwise", strength_points=7)


@pytest.mark.parametrize(
    ("shown", "swapped", "stored"),
    [
        ("left", False, "a"),
        ("left", True, "b"),
        ("right", False, "b"),
        ("right", True, "a"),
        ("tie", False, "tie"),
        ("tie", True, "tie"),
        ("both_bad", True, "both_bad"),
    ],
)
def test_a_verdict_is_stored_for_the_response_that_was_meant(shown, swapped, stored):
    assert verdicts.stored(shown, PAIRWISE, swapped=swapped) == (stored, 0)
    assert verdicts.as_shown(stored, swapped=swapped) == shown


@pytest.mark.parametrize("shown", ["good", "bad"])
def test_binary_verdicts_have_no_sides(shown):
    assert verdicts.stored(shown, BINARY, swapped=False) == (shown, 0)
    assert verdicts.as_shown(shown, swapped=False) == shown
    assert verdicts.side_on_the_left(BINARY, swapped=False) == ""


@pytest.mark.parametrize("shown", ["", "a", "b", "LEFT", "good", "left "])
def test_it_rejects_what_the_project_does_not_offer(shown):
    with pytest.raises(verdicts.UnknownVerdict, match="left, tie, both_bad, right"):
        verdicts.stored(shown, PAIRWISE, swapped=False)


def test_a_project_without_ties_offers_and_takes_none():
    strict = Project(kind="pairwise", allow_tie=False, allow_both_bad=False)
    assert [choice.shown for choice in verdicts.choices(strict)] == ["left", "right"]
    with pytest.raises(verdicts.UnknownVerdict, match="“tie”"):
        verdicts.stored("tie", strict, swapped=False)


@pytest.mark.parametrize("project", [PAIRWISE, BINARY, FIVE, SEVEN])
def test_no_key_presses_two_verdicts(project):
    keys = [key for choice in verdicts.choices(project) for key in choice.keys]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize(
    ("key", "project", "stored"),
    [
        ("1", FIVE, ("a", 2)),
        ("2", FIVE, ("a", 1)),
        ("3", FIVE, ("tie", 0)),
        ("4", FIVE, ("b", 1)),
        ("5", FIVE, ("b", 2)),
        ("1", SEVEN, ("a", 3)),
        ("2", SEVEN, ("a", 2)),
        ("3", SEVEN, ("a", 1)),
        ("4", SEVEN, ("tie", 0)),
        ("5", SEVEN, ("b", 1)),
        ("6", SEVEN, ("b", 2)),
        ("7", SEVEN, ("b", 3)),
        ("a", SEVEN, ("a", 2)),
        ("b", SEVEN, ("b", 2)),
        ("x", SEVEN, ("both_bad", 0)),
    ],
)
def test_swapped_sides_turn_the_winner_and_never_the_strength(key, project, stored):
    """The same place on the scale means the other response, as much better."""
    [choice] = [c for c in verdicts.choices(project) if key in c.keys]
    mirrored = {"a": "b", "b": "a"}
    verdict, strength = stored
    plain = verdicts.stored(choice.shown, project, swapped=False)
    swapped = verdicts.stored(choice.shown, project, swapped=True)
    assert plain == stored
    assert swapped == (mirrored.get(verdict, verdict), strength)
    assert verdicts.as_shown(*plain, swapped=False) == choice.shown
    assert verdicts.as_shown(*swapped, swapped=True) == choice.shown


@pytest.mark.parametrize("project", [FIVE, SEVEN])
def test_a_scale_is_the_same_from_both_ends(project):
    choices = verdicts.choices(project)
    ends = {"left": "right", "right": "left"}
    turned = [(ends.get(c.side, c.side), c.strength) for c in reversed(choices)]
    wins = [(c.side, c.strength) for c in choices if c.strength]
    assert [place for place in turned if place[1]] == wins
    assert len(wins) == project.strength_points - 1


@pytest.mark.parametrize("shown", ["left", "left-3", "left--1", "tie-1", "right-0"])
def test_a_scale_takes_only_its_own_places(shown):
    with pytest.raises(verdicts.UnknownVerdict, match="left-2, left-1, tie"):
        verdicts.stored(shown, FIVE, swapped=False)


def test_the_words_are_those_that_were_pressed():
    assert verdicts.in_words("b", 2, FIVE, swapped=True) == "A is much better"
    assert verdicts.in_words("b", 2, FIVE, swapped=False) == "B is much better"
    # The scale of the project is not the one it was judged on.
    assert verdicts.in_words("b", 3, FIVE, swapped=False) == "B is better"
    assert verdicts.in_words("b", 0, SEVEN, swapped=False) == "B is better"
