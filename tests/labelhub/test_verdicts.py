from __future__ import annotations

import pytest

from labelhub import verdicts
from labelhub.models import Project

PAIRWISE = Project(kind="pairwise")
BINARY = Project(kind="binary")


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
    assert verdicts.stored(shown, PAIRWISE, swapped=swapped) == stored
    assert verdicts.as_shown(stored, swapped=swapped) == shown


@pytest.mark.parametrize("shown", ["good", "bad"])
def test_binary_verdicts_have_no_sides(shown):
    assert verdicts.stored(shown, BINARY, swapped=False) == shown
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


@pytest.mark.parametrize("project", [PAIRWISE, BINARY])
def test_no_key_presses_two_verdicts(project):
    keys = [key for choice in verdicts.choices(project) for key in choice.keys]
    assert len(keys) == len(set(keys))
