"""The sets of vicuna-bench: questions, answers of models, reviews by a judge model."""

from __future__ import annotations

from labelhub.importing.items import (
    Answer,
    Format,
    Item,
    LeftOut,
    Row,
    details,
    extras,
    identifier,
    named,
    prompt_of,
    text,
)

_QUESTION = frozenset({"question_id", "text"})
_ANSWER = frozenset({"answer_id", "question_id", "text"})
_REVIEW = frozenset({"answer1_id", "answer2_id", "score"})


def _question(row: Row) -> Item:
    return Item(
        prompt=prompt_of(row["text"], "text"),
        prompt_id=named(row, "question_id"),
        metadata=extras(row, _QUESTION),
    )


def _answer(row: Row) -> Item:
    answer = Answer(
        text=text(row["text"], "text"),
        model=identifier(row.get("model_id"), "model_id"),
        external_id=named(row, "answer_id"),
        sampling=details(row.get("metadata"), "metadata"),
    )
    return Item(prompt_id=named(row, "question_id"), answers=[answer])


def _review(row: Row) -> Item:
    return Item(
        prompt_id=identifier(row.get("question_id"), "question_id"),
        answer_ids=(named(row, "answer1_id"), named(row, "answer2_id")),
        verdict=_winner(row["score"]),
        judgment_id=identifier(row.get("review_id"), "review_id"),
        note=text(row.get("text") or "", "text"),
        may_miss_answers=True,
    )


def _winner(score: object) -> str:
    """The first of the two has the first score; a failed review has [-1, -1]."""
    if not isinstance(score, list) or len(score) != 2:
        raise LeftOut("the score is not two numbers")
    first, second = score
    for number in score:
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise LeftOut("the score is not two numbers")
    if first < 0 or second < 0:
        raise LeftOut("the score is negative: the review failed")
    if first == second:
        return "tie"
    return "a" if first > second else "b"


FORMATS = (
    Format(
        name="vicuna",
        title="vicuna-bench reviews",
        columns=_REVIEW,
        optional=frozenset(
            {"review_id", "question_id", "text", "reviewer_id", "metadata"}
        ),
        item=_review,
        stage=2,
        verdicts="pair",
        judge_kind="model",
        needs_judge=True,
    ),
    Format(
        name="vicuna",
        title="vicuna-bench answers",
        columns=_ANSWER,
        optional=frozenset({"model_id", "metadata"}),
        item=_answer,
    ),
    Format(
        name="vicuna",
        title="vicuna-bench questions",
        columns=_QUESTION,
        absent=frozenset({"answer_id"}),
        item=_question,
        stage=0,
    ),
)
