"""What whoever imports may choose."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from labelhub.importing.formats import NAMES, TARGETS

PAIRS = ("reviewed", "all", "adjacent", "none")
JUDGE_KINDS = ("human", "model")


class ImportRefused(Exception):
    """Nothing was imported; the sentence says why, and the way out.

    `problems` are the first that the files have, each with its place.
    """

    def __init__(self, sentence: str, problems: Sequence[str] = ()) -> None:
        super().__init__("\n  ".join((sentence, *problems)))
        self.sentence = sentence
        self.problems = list(problems)


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    format: str = "auto"
    """auto, or the name of a format for files that could be several."""
    map: dict[str, str] = field(default_factory=dict)
    """Columns to rename before anything else: {from: to}."""
    judge: str = ""
    """Who judged, where the files do not say."""
    judge_kind: str = ""
    """human or model; '' is what the format says."""
    pairs: str = ""
    """Which responses to a prompt are paired: one of PAIRS or MODEL:MODEL. '' is
    reviewed where the files hold verdicts, else all."""

    def __post_init__(self) -> None:
        _one_of("--format", self.format, ("auto", *NAMES))
        if self.judge_kind:
            _one_of("--judge-kind", self.judge_kind, JUDGE_KINDS)
        if self.pairs and ":" not in self.pairs:
            _one_of("--pairs", self.pairs, PAIRS, "or MODEL:MODEL")
        for column, target in self.map.items():
            _one_of(f"--map {column}={target}: the target", target, TARGETS)
        targets = list(self.map.values())
        for target in targets:
            if targets.count(target) > 1:
                raise ImportRefused(f"--map names the target {target!r} twice.")
        if len(self.judge) > 200:
            raise ImportRefused("--judge is longer than 200 characters.")
        if self.judge_kind == "model" and not self.judge:
            raise ImportRefused("--judge-kind model needs --judge, the model's name.")

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        known = cls.__dataclass_fields__
        return cls(**{name: stored[name] for name in known if name in stored})

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def parse_map(given: Iterable[str]) -> dict[str, str]:
    """`FROM=TO` strings as a mapping."""
    found: dict[str, str] = {}
    for rule in given:
        column, equals, target = (part.strip() for part in rule.rpartition("="))
        if not (equals and column and target):
            raise ImportRefused(f"--map {rule!r} is not FROM=TO.")
        if found.setdefault(column, target) != target:
            raise ImportRefused(f"--map names the column {column!r} twice.")
    return found


def nearest(word: str, words: Iterable[str]) -> str:
    """` Did you mean x or y?`, or nothing."""
    close = difflib.get_close_matches(word, list(words), n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(close)}?" if close else ""


def _one_of(what: str, value: str, known: Iterable[str], more: str = "") -> None:
    if value in known:
        return
    listed = ", ".join(known) + (f" {more}" if more else "")
    raise ImportRefused(
        f"{what} {value!r} is unknown.{nearest(value, known)} Known are: {listed}."
    )
