"""The account of a dataset: every row is trained on, or left out for a named reason."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from training.core.errors import RLHFDatasetError

REASONS = {
    "missing_value": "A column that is needed is empty.",
    "malformed_messages": "Messages have unknown roles, or content that is no text.",
    "no_assistant_turn": "There is nothing the assistant says.",
    "empty_completion": "A completion says nothing.",
    "empty_prompt": "The prompt says nothing.",
    "prompt_ends_with_assistant": "The prompt's last turn is the assistant's own.",
    "chosen_equals_rejected": "Chosen and rejected are the same text.",
    "labelled_bad": "The row is labelled bad, and sft would learn to imitate it.",
    "held_out": "The prompt was held out for evaluation.",
    "prompt_in_train": "The prompt is also trained on, so it cannot be held out.",
    "not_drawn": "max_samples was reached.",
    "prompt_too_long": "The prompt alone fills max_length.",
    "too_long": "Prompt and completion are longer than max_length.",
    "equal_after_cut": "Chosen and rejected are the same up to max_length.",
    "nothing_to_learn": "No token of a completion is left up to max_length.",
}

NOTES = {
    "cut": "The completion was cut at max_length, so its end is not learned.",
    "no_end_of_text": "The completion has no end-of-text token: nothing teaches the "
    "model to stop.",
    "contradicted": "Another row has the same pair the other way round.",
}

EXAMPLES = 5


class Ledger:
    """Counts what becomes of the rows of one split.

    >>> ledger = Ledger(3)
    >>> ledger.drop("empty_completion", row=2)
    >>> ledger.kept
    2
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.dropped: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()
        self.examples: defaultdict[str, list[int]] = defaultdict(list)

    @property
    def kept(self) -> int:
        """Rows that no reason has taken out."""
        return self.rows - self.dropped.total()

    def drop(self, reason: str, row: int) -> None:
        """Leave a row out. `row` is its place in the file, from 0."""
        if reason not in REASONS:
            raise KeyError(reason)
        self.dropped[reason] += 1
        if len(self.examples[reason]) < EXAMPLES:
            self.examples[reason].append(row)

    def note(self, remark: str) -> None:
        """Count something about a row that is kept."""
        if remark not in NOTES:
            raise KeyError(remark)
        self.notes[remark] += 1

    def settle(self, trained: int) -> None:
        """Check that the rows that are left are those that the trainer holds.

        Raises:
            RLHFDatasetError: RLHF056; a row has disappeared without a reason.
        """
        if trained != self.kept:
            raise RLHFDatasetError(
                "The trainer holds another number of rows than it was given: some "
                "disappeared without a reason.",
                code="RLHF056",
                context={"given": self.kept, "held": trained},
            )

    def to_dict(self) -> dict[str, Any]:
        """Counts for the result; rows = used + everything under dropped."""
        return {
            "rows": self.rows,
            "used": self.kept,
            "dropped": dict(self.dropped),
            "notes": dict(self.notes),
            "examples": dict(self.examples),
        }

    def describe(self) -> str:
        """One sentence with every count."""
        told = [f"{self.kept} of {self.rows} rows used"]
        told += [f"{count} {reason}" for reason, count in self.dropped.items()]
        told += [f"{count} {remark} (kept)" for remark, count in self.notes.items()]
        return ", ".join(told)
