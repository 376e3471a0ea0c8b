"""One response and whether it is good: TRL's unpaired sets and conversations (KTO)."""

from __future__ import annotations

from labelhub.importing.items import (
    Answer,
    Format,
    Item,
    Row,
    answer_text,
    answered,
    identifier,
    prompt_of,
    verdict,
)

_OPTIONAL = frozenset(
    {"system", "model", "prompt_id", "response_id", "judge", "judgment_id"}
)


def _unpaired(row: Row) -> Item:
    column = "completion" if "completion" in row else "response"
    prompt = prompt_of(row["prompt"], "prompt", row.get("system"))
    return _item(row, prompt, answer_text(row[column], column))


def _conversation(row: Row) -> Item:
    column = "messages" if "messages" in row else "conversations"
    asked, said = answered(row[column], column)
    return _item(row, prompt_of(asked, column, row.get("system")), said)


def _item(row: Row, prompt: list[dict[str, str]], said: str) -> Item:
    column = "label" if "label" in row else "verdict"
    return Item(
        prompt=prompt,
        prompt_id=identifier(row.get("prompt_id"), "prompt_id"),
        answers=[
            Answer(
                said,
                identifier(row.get("model"), "model"),
                identifier(row.get("response_id"), "response_id"),
            )
        ],
        verdict=verdict(row[column], column, ("good", "bad")),
        judge=identifier(row.get("judge"), "judge"),
        judgment_id=identifier(row.get("judgment_id"), "judgment_id"),
    )


FORMATS = tuple(
    Format(
        name="labelled",
        title=f"labelled: {', '.join(columns)}",
        columns=frozenset(columns),
        optional=_OPTIONAL,
        item=_conversation if len(columns) == 2 else _unpaired,
        verdicts="label",
    )
    for columns in (
        ("prompt", "completion", "label"),
        ("prompt", "response", "label"),
        ("prompt", "response", "verdict"),
        ("messages", "label"),
        ("conversations", "label"),
    )
)
