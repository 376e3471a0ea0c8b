"""Real judgments: nine review files of vicuna-bench, compared row by row."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from django.core.management import call_command

from labelhub.importing import ImportOptions, import_files
from labelhub.models import Judgment, Task
from tests.builders import make_project
from training import exporting
from training.dataset_files import Format
from training.models import Snapshot
from training.recipes import Recipe

VICUNA = Path(__file__).parents[3] / "shared" / "data" / "vicuna-bench"

pytestmark = pytest.mark.skipif(
    not VICUNA.is_dir(), reason="the vicuna-bench files are not beside the project"
)


def raw(pattern: str) -> list[dict]:
    paths = sorted(VICUNA.glob(pattern))
    return [json.loads(line) for path in paths for line in path.open()]


@pytest.fixture
def bench(project, tmp_path) -> Path:
    """What export_dataset wrote of the reviews of a judge model."""
    files = sorted(VICUNA.glob("*.jsonl"))
    import_files(project, files, ImportOptions(judge="gpt-4", judge_kind="model"))
    out = tmp_path / "dpo"
    options = ["--for", "dpo", "--judges", "model", "--out", str(out)]
    call_command("export_dataset", project.slug, *options)
    return out


def exported(out: Path) -> list[dict]:
    return [
        row
        for split in ("train", "eval")
        for row in pq.read_table(out / f"{split}.parquet").to_pylist()
    ]


def test_every_row_is_what_the_raw_files_say(bench):
    questions = {row["question_id"]: row["text"] for row in raw("question.jsonl")}
    answers = {row["answer_id"]: row["text"] for row in raw("answer_*.jsonl")}
    expected = []
    for review in raw("review_*.jsonl"):
        said = [answers[review["answer1_id"]], answers[review["answer2_id"]]]
        first, second = review["score"]
        if first != second:
            chosen, rejected = said if first > second else said[::-1]
            expected.append((questions[review["question_id"]], chosen, rejected))
    found = [
        tuple(row[name][-1]["content"] for name in ("prompt", "chosen", "rejected"))
        for row in exported(bench)
    ]
    assert len(expected) == 653
    assert sorted(found) == sorted(expected)


def test_the_rest_stands_in_the_ledger_by_id(bench, project):
    left_out = pq.read_table(bench / "ledger.parquet").to_pylist()
    ties = Judgment.objects.filter(verdict="tie").values_list("task_id", flat=True)
    assert {row["task_id"]: row["left_out"] for row in left_out} == dict.fromkeys(
        ties, "tie"
    )
    exported_ids = {row["task_id"] for row in exported(bench)}
    left_out_ids = {row["task_id"] for row in left_out}
    assert not exported_ids & left_out_ids
    everything = Task.objects.filter(project=project).values_list("pk", flat=True)
    assert exported_ids | left_out_ids == set(everything)
    assert len(everything) == 720


def test_eight_of_eighty_prompts_are_held_out(bench):
    train, evaluation = (
        set(pq.read_table(bench / f"{split}.parquet")["prompt_id"].to_pylist())
        for split in ("train", "eval")
    )
    assert (len(train), len(evaluation)) == (72, 8)
    assert not train & evaluation


def test_a_second_import_elsewhere_freezes_to_the_same_hash(bench, project):
    other = make_project("Elsewhere")
    files = sorted(VICUNA.glob("*.jsonl"))
    random.Random(1).shuffle(files)
    import_files(other, files, ImportOptions(judge="gpt-4", judge_kind="model"))
    again = exporting.freeze(other, Recipe(algorithm="dpo", judges=("model",)))
    assert again.sha256 == Snapshot.objects.get(project=project).sha256


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["sft", "dpo", "kto", "ppo"])
@pytest.mark.parametrize("format", [Format.PARQUET, Format.JSONL])
def test_the_datasets_library_reads_the_files_untouched(
    bench, project, tmp_path, algorithm, format
):
    datasets = pytest.importorskip("datasets")
    recipe = Recipe(algorithm=algorithm, judges=("model",))
    snapshot = exporting.freeze(project, recipe)
    exporting.export(snapshot, tmp_path / "set", format)
    found = datasets.load_dataset(
        "json" if format is Format.JSONL else "parquet",
        data_files={
            split: str(tmp_path / "set" / f"{split}.{format}")
            for split in ("train", "eval")
        },
        cache_dir=str(tmp_path / "cache"),
    )
    assert found["train"].num_rows == snapshot.n_train
    assert found["eval"].num_rows == snapshot.n_eval
    row = found["train"][0]
    assert row["prompt"][-1]["role"] == "user"
    assert all(message["role"] == "assistant" for message in row.get("chosen", []))
