"""What one row of a file says, in LabelHub's words, and the checks of its values."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

Row = dict[str, Any]
Messages = list[dict[str, str]]

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
}
VERDICTS = {
    "a": ("a", "model_a", "response_a"),
    "b": ("b", "model_b", "response_b"),
    "tie": ("tie", "equal", "draw"),
    "both_bad": ("both_bad", "both bad", "bothbad", "tie (bothbad)"),
    "good": ("good", "true", "1", "1.0", "yes"),
    "bad": ("bad", "false", "0", "0.0", "no"),
}
_VERDICT_OF = {word: verdict for verdict, words in VERDICTS.items() for word in words}
_MIRRORED = {"a": "b", "b": "a"}


class Problem(Exception):
    """The row cannot be what it should be; nothing of the import is written."""


class LeftOut(Exception):
    """The row is understood but has no use; it is counted under this reason."""


@dataclass(slots=True)
class Answer:
    text: str
    model: str = ""
    external_id: str = ""
    sampling: Row = field(default_factory=dict)
    demonstration: bool = False


@dataclass(slots=True)
class Item:
    """One row. The prompt is here or named by its id; so are the responses.

    `verdict` speaks of the responses in the order of the row: a is the first.
    """

    prompt: Messages | None = None
    prompt_id: str = ""
    metadata: Row = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    answer_ids: tuple[str, ...] = ()
    is_pair: bool = False
    """The two responses belong together, whatever --pairs says."""
    verdict: str = ""
    judge: str = ""
    judgment_id: str = ""
    note: str = ""
    may_miss_answers: bool = False
    """Published sets name answers that they do not hold; such a row is left out."""


@dataclass(frozen=True)
class Format:
    """How the rows of one kind of file become items."""

    name: str
    title: str
    columns: frozenset[str]
    """Without these a file is something else."""
    item: Callable[[Row], Item]
    optional: frozenset[str] = frozenset()
    absent: frozenset[str] = frozenset()
    """With one of these a file is something else, too."""
    stage: int = 1
    """0 prompts, 1 responses with or without their prompt, 2 verdicts by id."""
    verdicts: str = ""
    """`pair` or `label` if each row is judged; the kind of project must fit."""
    is_pair: bool = False
    judge_kind: str = "human"
    needs_judge: bool = False

    def fits(self, columns: frozenset[str]) -> bool:
        return self.columns <= columns and not (self.absent & columns)


def mirrored(verdict: str) -> str:
    """The same verdict with a and b exchanged."""
    return _MIRRORED.get(verdict, verdict)


def text(value: object, column: str) -> str:
    if not isinstance(value, str):
        raise Problem(f"{column} must be text, not {_described(value)}")
    return storable(value, column)


def filled(value: object, column: str) -> str:
    if not text(value, column).strip():
        raise Problem(f"{column} is empty")
    return str(value)


def storable(value: str, column: str) -> str:
    """Text that both databases take, or a Problem."""
    if "\0" in value:
        raise Problem(
            f"{column} holds a NUL character (at {value.index(chr(0))}), "
            "which PostgreSQL cannot store; remove it"
        )
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as exc:
            raise Problem(
                f"{column} holds half of a surrogate pair "
                f"(\\u{ord(value[exc.start]):04x} at {exc.start}); remove it"
            ) from None
    return value


def identifier(value: object, column: str) -> str:
    """An id or a name: text or a whole number of at most 200 characters; '' if none."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise Problem(f"{column} must be text or a number, not {_described(value)}")
    name = str(value)
    if len(name) > 200:
        raise Problem(f"{column} is {len(name)} characters long; 200 is the most")
    return storable(name, column)


def named(row: Row, column: str) -> str:
    """The id in this column, which must be there."""
    name = identifier(row.get(column), column)
    if not name:
        raise Problem(f"{column} is empty")
    return name


def details(value: object, column: str) -> Row:
    """An object to keep as it is, such as sampling settings; {} if it is none."""
    if not isinstance(value, dict):
        return {}
    try:
        written = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as exc:
        raise Problem(f"{column} cannot be stored as JSON: {exc}") from None
    if "\\u0000" in written:
        raise Problem(f"{column} holds a NUL character, which PostgreSQL cannot store")
    storable(written, column)
    return value


def extras(row: Row, known: frozenset[str]) -> Row:
    """The short values of other columns, kept beside the prompt."""
    kept: Row = {}
    for column, value in row.items():
        if column in known or value is None:
            continue
        if isinstance(value, str) and len(value) <= 200:
            kept[storable(column, "a column name")] = storable(value, column)
        elif isinstance(value, bool | int):
            kept[storable(column, "a column name")] = value
    return kept


def messages(value: object, column: str) -> Messages:
    """A conversation; plain text is one user turn."""
    if isinstance(value, str):
        listed = _listed(value)
        if listed is None:
            return [{"role": "user", "content": filled(value, column)}]
        value = listed
    if not isinstance(value, list):
        raise Problem(
            f"{column} must be text or a list of messages, not {_described(value)}"
        )
    if not value:
        raise Problem(f"{column} is an empty conversation")
    return [_message(turn, f"{column}[{n}]") for n, turn in enumerate(value)]


def prompt_of(value: object, column: str, system: object = None) -> Messages:
    """A conversation that asks something."""
    turns = messages(value, column)
    if isinstance(system, str) and system.strip() and turns[0]["role"] != "system":
        turns.insert(0, {"role": "system", "content": text(system, "system")})
    if not any(turn["role"] == "user" for turn in turns):
        raise Problem(f"{column} has no user turn, so nothing is asked")
    return turns


def answered(value: object, column: str) -> tuple[Messages, str]:
    """A whole conversation, as what was asked and the last assistant turn."""
    turns = messages(value, column)
    if turns[-1]["role"] != "assistant":
        raise Problem(
            f"{column} must end in an assistant turn, not {turns[-1]['role']!r}"
        )
    asked = turns[:-1]
    if not any(turn["role"] == "user" for turn in asked):
        raise Problem(f"{column} has no user turn before the answer")
    return asked, turns[-1]["content"]


def answer_text(value: object, column: str) -> str:
    """A response: text, a message, or a list of one message."""
    if isinstance(value, str):
        value = _listed(value) or value
    if isinstance(value, str):
        return storable(value, column)
    turns = messages([value] if isinstance(value, dict) else value, column)
    if len(turns) > 1:
        raise LeftOut(f"{column} is more than one turn")
    if turns[0]["role"] != "assistant":
        raise Problem(f"{column} must be an assistant turn, not {turns[0]['role']!r}")
    return turns[0]["content"]


def verdict(value: object, column: str, allowed: Sequence[str]) -> str:
    word = str(value).strip().lower()
    found = _VERDICT_OF.get(word, "")
    if found not in allowed:
        raise Problem(f"{column} must be {' or '.join(allowed)}, not {value!r:.60}")
    return found


def _message(turn: object, place: str) -> dict[str, str]:
    if not isinstance(turn, dict):
        raise Problem(f"{place} must be a message, not {_described(turn)}")
    role = turn.get("role", turn.get("from"))
    content = turn.get("content", turn.get("value"))
    known = ROLES.get(role) if isinstance(role, str) else None
    if known is None:
        raise Problem(f"{place} has the unknown role {role!r:.60}")
    if isinstance(content, list):
        content = _joined_parts(content, place)
    if known == "assistant":
        return {"role": known, "content": text(content, f"{place}.content")}
    return {"role": known, "content": filled(content, f"{place}.content")}


def _joined_parts(parts: list[Any], place: str) -> str:
    """Content in parts, as multimodal sets have it, if all of them are text."""
    for part in parts:
        if not isinstance(part, dict) or not isinstance(part.get("text"), str):
            kind = part.get("type") if isinstance(part, dict) else part
            raise Problem(f"{place} holds {kind!r:.60}; only text can be labelled")
    return "".join(part["text"] for part in parts)


_LISTED = re.compile(r'\s*\[\s*\{\s*"(role|content|from|value)"\s*:')


def _listed(value: str) -> list[Any] | None:
    """Messages that a CSV or Parquet file carries as JSON text."""
    if not _LISTED.match(value):
        return None
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) else None


def _described(value: object) -> str:
    if value is None:
        return "empty"
    kinds = {dict: "an object", list: "a list", bool: "true or false"}
    return kinds.get(type(value)) or f"{value!r:.60}"
