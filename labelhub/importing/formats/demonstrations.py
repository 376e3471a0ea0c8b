"""Answers to imitate: Alpaca, SFT conversations, prompt and completion."""

from __future__ import annotations

from labelhub.importing.items import (
    Answer,
    Format,
    Item,
    Messages,
    Row,
    answer_text,
    answered,
    filled,
    identifier,
    messages,
    prompt_of,
    text,
)


def _alpaca(row: Row) -> Item:
    asked = filled(row["instruction"], "instruction")
    if row.get("input"):
        asked = f"{asked}\n{text(row['input'], 'input')}"
    prompt = prompt_of(asked, "instruction", row.get("system"))
    prompt[-1:-1] = _history(row.get("history"))
    return _item(row, prompt, text(row["output"], "output"))


def _history(earlier: object) -> Messages:
    """Rounds before this one, as LLaMA-Factory has them: [[asked, said], …]."""
    turns: list[object] = []
    for round_ in earlier if isinstance(earlier, list) else []:
        for role, said in zip(("user", "assistant"), round_, strict=False):
            turns.append({"role": role, "content": said})
    return messages(turns, "history") if turns else []


def _conversation(row: Row) -> Item:
    column = "messages" if "messages" in row else "conversations"
    asked, said = answered(row[column], column)
    return _item(row, prompt_of(asked, column, row.get("system")), said)


def _completion(row: Row) -> Item:
    prompt = prompt_of(row["prompt"], "prompt", row.get("system"))
    return _item(row, prompt, answer_text(row["completion"], "completion"))


def _item(row: Row, prompt: Messages, said: str) -> Item:
    model = identifier(row.get("model"), "model")
    return Item(
        prompt=prompt,
        prompt_id=identifier(row.get("prompt_id"), "prompt_id"),
        answers=[Answer(said, model, demonstration=True)],
    )


_OPTIONAL = frozenset({"system", "model", "prompt_id"})

FORMATS = (
    Format(
        name="alpaca",
        title="Alpaca: instruction, input, output",
        columns=frozenset({"instruction", "output"}),
        optional=_OPTIONAL | {"input", "history"},
        item=_alpaca,
    ),
    Format(
        name="sft",
        title="SFT: messages",
        columns=frozenset({"messages"}),
        optional=_OPTIONAL,
        absent=frozenset({"label"}),
        item=_conversation,
    ),
    Format(
        name="sft",
        title="SFT: conversations",
        columns=frozenset({"conversations"}),
        optional=_OPTIONAL,
        absent=frozenset({"label", "chosen"}),
        item=_conversation,
    ),
    Format(
        name="sft",
        title="SFT: prompt, completion",
        columns=frozenset({"prompt", "completion"}),
        optional=_OPTIONAL,
        absent=frozenset({"label"}),
        item=_completion,
    ),
)
