"""Prompts with what models answered: a list a row, one a row, or two to compare."""

from __future__ import annotations

from labelhub.importing.items import (
    Answer,
    Format,
    Item,
    Problem,
    Row,
    answer_text,
    identifier,
    prompt_of,
    text,
    verdict,
)


def _several(row: Row) -> Item:
    listed = row["responses"]
    if not isinstance(listed, list) or not listed:
        raise Problem("responses must be a list of texts or objects, with at least one")
    models = row.get("models")
    answers = [_answer(said, f"responses[{n}]") for n, said in enumerate(listed)]
    if isinstance(models, list):
        if len(models) != len(answers):
            raise Problem(f"{len(models)} models for {len(answers)} responses")
        for answer, model in zip(answers, models, strict=True):
            answer.model = identifier(model, "models")
    return _item(row, answers)


def _answer(said: object, place: str) -> Answer:
    if isinstance(said, dict) and "role" not in said and "from" not in said:
        column = "response" if "response" in said else "text"
        return Answer(
            text(said.get(column), f"{place}.{column}"),
            identifier(said.get("model"), f"{place}.model"),
            identifier(said.get("id"), f"{place}.id"),
        )
    return Answer(answer_text(said, place))


def _single(row: Row) -> Item:
    answer = Answer(
        answer_text(row["response"], "response"),
        identifier(row.get("model"), "model"),
        identifier(row.get("response_id"), "response_id"),
    )
    return _item(row, [answer])


def _compared(row: Row) -> Item:
    answers = [
        Answer(
            answer_text(row[f"response_{side}"], f"response_{side}"),
            identifier(row.get(f"model_{side}"), f"model_{side}"),
        )
        for side in "ab"
    ]
    item = _item(row, answers)
    item.is_pair = True
    if row.get("verdict") is not None:
        allowed = ("a", "b", "tie", "both_bad")
        item.verdict = verdict(row["verdict"], "verdict", allowed)
        item.judge = identifier(row.get("judge"), "judge")
        item.judgment_id = identifier(row.get("judgment_id"), "judgment_id")
    return item


def _item(row: Row, answers: list[Answer]) -> Item:
    return Item(
        prompt=prompt_of(row["prompt"], "prompt", row.get("system")),
        prompt_id=identifier(row.get("prompt_id", row.get("id")), "prompt_id"),
        answers=answers,
    )


_OPTIONAL = frozenset({"system", "prompt_id", "id"})
_COMPARED = frozenset({"prompt", "response_a", "response_b"})

FORMATS = (
    Format(
        name="comparisons",
        title="judged comparisons: prompt, response_a, response_b, verdict",
        columns=_COMPARED | {"verdict"},
        optional=_OPTIONAL | {"model_a", "model_b", "judge", "judgment_id"},
        item=_compared,
        verdicts="pair",
        is_pair=True,
    ),
    Format(
        name="comparisons",
        title="comparisons to judge: prompt, response_a, response_b",
        columns=_COMPARED,
        optional=_OPTIONAL | {"model_a", "model_b"},
        item=_compared,
        is_pair=True,
    ),
    Format(
        name="responses",
        title="prompts with a list of responses",
        columns=frozenset({"prompt", "responses"}),
        optional=_OPTIONAL | {"models"},
        item=_several,
    ),
    Format(
        name="responses",
        title="prompts with one response a row",
        columns=frozenset({"prompt", "response"}),
        optional=_OPTIONAL | {"model", "response_id"},
        absent=frozenset({"label", "verdict"}),
        item=_single,
    ),
)
