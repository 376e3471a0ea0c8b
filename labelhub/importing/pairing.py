"""Which responses to one prompt are shown against each other: what --pairs means."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from labelhub.importing.options import ImportRefused, nearest


class Candidate(Protocol):
    """A response, as far as pairing looks at it."""

    @property
    def model(self) -> str: ...
    @property
    def hash(self) -> str: ...


@dataclass(frozen=True)
class Policy:
    """`reviewed` makes no pairs beside those that rows name themselves."""

    kind: str
    models: tuple[str, str] = ("", "")

    @property
    def looks_for_pairs(self) -> bool:
        return self.kind not in ("reviewed", "none")


def policy_of(pairs: str, *, has_verdicts: bool, models: set[str]) -> Policy:
    """The policy that --pairs names, now that it is known what the files hold."""
    if pairs == "reviewed" and not has_verdicts:
        raise ImportRefused(
            "--pairs reviewed takes the pairs that were judged, and the files hold no"
            " verdicts; use all, adjacent or MODEL:MODEL."
        )
    if pairs == "none" and has_verdicts:
        raise ImportRefused(
            "--pairs none would leave the verdicts in the files without a task;"
            " use reviewed."
        )
    if not pairs:
        return Policy("reviewed" if has_verdicts else "all")
    if ":" not in pairs:
        return Policy(pairs)
    return Policy("models", _two_models(pairs, models))


def _two_models(pairs: str, known: set[str]) -> tuple[str, str]:
    """Model names may hold colons, so every colon may be the one between them."""
    parts = pairs.split(":")
    cuts = [(":".join(parts[:n]), ":".join(parts[n:])) for n in range(1, len(parts))]
    for one, other in cuts:
        if one != other and one in known and other in known:
            return one, other
    wrong = next((part for part in cuts[0] if part not in known), cuts[0][0])
    raise ImportRefused(
        f"--pairs {pairs}: there are no responses of {wrong!r} beside another model."
        f"{nearest(wrong, known)} Models are: {', '.join(sorted(known)) or 'none'}."
    )


def pairs_of(
    candidates: Sequence[Candidate], policy: Policy
) -> Iterator[tuple[int, int]]:
    """Positions to pair. Identical responses are among them: who calls counts them."""
    if policy.kind == "all":
        yield from itertools.combinations(range(len(candidates)), 2)
    elif policy.kind == "adjacent":
        yield from itertools.pairwise(range(len(candidates)))
    elif policy.kind == "models":
        one, other = policy.models
        for n, first in enumerate(candidates):
            for m, second in enumerate(candidates):
                if (first.model, second.model) == (one, other):
                    yield (n, m)
