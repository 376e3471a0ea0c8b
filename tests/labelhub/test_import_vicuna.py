"""The sets of vicuna-bench, compared row by row with the files themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from labelhub.importing import ImportOptions, ImportRefused, import_files
from labelhub.models import ImportBatch, Judgment, Prompt, Response, Task

VICUNA = Path(__file__).parents[3] / "shared" / "data" / "vicuna-bench"
JUDGE = ImportOptions(judge="gpt-4")

pytestmark = pytest.mark.skipif(
    not VICUNA.is_dir(), reason="the vicuna-bench files are not beside the project"
)


def _rows(pattern: str) -> list[dict]:
    paths = sorted(VICUNA.glob(pattern))
    return [json.loads(line) for path in paths for line in path.open()]


@pytest.fixture
def batch(project) -> ImportBatch:
    return import_files(project, sorted(VICUNA.glob("*.jsonl")), JUDGE)


def test_every_question_answer_and_review_is_there(project, batch):
    assert batch.state == "complete"
    assert batch.n_rows == batch.n_read == 80 + 560 + 720
    made = ("prompts", "responses", "tasks", "judgments")
    assert [batch.counts[name] for name in made] == [80, 560, 720, 720]
    assert batch.counts["empty_responses"] == 1

    project.refresh_from_db()
    assert project.n_tasks == project.tasks.filter(status="open").count() == 720


def test_every_verdict_names_the_winner_of_its_row(project, batch):
    stored = {
        judgment.external_id: judgment
        for judgment in Judgment.objects.select_related(
            "task__response_a", "task__response_b"
        )
    }
    turned = 0
    for review in _rows("review_*.jsonl"):
        judgment = stored[review["review_id"]]
        task = judgment.task
        assert (judgment.source, judgment.judge_name) == ("model", "gpt-4")
        first, second = review["score"]
        if first == second:
            assert judgment.verdict == "tie"
            continue
        winner = review["answer1_id"] if first > second else review["answer2_id"]
        response = task.response_a if judgment.verdict == "a" else task.response_b
        assert response.external_id == winner
        turned += task.response_a.external_id == review["answer2_id"]
    # Both orders occur, so a mistake in either would have been seen.
    assert 0 < turned < 653


def test_texts_models_and_prompts_are_those_of_the_files(project, batch):
    asked = {row["question_id"]: row["text"] for row in _rows("question.jsonl")}
    stored = {r.external_id: r for r in Response.objects.select_related("prompt")}
    for row in _rows("answer_*.jsonl"):
        response = stored[row["answer_id"]]
        assert (response.text, response.model_name) == (row["text"], row["model_id"])
        assert response.prompt.last_user_turn == asked[row["question_id"]]
    assert {p.metadata["category"] for p in Prompt.objects.all()} >= {"generic", "math"}


def test_a_judge_must_be_named(project):
    with pytest.raises(ImportRefused, match="name the judge with --judge NAME"):
        import_files(project, sorted(VICUNA.glob("*.jsonl")), ImportOptions())
    assert not Prompt.objects.exists()
    assert not ImportBatch.objects.exists()


def test_reviews_of_answers_that_are_missing_are_counted(project):
    paths = [
        VICUNA / "question.jsonl",
        VICUNA / "answer_bard.jsonl",
        VICUNA / "answer_vicuna-7b-20230322-fp16.jsonl",
        *sorted(VICUNA.glob("review_*.jsonl")),
    ]
    batch = import_files(project, paths, JUDGE)
    assert batch.counts["judgments"] == Task.objects.count() == 80
    assert batch.counts["left_out"] == {
        "the response it judges is in none of the files": 640
    }


def test_the_answers_may_come_after_the_questions(project):
    import_files(project, [VICUNA / "question.jsonl"], ImportOptions())
    for name in ("bard", "gpt35"):
        path = VICUNA / f"answer_{name}.jsonl"
        batch = import_files(project, [path], ImportOptions())
    # The second model's answers are paired with the first's, which were there.
    assert batch.counts["tasks"] == 80
