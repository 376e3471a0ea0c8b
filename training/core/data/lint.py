"""Rows as they were found to rows that can be trained on; the rest goes to the ledger.

Everything here looks at text. What depends on tokens is in tokens.py.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from training.core.data.columns import Columns, Kind
from training.core.data.ledger import Ledger
from training.core.data.loaders import Row
from training.core.data.text import (
    Message,
    Text,
    as_messages,
    is_blank,
    is_conversation,
    split_shared_prompt,
    text_key,
)
from training.core.errors import RLHFDatasetError


@dataclass(frozen=True)
class Preference:
    """One pair: two completions of a prompt, the better one first."""

    number: int
    """The row's place in its file, from 0."""
    group: str
    """Equal for rows with the same prompt."""
    prompt: Text
    chosen: Text
    rejected: Text
    margin: float | None = None


@dataclass(frozen=True)
class Demonstration:
    """One text to imitate. With a prompt, only the completion is learned; messages
    without one are learned wherever the assistant speaks."""

    number: int
    group: str
    prompt: Text | None
    completion: Text


class _Numbered(Protocol):
    @property
    def number(self) -> int: ...
    @property
    def group(self) -> str: ...


AnyRow = TypeVar("AnyRow", bound=_Numbered)


class _Unusable(Exception):
    """A row cannot be used; the argument is the ledger's reason."""


def preferences(
    rows: Sequence[Row], columns: Columns, ledger: Ledger, *, has_template: bool
) -> list[Preference]:
    """The pairs that can be compared, all plain or all conversations.

    Plain texts in a prompt column become one user and one assistant message where the
    tokenizer has a chat template: "2 + 2?4" is a text that no model meets. Whole plain
    conversations (no prompt column) are left as they are.
    """
    conversational = _conversational(rows, columns, ("prompt", "chosen", "rejected"))
    conversational = conversational or (has_template and "prompt" in columns.names)
    kept = []
    seen: set[tuple[str, str, str]] = set()
    for number, row in enumerate(rows):
        try:
            pair = _preference(number, row, columns, conversational)
        except _Unusable as reason:
            ledger.drop(str(reason), number)
            continue
        better, worse = text_key(pair.chosen), text_key(pair.rejected)
        if (pair.group, worse, better) in seen:
            ledger.note("contradicted")
        seen.add((pair.group, better, worse))
        kept.append(pair)
    return kept


def _preference(
    number: int, row: Row, columns: Columns, conversational: bool
) -> Preference:
    prompt = _prompt(row, columns)
    chosen, rejected = columns.cell(row, "chosen"), columns.cell(row, "rejected")
    if chosen is None or rejected is None or ("prompt" in columns.names and not prompt):
        raise _Unusable("missing_value")
    if conversational:
        chosen = _messages(chosen, "assistant")
        rejected = _messages(rejected, "assistant")
        # Some sets repeat the prompt inside both sides, beside a column for it.
        if all(side and side[0]["role"] != "assistant" for side in (chosen, rejected)):
            prompt, chosen, rejected = split_shared_prompt(chosen, rejected)
        else:
            prompt = _messages(prompt or "", "user")
    elif not isinstance(chosen, str) or not isinstance(rejected, str):
        raise _Unusable("malformed_messages")
    elif prompt is None:
        prompt, chosen, rejected = split_shared_prompt(chosen, rejected)
    if chosen == rejected:
        raise _Unusable("chosen_equals_rejected")
    _check_sides(prompt, chosen, rejected)
    margin = columns.cell(row, "margin")
    group = columns.cell(row, "prompt_id")
    return Preference(
        number,
        text_key(prompt) if group is None else str(group),
        prompt,
        chosen,
        rejected,
        None if margin is None else float(margin),
    )


def demonstrations(
    rows: Sequence[Row], columns: Columns, ledger: Ledger, *, has_template: bool
) -> list[Demonstration]:
    """The texts that can be imitated, all plain or all conversations.

    Raises:
        RLHFDatasetError: RLHF025, where a label says neither good nor bad.
    """
    conversational = columns.kind is Kind.MESSAGES or (
        columns.kind is Kind.PROMPT_COMPLETION
        and (has_template or _conversational(rows, columns, ("prompt", "completion")))
    )
    kept = []
    for number, row in enumerate(rows):
        try:
            if "label" in columns.names and not _is_good(row, columns, number):
                raise _Unusable("labelled_bad")
            kept.append(_demonstration(number, row, columns, conversational))
        except _Unusable as reason:
            ledger.drop(str(reason), number)
    return kept


def _demonstration(
    number: int, row: Row, columns: Columns, conversational: bool
) -> Demonstration:
    prompt: Text | None = None
    if columns.kind is Kind.MESSAGES:
        value = columns.cell(row, "messages")
        if value is None:
            raise _Unusable("missing_value")
        messages = _messages(value, "user")
        completion: Text = messages
        group = text_key([m for m in messages if m["role"] != "assistant"])
    elif columns.kind is Kind.TEXT:
        completion = _plain(columns.cell(row, "text"))
        group = completion
    else:
        prompt, completion = _prompt(row, columns), columns.cell(row, "completion")
        if prompt is None or completion is None:
            raise _Unusable("missing_value")
        if conversational:
            prompt = _messages(prompt, "user")
            completion = _messages(completion, "assistant")
            # The completion may repeat the whole conversation.
            if completion[: len(prompt)] == prompt:
                completion = completion[len(prompt) :]
        else:
            prompt, completion = _plain(prompt), _plain(completion)
        group = text_key(prompt)
    if isinstance(completion, list):
        said = [m["content"] for m in completion if m["role"] == "assistant"]
        if not said:
            raise _Unusable("no_assistant_turn")
        if not any(content.strip() for content in said):
            raise _Unusable("empty_completion")
    if is_blank(completion):
        raise _Unusable("empty_completion")
    prompt_id = columns.cell(row, "prompt_id")
    return Demonstration(
        number, group if prompt_id is None else str(prompt_id), prompt, completion
    )


def hold_out(
    rows: Sequence[AnyRow], share: float, seed: int
) -> tuple[list[AnyRow], list[AnyRow]]:
    """Split by prompt: rows to train on, and rows to hold out.

    Which prompts are held out depends on the seed and the prompts alone, not on their
    order. At least one prompt stays on each side where there are two.
    """
    groups = sorted({row.group for row in rows}, key=lambda group: _rank(group, seed))
    count = min(max(1, math.ceil(share * len(groups))), len(groups) - 1)
    out = set(groups[:count]) if share else set()
    return (
        [row for row in rows if row.group not in out],
        [row for row in rows if row.group in out],
    )


def draw(
    rows: Sequence[AnyRow], limit: int | None, seed: int, ledger: Ledger
) -> list[AnyRow]:
    """At most `limit` rows, drawn with the seed; their order is kept."""
    if limit is None or len(rows) <= limit:
        return list(rows)
    drawn = set(random.Random(seed).sample(range(len(rows)), limit))  # noqa: S311
    for place, row in enumerate(rows):
        if place not in drawn:
            ledger.drop("not_drawn", row.number)
    return [row for place, row in enumerate(rows) if place in drawn]


def _rank(group: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\0{group}".encode(errors="replace")).digest()


def _conversational(
    rows: Sequence[Row], columns: Columns, names: tuple[str, ...]
) -> bool:
    return any(
        is_conversation(columns.cell(row, name)) for row in rows for name in names
    )


def _prompt(row: Row, columns: Columns) -> Any:
    prompt, context = columns.cell(row, "prompt"), columns.cell(row, "context")
    if isinstance(prompt, str) and isinstance(context, str) and context.strip():
        return f"{prompt}\n\n{context}"
    return prompt


def _check_sides(prompt: Text, chosen: Text, rejected: Text) -> None:
    if is_blank(chosen) or is_blank(rejected):
        raise _Unusable("empty_completion")
    if is_blank(prompt):
        raise _Unusable("empty_prompt")
    if isinstance(prompt, list) and prompt[-1]["role"] == "assistant":
        raise _Unusable("prompt_ends_with_assistant")
    for side in (chosen, rejected):
        if isinstance(side, list) and side[-1]["role"] != "assistant":
            raise _Unusable("no_assistant_turn")


def _messages(value: Any, role: str) -> list[Message]:
    try:
        return as_messages(value, role)
    except ValueError as error:
        raise _Unusable("malformed_messages") from error


def _plain(value: Any) -> str:
    if value is None:
        raise _Unusable("missing_value")
    if not isinstance(value, str):
        raise _Unusable("malformed_messages")
    return value


_LABELS = {"true": True, "1": True, "good": True, "yes": True} | {
    "false": False,
    "0": False,
    "bad": False,
    "no": False,
}


def _is_good(row: Row, columns: Columns, number: int) -> bool:
    label = columns.cell(row, "label")
    key = str(int(label) if isinstance(label, bool | int) else label).strip().lower()
    if key not in _LABELS:
        raise RLHFDatasetError(
            f"Row {number} has {label!r} under {columns.names['label']}, which says "
            "neither good nor bad: use true and false.",
            code="RLHF025",
        )
    return _LABELS[key]
