"""What moves verdicts without being quality: length, and the side a response was on."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from itertools import groupby

from labelhub.quality.estimate import Estimate, share

Hit = tuple[Hashable, bool]
"""A prompt, and whether the longer (or left) response won there once."""
NO_LENGTH = "No decided pair has responses of different length."
NO_SIDE = "No judgment names a winner and the side it was shown on."


def length_bias(wins: Iterable[Hit]) -> Estimate:
    """How often the longer response won, of decided pairs whose lengths differ.

    0.5 is no preference. Hits of one prompt follow each other.

    >>> length_bias([(1, True), (2, True), (3, False)]).n
    3
    """
    return _share_of(wins, NO_LENGTH)


def position_bias(wins: Iterable[Hit]) -> Estimate:
    """How often the response shown on the left won, of judgments that name a winner.

    0.5 is no preference, since sides are drawn at random. Hits of one prompt follow
    each other.
    """
    return _share_of(wins, NO_SIDE)


def _share_of(hits: Iterable[Hit], nothing: str) -> Estimate:
    by_prompt = groupby(hits, key=lambda hit: hit[0])
    outcomes = ([won for _, won in group] for _, group in by_prompt)
    return share(((sum(won), len(won)) for won in outcomes), nothing)
