"""Preference files: TRL's (explicit or implicit prompt, plain or conversational),
ShareGPT's, and the transcripts of hh-rlhf. The chosen response won.
"""

from __future__ import annotations

import re

from labelhub.importing.items import (
    Answer,
    Format,
    Item,
    LeftOut,
    Messages,
    Problem,
    Row,
    answer_text,
    answered,
    identifier,
    messages,
    prompt_of,
    text,
)

_PAIR = frozenset({"chosen", "rejected"})
_OPTIONAL = frozenset(
    {"system", "prompt_id", "chosen_model", "rejected_model", "judge", "judgment_id"}
)


def _explicit(row: Row) -> Item:
    """A prompt and two responses; or two whole conversations that begin with it."""
    chosen, rejected = row["chosen"], row["rejected"]
    if _is_conversation(chosen, "chosen") and _is_conversation(rejected, "rejected"):
        return _implicit(row)
    prompt = prompt_of(row["prompt"], "prompt", row.get("system"))
    return _item(
        row, prompt, answer_text(chosen, "chosen"), answer_text(rejected, "rejected")
    )


def _instruction(row: Row) -> Item:
    asked = text(row["instruction"], "instruction")
    if row.get("input"):
        asked = f"{asked}\n{text(row['input'], 'input')}"
    return _explicit(row | {"prompt": asked})


def _sharegpt(row: Row) -> Item:
    return _explicit(row | {"prompt": row["conversations"]})


def _implicit(row: Row) -> Item:
    chosen, rejected = row["chosen"], row["rejected"]
    if isinstance(chosen, str) and isinstance(rejected, str):
        if _TURN.match(chosen) and _TURN.match(rejected):
            chosen, rejected = _transcript(chosen), _transcript(rejected)
        else:
            return _item(row, *_shared_prefix(chosen, rejected))
    asked, better = answered(chosen, "chosen")
    same, worse = answered(rejected, "rejected")
    if asked != same:
        raise LeftOut("chosen and rejected differ before their last turn")
    return _item(row, prompt_of(asked, "chosen", row.get("system")), better, worse)


def _item(row: Row, prompt: Messages, chosen: str, rejected: str) -> Item:
    return Item(
        prompt=prompt,
        prompt_id=identifier(row.get("prompt_id"), "prompt_id"),
        answers=[
            Answer(chosen, identifier(row.get("chosen_model"), "chosen_model")),
            Answer(rejected, identifier(row.get("rejected_model"), "rejected_model")),
        ],
        is_pair=True,
        verdict="a",
        judge=identifier(row.get("judge"), "judge"),
        judgment_id=identifier(row.get("judgment_id"), "judgment_id"),
    )


def _is_conversation(value: object, column: str) -> bool:
    return isinstance(value, list) and any(
        turn["role"] == "user" for turn in messages(value, column)
    )


_TURN = re.compile(r"\s*(?:^|\n\n)(Human|Assistant): ?")


def _transcript(value: str) -> list[dict[str, str]]:
    """The turns of an hh-rlhf transcript: `\\n\\nHuman: …\\n\\nAssistant: …`."""
    _, *parts = re.split(r"(?:^|\n\n)(Human|Assistant):", value)
    roles = {"Human": "user", "Assistant": "assistant"}
    return [
        {"role": roles[speaker], "content": said.strip()}
        for speaker, said in zip(parts[::2], parts[1::2], strict=True)
    ]


def _shared_prefix(chosen: str, rejected: str) -> tuple[Messages, str, str]:
    """Split plain texts where they part, at the start of the word where they do."""
    text(chosen, "chosen")
    text(rejected, "rejected")
    end = 0
    for one, other in zip(chosen, rejected, strict=False):
        if one != other:
            break
        end += 1
    while end and not chosen[end - 1].isspace():
        end -= 1
    if not chosen[:end].strip():
        raise Problem(
            "chosen and rejected share no beginning, and there is no prompt column"
        )
    prompt = [{"role": "user", "content": chosen[:end].rstrip()}]
    return prompt, chosen[end:], rejected[end:]


FORMATS = (
    Format(
        name="preference",
        title="ShareGPT preference: conversations, chosen, rejected",
        columns=_PAIR | {"conversations"},
        optional=_OPTIONAL,
        item=_sharegpt,
        verdicts="pair",
        is_pair=True,
    ),
    Format(
        name="preference",
        title="preference: prompt, chosen, rejected",
        columns=_PAIR | {"prompt"},
        optional=_OPTIONAL,
        item=_explicit,
        verdicts="pair",
        is_pair=True,
    ),
    Format(
        name="preference",
        title="Alpaca preference: instruction, input, chosen, rejected",
        columns=_PAIR | {"instruction"},
        optional=_OPTIONAL | {"input"},
        item=_instruction,
        verdicts="pair",
        is_pair=True,
    ),
    Format(
        name="preference",
        title="preference with an implicit prompt: chosen, rejected",
        columns=_PAIR,
        optional=_OPTIONAL,
        item=_implicit,
        verdicts="pair",
        is_pair=True,
    ),
)
