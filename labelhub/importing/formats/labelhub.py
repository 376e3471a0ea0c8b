"""LabelHub's own files: prompts, responses and judgments that name each other by id."""

from __future__ import annotations

from labelhub.importing.items import (
    Answer,
    Format,
    Item,
    Problem,
    Row,
    details,
    extras,
    identifier,
    named,
    prompt_of,
    text,
    verdict,
)

_PROMPT = frozenset({"prompt", "id", "prompt_id", "system", "metadata"})
_ELSEWHERE = frozenset(
    {
        "chosen", "rejected", "response", "responses", "completion", "label",
        "response_a", "response_b", "answer", "output",
    }
)  # fmt: skip


def _prompt(row: Row) -> Item:
    metadata = row.get("metadata")
    return Item(
        prompt=prompt_of(row["prompt"], "prompt", row.get("system")),
        prompt_id=identifier(row.get("prompt_id", row.get("id")), "id"),
        metadata=extras(metadata if isinstance(metadata, dict) else {}, frozenset())
        | extras(row, _PROMPT),
    )


def _response(row: Row) -> Item:
    answer = Answer(
        text=text(row["response"], "response"),
        model=identifier(row.get("model"), "model"),
        external_id=identifier(row.get("response_id", row.get("id")), "id"),
        sampling=details(row.get("sampling"), "sampling"),
    )
    return Item(prompt_id=named(row, "prompt_id"), answers=[answer])


def _judgment(row: Row) -> Item:
    answer_ids = (named(row, "response_a"), named(row, "response_b"))
    if answer_ids[0] == answer_ids[1]:
        raise Problem(f"response_a and response_b are both {answer_ids[0]!r}")
    return _judged(row, answer_ids, ("a", "b", "tie", "both_bad"))


def _label(row: Row) -> Item:
    return _judged(row, (named(row, "response_id"),), ("good", "bad"))


def _judged(row: Row, answer_ids: tuple[str, ...], allowed: tuple[str, ...]) -> Item:
    return Item(
        prompt_id=identifier(row.get("prompt_id"), "prompt_id"),
        answer_ids=answer_ids,
        verdict=verdict(row["verdict"], "verdict", allowed),
        judge=identifier(row.get("judge"), "judge"),
        judgment_id=identifier(row.get("judgment_id", row.get("id")), "id"),
        note=text(row.get("note") or "", "note"),
    )


_JUDGMENT_EXTRAS = frozenset({"prompt_id", "judge", "judgment_id", "id", "note"})

FORMATS = (
    Format(
        name="labelhub",
        title="judgments of pairs",
        columns=frozenset({"response_a", "response_b", "verdict"}),
        optional=_JUDGMENT_EXTRAS,
        absent=frozenset({"prompt"}),
        item=_judgment,
        stage=2,
        verdicts="pair",
    ),
    Format(
        name="labelhub",
        title="judgments of single responses",
        columns=frozenset({"response_id", "verdict"}),
        optional=_JUDGMENT_EXTRAS,
        absent=frozenset({"prompt", "response"}),
        item=_label,
        stage=2,
        verdicts="label",
    ),
    Format(
        name="labelhub",
        title="responses",
        columns=frozenset({"prompt_id", "response"}),
        optional=frozenset({"id", "response_id", "model", "sampling"}),
        absent=frozenset({"prompt", "label", "verdict"}),
        item=_response,
    ),
    Format(
        name="labelhub",
        title="prompts",
        columns=frozenset({"prompt"}),
        optional=_PROMPT,
        absent=_ELSEWHERE,
        item=_prompt,
        stage=0,
    ),
)
