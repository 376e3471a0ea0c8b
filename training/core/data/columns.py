"""Which column holds what. Detection tells what it took; a mapping overrules."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from training.core.config import RLHFAlgorithm
from training.core.errors import RLHFConfigurationError, RLHFDatasetError


class Kind(StrEnum):
    """The shapes of data that the algorithms take."""

    PREFERENCE = "preference"
    MESSAGES = "messages"
    PROMPT_COMPLETION = "prompt_completion"
    TEXT = "text"


@dataclass(frozen=True)
class Columns:
    """The columns that are read, by our names for them."""

    kind: Kind
    names: Mapping[str, str]
    """Ours to theirs, as in {"prompt": "instruction"}."""

    def cell(self, row: Mapping[str, Any], name: str) -> Any:
        """The value of a column by our name; None where the data has none."""
        return row.get(self.names[name]) if name in self.names else None

    def describe(self) -> str:
        """The rule that matched, for people."""
        told = [
            ours if ours == theirs else f"{ours} (column {theirs})"
            for ours, theirs in self.names.items()
        ]
        return f"{self.kind}: {', '.join(told)}"


# Our names, and what others call the same; the first that is there is taken.
CANDIDATES: dict[str, tuple[str, ...]] = {
    "prompt": ("prompt", "instruction", "question", "query", "input"),
    "context": ("input", "context"),
    "chosen": ("chosen", "preferred", "accepted"),
    "rejected": ("rejected", "dispreferred"),
    "completion": ("completion", "response", "output", "answer"),
    "messages": ("messages", "conversations", "conversation"),
    "text": ("text", "content"),
    "label": ("label", "is_desirable"),
    "margin": ("margin",),
    "prompt_id": ("prompt_id",),
}


def detect_columns(
    available: Sequence[str], mapping: Mapping[str, str], algorithm: RLHFAlgorithm
) -> Columns:
    """Find the columns that an algorithm needs.

    >>> found = detect_columns(["instruction", "output"], {}, RLHFAlgorithm.SFT)
    >>> found.describe()
    'prompt_completion: prompt (column instruction), completion (column output)'

    Raises:
        RLHFDatasetError: RLHF022, where they are not there, with the way out.
        RLHFConfigurationError: RLHF003, where the mapping names an unknown column.
    """
    _check_mapping(available, mapping)
    if algorithm is RLHFAlgorithm.SFT:
        return _sft_columns(available, mapping)
    return _preference_columns(available, mapping, algorithm)


def _sft_columns(available: Sequence[str], mapping: Mapping[str, str]) -> Columns:
    names: dict[str, str] = {
        name: column
        for name in ("messages", "text", "prompt", "completion", "label", "prompt_id")
        if (column := _find(name, available, mapping))
    }
    extra: dict[str, str] = {
        name: names[name] for name in ("label", "prompt_id") if name in names
    }
    # An explicit mapping decides; otherwise whole conversations come first.
    if "completion" in mapping and "prompt" in names:
        order = [Kind.PROMPT_COMPLETION]
    else:
        order = [Kind.MESSAGES, Kind.PROMPT_COMPLETION, Kind.TEXT]
    for kind in order:
        needed = {
            Kind.MESSAGES: ("messages",),
            Kind.PROMPT_COMPLETION: ("prompt", "completion"),
            Kind.TEXT: ("text",),
        }[kind]
        if all(name in names for name in needed):
            found = {name: names[name] for name in needed}
            return Columns(kind, {**found, **_context(found, available), **extra})
    hint = "Map them, as in columns: {prompt: question, completion: reply}."
    if _find("chosen", available, mapping):
        hint = "To train on the chosen side, set columns: {completion: chosen}."
    raise RLHFDatasetError(
        "sft needs messages, or prompt and completion, or text; the data has "
        f"{_listed(available)}. {hint}",
        code="RLHF022",
    )


def _preference_columns(
    available: Sequence[str], mapping: Mapping[str, str], algorithm: RLHFAlgorithm
) -> Columns:
    chosen = _find("chosen", available, mapping)
    rejected = _find("rejected", available, mapping)
    if chosen is None or rejected is None:
        raise RLHFDatasetError(
            f"{algorithm} needs chosen and rejected; the data has "
            f"{_listed(available)}. Map them, as in "
            "columns: {chosen: better, rejected: worse}.",
            code="RLHF022",
        )
    found = {"chosen": chosen, "rejected": rejected}
    prompt = _find("prompt", available, mapping) or _find(
        "messages", available, mapping
    )
    if prompt:
        found = {"prompt": prompt, **found, **_context({"prompt": prompt}, available)}
    optional = ["prompt_id"]
    if algorithm is RLHFAlgorithm.REWARD_MODEL:
        optional.append("margin")
    for name in optional:
        if column := _find(name, available, mapping):
            found[name] = column
    return Columns(Kind.PREFERENCE, found)


def _context(found: Mapping[str, str], available: Sequence[str]) -> dict[str, str]:
    """Alpaca's second half of the prompt, which stands in a column of its own."""
    if found.get("prompt") != "instruction":
        return {}
    column = _find("context", available, {})
    return {"context": column} if column else {}


def _find(
    name: str, available: Sequence[str], mapping: Mapping[str, str]
) -> str | None:
    if name in mapping:
        return mapping[name]
    return next((column for column in CANDIDATES[name] if column in available), None)


def _check_mapping(available: Sequence[str], mapping: Mapping[str, str]) -> None:
    for ours, theirs in mapping.items():
        if ours not in CANDIDATES:
            nearest = difflib.get_close_matches(ours, CANDIDATES, n=1)
            meant = f"did you mean {nearest[0]}?" if nearest else _listed(CANDIDATES)
            raise RLHFConfigurationError(
                f"columns.{ours} is not a column that is read: {meant}", code="RLHF003"
            )
        if theirs not in available:
            raise RLHFDatasetError(
                f"columns maps {ours} to {theirs}, which the data does not have; it "
                f"has {_listed(available)}.",
                code="RLHF022",
            )


def _listed(names: Sequence[str] | Mapping[str, object]) -> str:
    return ", ".join(names) or "no columns"
