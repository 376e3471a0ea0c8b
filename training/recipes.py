"""Verdicts to the rows a trainer wants, with a ledger of what was left out and why.

Pure functions and values; `training.tallying` brings the judgments.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any, NamedTuple, Self, TypeVar

from labelhub.models import Judgment
from training.core.choices import RLHFAlgorithm

VERSION = 1
"""Grows when the same judgments and recipe would give other rows."""

Source = Judgment.Source
Verdict = Judgment.Verdict
Choice = TypeVar("Choice", bound=Enum)

PRECEDENCE = (Source.HUMAN, Source.IMPORTED, Source.FEEDBACK, Source.MODEL)
"""A task takes its verdict from the first of these that judged it."""


class Shape(StrEnum):
    """What a row is. One snapshot serves every algorithm of its shape."""

    PAIRS = "pairs"
    LABELS = "labels"
    COMPLETIONS = "completions"
    PROMPTS = "prompts"


class Margins(StrEnum):
    """Where the margin comes from by which a reward model should tell a pair apart."""

    NONE = "none"
    STRENGTH = "strength"


class Ties(StrEnum):
    """What a tie makes."""

    DROP = "drop"
    BOTH_GOOD = "both_good"


SHAPES = {
    RLHFAlgorithm.SFT: Shape.COMPLETIONS,
    RLHFAlgorithm.REWARD_MODEL: Shape.PAIRS,
    RLHFAlgorithm.DPO: Shape.PAIRS,
    RLHFAlgorithm.IPO: Shape.PAIRS,
    RLHFAlgorithm.ORPO: Shape.PAIRS,
    RLHFAlgorithm.KTO: Shape.LABELS,
    RLHFAlgorithm.PPO: Shape.PROMPTS,
}


def usual_algorithm(kind: str) -> RLHFAlgorithm:
    """What the verdicts of a project of this kind are mostly collected for."""
    return RLHFAlgorithm.DPO if kind == "pairwise" else RLHFAlgorithm.KTO


REASONS = {
    "repeat": "shown a second time, to measure consistency",
    "retired": "retired from the project",
    "judges": "judged only by sources that were not asked for",
    "min_votes": "fewer votes than asked for",
    "no_majority": "no verdict has more than half of the votes",
    "tie": "tie",
    "both_bad": "both bad",
    "bad": "judged bad: nothing to imitate",
    "good": "judged good, with no other response to compare",
    "min_strength": "a weaker preference than asked for, or of no known strength",
}
"""Why a judged task makes no row, in the order in which it is asked."""

_WON = (Verdict.A, Verdict.B)
OPPOSITE = {
    Verdict.A: Verdict.B,
    Verdict.B: Verdict.A,
    Verdict.GOOD: Verdict.BAD,
    Verdict.BAD: Verdict.GOOD,
}


class RecipeError(ValueError):
    """A recipe that cannot be followed; the message is one sentence for a person."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides which rows the same judgments become."""

    algorithm: RLHFAlgorithm
    judges: tuple[str, ...] = (Source.HUMAN, Source.IMPORTED, Source.FEEDBACK)
    """The sources that are heard, kept in the order of PRECEDENCE."""
    ties: Ties = Ties.DROP
    min_votes: int = 1
    min_strength: int = 0
    """How strong a preference is at least, on average over those who share it."""
    margins: Margins = Margins.NONE
    eval_share: float = 0.1
    """Share of the prompts whose rows are kept for evaluation."""
    seed: int = 0
    """Decides the order of the rows and which prompts are kept for evaluation."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "algorithm", _algorithm(self.algorithm))
        object.__setattr__(self, "ties", _one_of(Ties, self.ties, "ties"))
        object.__setattr__(self, "margins", _one_of(Margins, self.margins, "margins"))
        judges = {_one_of(Source, judge, "judges") for judge in self.judges}
        if not judges:
            raise RecipeError("judges is empty: name at least one source.")
        ordered = tuple(source.value for source in PRECEDENCE if source in judges)
        object.__setattr__(self, "judges", ordered)
        if self.ties is Ties.BOTH_GOOD and self.shape is not Shape.LABELS:
            raise RecipeError(
                f"ties=both_good makes two good rows of a tie, which {self.algorithm} "
                "has no use for: use ties=drop, or make the dataset for kto."
            )
        if self.min_votes < 1:
            raise RecipeError(f"min_votes is {self.min_votes}; it is at least 1.")
        if not 0 <= self.min_strength <= 3:
            raise RecipeError(
                f"min_strength is {self.min_strength}; it is between 0 and 3."
            )
        if self.margins is Margins.STRENGTH and self.shape is not Shape.PAIRS:
            raise RecipeError(
                f"margins=strength is for the pairs of a reward_model; "
                f"{self.algorithm} learns from no pairs."
            )
        if not 0 <= self.eval_share <= 0.9:
            raise RecipeError(
                f"eval_share is {self.eval_share}; it is a share of the prompts "
                "between 0 and 0.9."
            )

    @property
    def shape(self) -> Shape:
        return SHAPES[self.algorithm]

    def as_dict(self) -> dict[str, Any]:
        """Fit for JSON; `from_dict` is the way back."""
        return {
            "for": self.algorithm.value,
            "shape": self.shape.value,
            "judges": list(self.judges),
            "ties": self.ties.value,
            "min_votes": self.min_votes,
            "min_strength": self.min_strength,
            "margins": self.margins.value,
            "eval_share": self.eval_share,
            "seed": self.seed,
            "version": VERSION,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        if values["version"] != VERSION:
            raise RecipeError(
                f"The recipe is of version {values['version']}, and this LabelHub "
                f"follows version {VERSION}: freeze with a new one."
            )
        return cls(
            algorithm=values["for"],
            judges=tuple(values["judges"]),
            ties=values["ties"],
            min_votes=values["min_votes"],
            # Not in the recipes of old.
            min_strength=values.get("min_strength", 0),
            margins=values.get("margins", Margins.NONE),
            eval_share=values["eval_share"],
            seed=values["seed"],
        )

    def n_eval_prompts(self, n_prompts: int) -> int:
        """How many of these prompts are kept for evaluation, never all of them.

        >>> recipe = Recipe(algorithm="dpo", eval_share=0.1)
        >>> [recipe.n_eval_prompts(n) for n in (1, 2, 80, 84, 86)]
        [0, 1, 8, 8, 9]
        """
        if not self.eval_share or n_prompts < 2:
            return 0
        return min(n_prompts - 1, max(1, round(self.eval_share * n_prompts)))

    def check_fits(self, kind: str) -> None:
        """Refuse what the verdicts of a project of this kind cannot become."""
        if kind == "binary" and self.shape is Shape.PAIRS:
            raise RecipeError(
                f"{self.algorithm} learns from pairs, and this project judges single "
                "responses good or bad: make the dataset for kto or sft."
            )


def _algorithm(name: str) -> RLHFAlgorithm:
    if name == "reward":
        return RLHFAlgorithm.REWARD_MODEL
    return _one_of(RLHFAlgorithm, name, "for")


def _one_of(choices: type[Choice], value: str, name: str) -> Choice:
    try:
        return choices(value)
    except ValueError:
        known = ", ".join(str(choice.value) for choice in choices)
        raise RecipeError(f"{name} is {value!r}; it is one of: {known}.") from None


@dataclass(frozen=True)
class Outcome:
    """What became of one judged task: a verdict, or the reason why not."""

    reason: str = ""
    """A key of REASONS, or empty."""
    source: str = ""
    verdict: str = ""
    votes_for: int = 0
    votes_against: int = 0
    """Votes for the opposite verdict; ties are neither for nor against."""
    n_votes: int = 0
    strength: float | None = None
    """How much better the winner is: the mean over the votes for it, None if no one
    was asked."""


Tallies = Mapping[str, Mapping[str, int]]
"""{source: {verdict: votes}} of one task; or the sum of the strengths they name."""


def decide(
    tallies: Tallies,
    recipe: Recipe,
    strengths: Tallies | None = None,
    *,
    retired: bool = False,
    repeat: bool = False,
) -> Outcome:
    """The verdict of one task: that of more than half of the votes of one source.

    >>> recipe = Recipe(algorithm="dpo", judges=["human", "model"])
    >>> decide({"human": {"a": 2, "b": 1}, "model": {"b": 1}}, recipe).verdict
    'a'
    >>> decide({"human": {"a": 1, "b": 1}}, recipe).reason
    'no_majority'
    """
    if repeat:
        return Outcome(reason="repeat")
    if retired:
        return Outcome(reason="retired")
    source = next((judge for judge in recipe.judges if tallies.get(judge)), "")
    if not source:
        return Outcome(reason="judges")
    votes = tallies[source]
    n_votes = sum(votes.values())
    if n_votes < recipe.min_votes:
        return Outcome(reason="min_votes", source=source, n_votes=n_votes)
    if recipe.shape is Shape.PROMPTS:
        return Outcome(source=source, n_votes=n_votes)
    verdict, votes_for = max(votes.items(), key=lambda item: item[1])
    if 2 * votes_for <= n_votes:
        return Outcome(reason="no_majority", source=source, n_votes=n_votes)
    named = (strengths or {}).get(source, {}).get(verdict, 0)
    strength = named / votes_for if named else None
    reason = "" if drafts(verdict, recipe) else verdict
    if not reason and verdict in _WON and (strength or 0) < recipe.min_strength:
        reason = "min_strength"
    return Outcome(
        reason=reason,
        source=source,
        verdict=verdict,
        votes_for=votes_for,
        votes_against=votes.get(OPPOSITE.get(Verdict(verdict), ""), 0),
        n_votes=n_votes,
        strength=strength,
    )


class Draft(NamedTuple):
    """One row to be, in the task's own words: `a` and `b` are its responses."""

    first: str = ""
    """What is chosen, or the completion."""
    second: str = ""
    """What is rejected."""
    label: bool | None = None


_DRAFTS: dict[Shape, dict[str, tuple[Draft, ...]]] = {
    Shape.PAIRS: {"a": (Draft("a", "b"),), "b": (Draft("b", "a"),)},
    Shape.LABELS: {
        "a": (Draft("a", label=True), Draft("b", label=False)),
        "b": (Draft("b", label=True), Draft("a", label=False)),
        "both_bad": (Draft("a", label=False), Draft("b", label=False)),
        "good": (Draft("a", label=True),),
        "bad": (Draft("a", label=False),),
    },
    Shape.COMPLETIONS: {"a": (Draft("a"),), "b": (Draft("b"),), "good": (Draft("a"),)},
}


def drafts(verdict: str, recipe: Recipe) -> tuple[Draft, ...]:
    """The rows that a verdict makes; none for one that the algorithm cannot use."""
    if recipe.shape is Shape.PROMPTS:
        return (Draft(),)
    if verdict == Verdict.TIE and recipe.ties is Ties.BOTH_GOOD:
        return (Draft("a", label=True), Draft("b", label=True))
    return _DRAFTS[recipe.shape].get(verdict, ())


@dataclass
class Ledger:
    """Every judged task is accounted for: exported, or left out for one reason."""

    judged: int = 0
    exported: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    rows: int | None = 0
    """None where only the freeze itself can tell."""
    demonstrations: int = 0
    """Rows that stand beside the judged tasks: nobody had to judge them."""

    @property
    def difference(self) -> int:
        return self.judged - self.exported - self.left_out.total()

    def check(self) -> None:
        if self.difference:
            raise AssertionError(
                f"The ledger does not add up: {self.judged} judged tasks, "
                f"{self.exported} exported, {self.left_out.total()} left out."
            )

    def lines(self) -> list[tuple[str, str, int]]:
        """(key, what it means, tasks) of every reason that left something out."""
        return [
            (reason, text, self.left_out[reason])
            for reason, text in REASONS.items()
            if self.left_out[reason]
        ]

    def as_dict(self) -> dict[str, Any]:
        return {
            "judged": self.judged,
            "exported": self.exported,
            "left_out": {reason: n for reason, _, n in self.lines()},
            "rows": self.rows,
            "demonstrations": self.demonstrations,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        return cls(**{**values, "left_out": Counter(values["left_out"])})


def explain_no_rows(ledger: Ledger, recipe: Recipe) -> str:
    """Why a dataset would be empty, and the way out, in one sentence."""
    if not ledger.judged:
        return "Nothing has been judged yet, so there is nothing to freeze."
    reason, count = ledger.left_out.most_common(1)[0]
    why = f"{count} of {ledger.judged} judged tasks: {REASONS[reason]}"
    way_out = {
        "judges": "name more judges: " + ", ".join(s.value for s in PRECEDENCE),
        "min_votes": f"ask for fewer than {recipe.min_votes}",
        "min_strength": f"ask for less than {recipe.min_strength}",
        "no_majority": "have them judged once more",
    }.get(reason, "judge more tasks")
    return f"Not one row for {recipe.algorithm} can be made ({why}): {way_out}."
