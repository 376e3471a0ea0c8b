"""Which words two texts do not share, in time that grows with their length.

Words that are in each text just once, in the same order, are matched first; then what
lies between them, in the same way. difflib alone is quadratic: it takes seconds for
two long responses, so it sees only short stretches that are left over.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from difflib import SequenceMatcher
from itertools import groupby
from typing import NamedTuple

MAX_WORDS = 30_000
"""Of both texts together; longer ones are not compared."""
SHORT = 50
"""Stretches of at most so many words are left to difflib."""
ROUNDS = 30
"""How often a word may be looked at before its stretch counts as different."""

_CJK = "\u3040-\u30ff\u3400-\u9fff"
"""Written without spaces: each sign is a word."""
_WORD = re.compile(rf"([{_CJK}]|(?:(?![{_CJK}])\w)+|[^\w\s])(\s*)")


class Part(NamedTuple):
    text: str
    is_only_here: bool


def compare(left: str, right: str) -> tuple[list[Part], list[Part]] | None:
    """Both texts in parts; None if they are too long to be compared."""
    # No text has more words than characters; this is the cheap half of the question.
    a, b = _WORD.findall(left), _WORD.findall(right)
    if len(a) + len(b) > MAX_WORDS:
        return None
    matched = list(_runs([word for word, _ in a], [word for word, _ in b]))
    return (
        _parts(left, a, [(i, n) for i, _, n in matched]),
        _parts(right, b, [(j, n) for _, j, n in matched]),
    )


def _parts(
    text: str, words: list[tuple[str, str]], runs: list[tuple[int, int]]
) -> list[Part]:
    shared = [False] * len(words)
    for start, length in runs:
        shared[start : start + length] = [True] * length
    parts = [Part(text[: len(text) - len(text.lstrip())], False)]
    stretches = groupby(zip(words, shared, strict=True), key=lambda pair: pair[1])
    for is_shared, stretch in stretches:
        written = "".join(word + space for (word, space), _ in stretch)
        # The space behind the last word is nobody's: it would be marked as a bar.
        bare = written.rstrip()
        parts += [Part(bare, not is_shared), Part(written[len(bare) :], False)]
    return [part for part in parts if part.text]


def _runs(a: list[str], b: list[str]) -> Iterator[tuple[int, int, int]]:
    """(place in a, place in b, length) of what is the same, without lone words: two
    texts on one subject share many by chance, and nobody can read such confetti."""
    end_a = end_b = 0
    runs = _joined(sorted(_matches(a, b)))
    for n, (i, j, length) in enumerate(runs):
        after_a, after_b, _ = runs[n + 1] if n + 1 < len(runs) else (len(a), len(b), 0)
        is_between = (i > end_a or j > end_b) and (
            after_a > i + length or after_b > j + length
        )
        end_a, end_b = i + length, j + length
        n_words = sum(word[0].isalnum() for word in a[i : i + length])
        if n_words > 1 or not is_between:
            yield i, j, length


def _joined(matches: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    runs: list[tuple[int, int, int]] = []
    for i, j, length in matches:
        if runs and runs[-1][0] + runs[-1][2] == i and runs[-1][1] + runs[-1][2] == j:
            i, j, length = runs[-1][0], runs[-1][1], runs[-1][2] + length
            runs.pop()
        runs.append((i, j, length))
    return runs


def _matches(a: list[str], b: list[str]) -> Iterator[tuple[int, int, int]]:
    budget = ROUNDS * (len(a) + len(b))
    stretches = [(0, len(a), 0, len(b))]
    while stretches:
        a_from, a_to, b_from, b_to = stretches.pop()
        same = _same_beginning(a, a_from, a_to, b, b_from, b_to)
        if same:
            yield a_from, b_from, same
            a_from, b_from = a_from + same, b_from + same
        if a_from == a_to or b_from == b_to:
            continue
        budget -= a_to - a_from + b_to - b_from
        if budget < 0:
            return
        anchors = _anchors(a, a_from, a_to, b, b_from, b_to)
        if anchors:
            ends = [*anchors[1:], (a_to, b_to)]
            stretches.append((a_from, anchors[0][0], b_from, anchors[0][1]))
            stretches += [
                (i, i_to, j, j_to)
                for (i, j), (i_to, j_to) in zip(anchors, ends, strict=True)
            ]
        elif max(a_to - a_from, b_to - b_from) > SHORT:
            stretches += _cut(a_from, a_to, b_from, b_to)
        else:
            found = SequenceMatcher(None, a[a_from:a_to], b[b_from:b_to], False)
            for i, j, length in found.get_matching_blocks():
                if length:
                    yield a_from + i, b_from + j, length


def _cut(
    a_from: int, a_to: int, b_from: int, b_to: int
) -> list[tuple[int, int, int, int]]:
    """Short stretches, side by side: what repeats itself has no word of its own."""
    n_cuts = max(a_to - a_from, b_to - b_from) // SHORT + 1
    return [
        (
            min(a_from + n * SHORT, a_to),
            min(a_from + (n + 1) * SHORT, a_to),
            min(b_from + n * SHORT, b_to),
            min(b_from + (n + 1) * SHORT, b_to),
        )
        for n in range(n_cuts)
    ]


def _same_beginning(
    a: list[str], a_from: int, a_to: int, b: list[str], b_from: int, b_to: int
) -> int:
    most = min(a_to - a_from, b_to - b_from)
    for n in range(most):
        if a[a_from + n] != b[b_from + n]:
            return n
    return most


def _anchors(
    a: list[str], a_from: int, a_to: int, b: list[str], b_from: int, b_to: int
) -> list[tuple[int, int]]:
    """Places of the words that are once in each, as many as stand in the same order."""
    places_a = _places_of_single_words(a, a_from, a_to)
    places_b = _places_of_single_words(b, b_from, b_to)
    pairs = [(i, places_b[word]) for word, i in places_a.items() if word in places_b]
    return _longest_rising(sorted(pairs))


def _places_of_single_words(words: list[str], start: int, end: int) -> dict[str, int]:
    places: dict[str, int] = {}
    several = set()
    for place in range(start, end):
        if words[place] in places:
            several.add(words[place])
        places[words[place]] = place
    return {word: place for word, place in places.items() if word not in several}


def _longest_rising(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The most pairs whose second numbers rise, too (patience sorting)."""
    tops: list[int] = []
    piles: list[int] = []
    before: list[int] = []
    for n, (_, j) in enumerate(pairs):
        pile = bisect_left(tops, j)
        before.append(piles[pile - 1] if pile else -1)
        tops[pile : pile + 1] = [j]
        piles[pile : pile + 1] = [n]
    rising = []
    at = piles[-1] if piles else -1
    while at >= 0:
        rising.append(pairs[at])
        at = before[at]
    return rising[::-1]
