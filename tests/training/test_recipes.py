from __future__ import annotations

import random
from collections import Counter

import pytest

from training.core.choices import RLHFAlgorithm
from training.recipes import (
    REASONS,
    SHAPES,
    Draft,
    Ledger,
    Recipe,
    RecipeError,
    decide,
    drafts,
)


def recipe(algorithm="dpo", **fields) -> Recipe:
    return Recipe(algorithm=algorithm, **fields)


def verdict_of(votes: str, **fields):
    """The outcome of `a a b`-like human votes."""
    return decide({"human": Counter(votes.split())}, recipe(**fields))


@pytest.mark.parametrize(
    ("algorithm", "verdict", "rows"),
    [
        ("dpo", "a", [("a", "b", None)]),
        ("dpo", "b", [("b", "a", None)]),
        ("dpo", "tie", []),
        ("dpo", "both_bad", []),
        ("kto", "a", [("a", "", True), ("b", "", False)]),
        ("kto", "b", [("b", "", True), ("a", "", False)]),
        ("kto", "tie", []),
        ("kto", "both_bad", [("a", "", False), ("b", "", False)]),
        ("kto", "good", [("a", "", True)]),
        ("kto", "bad", [("a", "", False)]),
        ("sft", "a", [("a", "", None)]),
        ("sft", "b", [("b", "", None)]),
        ("sft", "tie", []),
        ("sft", "both_bad", []),
        ("sft", "good", [("a", "", None)]),
        ("sft", "bad", []),
    ],
)
def test_the_verdict_table(algorithm, verdict, rows):
    assert drafts(verdict, recipe(algorithm)) == tuple(Draft(*row) for row in rows)


@pytest.mark.parametrize("algorithm", ["reward_model", "ipo", "orpo"])
@pytest.mark.parametrize("verdict", ["a", "b", "tie", "both_bad"])
def test_every_pair_trainer_gets_what_dpo_gets(algorithm, verdict):
    assert drafts(verdict, recipe(algorithm)) == drafts(verdict, recipe("dpo"))


def test_a_tie_makes_two_good_rows_where_asked():
    found = drafts("tie", recipe("kto", ties="both_good"))
    assert found == (Draft("a", label=True), Draft("b", label=True))


def test_every_algorithm_has_a_shape():
    assert set(SHAPES) == set(RLHFAlgorithm)


@pytest.mark.parametrize(
    ("votes", "verdict", "votes_for", "votes_against"),
    [
        ("a", "a", 1, 0),
        ("a a b", "a", 2, 1),
        ("b b tie", "b", 2, 0),
        ("a b b b both_bad", "b", 3, 1),
    ],
)
def test_more_than_half_of_the_votes_decide(votes, verdict, votes_for, votes_against):
    found = verdict_of(votes)
    assert found.reason == ""
    assert (found.verdict, found.votes_for, found.votes_against) == (
        *(verdict, votes_for),
        votes_against,
    )
    assert found.n_votes == len(votes.split())


@pytest.mark.parametrize("votes", ["a b", "a a b b", "a a b tie", "a b tie"])
def test_half_of_the_votes_do_not_decide(votes):
    assert verdict_of(votes).reason == "no_majority"


@pytest.mark.parametrize("votes", ["tie", "tie tie a", "both_bad"])
def test_what_makes_no_pair_is_named(votes):
    assert verdict_of(votes).reason == votes.split()[0]


def test_too_few_votes_are_named():
    assert verdict_of("a a", min_votes=3).reason == "min_votes"
    assert verdict_of("a a a", min_votes=3).verdict == "a"


def test_people_here_are_heard_before_all_others():
    everybody = {
        "model": {"b": 5},
        "feedback": {"tie": 5},
        "imported": {"both_bad": 5},
        "human": {"a": 1},
    }
    judges = ("model", "feedback", "imported", "human")
    heard = []
    while judges:
        found = decide(everybody, recipe(judges=judges))
        heard.append((found.source, found.verdict))
        judges = tuple(judge for judge in judges if judge != found.source)
    assert heard == [
        ("human", "a"),
        ("imported", "both_bad"),
        ("feedback", "tie"),
        ("model", "b"),
    ]


def test_a_split_jury_of_people_is_not_overruled_by_others():
    found = decide({"human": {"a": 1, "b": 1}, "imported": {"a": 9}}, recipe())
    assert (found.source, found.reason) == ("human", "no_majority")


def test_models_are_heard_only_when_asked():
    assert decide({"model": {"a": 1}}, recipe()).reason == "judges"
    assert decide({"model": {"a": 1}}, recipe(judges=("model",))).verdict == "a"


def test_repeats_and_retired_tasks_make_no_row():
    votes = {"human": {"a": 3}}
    assert decide(votes, recipe(), repeat=True).reason == "repeat"
    assert decide(votes, recipe(), retired=True).reason == "retired"


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"algorithm": "dpoo"}, "for is 'dpoo'; it is one of: ppo, dpo"),
        ({"judges": ("human", "gpt")}, "judges is 'gpt'; it is one of: human"),
        ({"judges": ()}, "judges is empty"),
        ({"ties": "coin"}, "ties is 'coin'; it is one of: drop, both_good"),
        ({"ties": "both_good"}, "use ties=drop, or make the dataset for kto"),
        ({"min_votes": 0}, "min_votes is 0; it is at least 1"),
        ({"eval_share": 0.95}, "eval_share is 0.95"),
        ({"eval_share": -0.1}, "eval_share is -0.1"),
        ({"eval_share": float("nan")}, "eval_share is nan"),
    ],
)
def test_it_refuses_what_cannot_be_followed(fields, sentence):
    with pytest.raises(RecipeError, match=sentence):
        recipe(**fields)


@pytest.mark.parametrize("algorithm", ["dpo", "ipo", "orpo", "reward"])
def test_good_and_bad_make_no_pairs(algorithm):
    with pytest.raises(RecipeError, match="make the dataset for kto or sft"):
        recipe(algorithm).check_fits("binary")
    recipe(algorithm).check_fits("pairwise")
    recipe("kto").check_fits("binary")


def test_reward_is_another_word_for_reward_model():
    assert recipe("reward") == recipe("reward_model")


def test_a_recipe_comes_back_from_its_dict():
    written = recipe("kto", judges=("model", "human"), ties="both_good", seed=7)
    assert Recipe.from_dict(written.as_dict()) == written
    assert written.as_dict()["judges"] == ["human", "model"]


def test_a_recipe_of_another_version_is_refused():
    with pytest.raises(RecipeError, match="version 2"):
        Recipe.from_dict(recipe().as_dict() | {"version": 2})


def test_any_jury_is_exported_or_left_out_for_a_known_reason():
    chance = random.Random(11)
    for _ in range(3000):
        cells = ("a", "b", "tie", "both_bad", "good", "bad")
        tallies = {
            source: {cell: chance.randrange(4) for cell in chance.sample(cells, 2)}
            for source in chance.sample(["human", "imported", "feedback", "model"], 2)
        }
        asked = recipe(chance.choice(list(SHAPES)), min_votes=chance.choice([1, 1, 3]))
        found = decide(tallies, asked)
        if found.reason:
            assert found.reason in REASONS
        else:
            assert drafts(found.verdict, asked)


def test_a_ledger_that_does_not_add_up_is_an_error():
    Ledger(judged=3, exported=1, left_out=Counter(tie=2)).check()
    with pytest.raises(AssertionError, match="does not add up"):
        Ledger(judged=3, exported=1, left_out=Counter(tie=1)).check()


def test_a_ledger_comes_back_from_its_dict():
    ledger = Ledger(judged=3, exported=1, left_out=Counter(tie=2), rows=2)
    assert Ledger.from_dict(ledger.as_dict()) == ledger
