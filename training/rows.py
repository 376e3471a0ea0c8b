"""What a freeze handles: the votes on a task, its facts, and the rows to be."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

from training.recipes import PRECEDENCE


class Votes(NamedTuple):
    """Who said what of a task, as the scratch file lists it, without surplus votes."""

    prompt: int
    task: int
    said: str
    """`human a 2,human tie,model a`: source and verdict of each, and its strength."""
    ids: str
    """`7,8,12`: the judgments that said it."""


class Facts(NamedTuple):
    """What never changes about a task, without its texts."""

    task: int
    status: str
    repeat_of: int | None
    prompt_hash: str
    a: int
    b: int | None
    a_hash: str
    b_hash: str | None
    a_model: str
    b_model: str | None
    a_length: int
    b_length: int | None


class Row(NamedTuple):
    """A row to be: `first` is chosen or completes, `second` is rejected."""

    prompt: int
    prompt_hash: str
    first: int | None = None
    first_hash: str = ""
    second: int | None = None
    second_hash: str = ""
    label: bool | None = None
    tasks: str = ""
    judgments: str = ""
    """Ids, with commas between them."""
    votes_for: int = 0
    votes_against: int = 0
    n_votes: int = 0
    source: str = ""
    strength: float | None = None

    def key(self, seed: int) -> bytes:
        """Where the row stands: shuffled by the seed, blind to database ids."""
        parts: list[Any] = [
            *(seed, self.prompt_hash, self.first_hash, self.second_hash, self.label),
            *(self.votes_for, self.votes_against, self.n_votes, self.source),
        ]
        if self.strength is not None:
            parts.append(self.strength)
        return hashlib.sha256(repr(parts).encode()).digest()

    def joined(self, other: Row) -> Row:
        """One row for what both teach: the same response to the same prompt."""
        return self._replace(
            tasks=f"{self.tasks},{other.tasks}",
            judgments=f"{self.judgments},{other.judgments}",
            votes_for=self.votes_for + other.votes_for,
            votes_against=self.votes_against + other.votes_against,
            n_votes=self.n_votes + other.n_votes,
            source=min(self.source, other.source, key=PRECEDENCE.index),
        )
