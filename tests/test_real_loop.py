"""Real data in, trained models out, by the command line a person would use.

Everything runs in processes of its own against a site of its own in tmp_path, so that
nothing of the tests' set-up can help it along.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.running_site import ROOT, Site

VICUNA = ROOT.parent / "shared" / "data" / "vicuna-bench"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not VICUNA.is_dir(), reason="../shared/data is not here: no real data to run on"
    ),
    # One worker runs them all, in order: each stage stands on the one before.
    pytest.mark.xdist_group("real_loop"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def imported(site: Site) -> dict[str, Any]:
    site.manage("create_project", "vicuna", "--kind", "pairwise")
    files = sorted(VICUNA.glob("*.jsonl"))
    assert len(files) == 1 + 7 + 9
    judge = ("--judge", "gpt-4", "--judge-kind", "model")
    return json.loads(site.manage("import_data", "vicuna", *files, *judge, "--json"))


def lines(name: str) -> Iterator[dict[str, Any]]:
    for path in sorted(VICUNA.glob(name)):
        with path.open() as file:
            yield from map(json.loads, file)


def raw_verdicts() -> Iterator[tuple[str, str, str, str]]:
    """(prompt, winner or either, loser or other, "win" | "tie") by hand."""
    questions = {row["question_id"]: row["text"] for row in lines("question.jsonl")}
    answers = {row["answer_id"]: row["text"] for row in lines("answer_*.jsonl")}
    for review in lines("review_*.jsonl"):
        one, two = answers[review["answer1_id"]], answers[review["answer2_id"]]
        score_one, score_two = review["score"]
        if score_one < score_two:
            one, two = two, one
        kind = "tie" if score_one == score_two else "win"
        yield questions[review["question_id"]], one, two, kind


def test_everything_comes_in(imported):
    assert imported["prompts"] == 80
    assert imported["responses"] == 560
    assert imported["judgments"] == 720
    assert imported["tasks"] == 720


def test_a_second_import_changes_nothing(site, imported):
    files = sorted(VICUNA.glob("*.jsonl"))
    judge = ("--judge", "gpt-4", "--judge-kind", "model")
    again = json.loads(site.manage("import_data", "vicuna", *files, *judge, "--json"))
    assert (again["batch"], again["judgments"]) == (imported["batch"], 720)


@pytest.fixture(scope="module")
def exported(site: Site, imported: dict[str, Any]) -> dict[str, Path]:
    folders = {}
    for purpose in ("reward", "dpo"):
        folders[purpose] = site.folder / purpose
        site.manage(
            *("export_dataset", "vicuna", "--for", purpose, "--judges", "model"),
            *("--eval-share", "0.25", "--seed", "0", "--out", folders[purpose]),
        )
    return folders


def rows_of(folder: Path, split: str) -> list[dict[str, Any]]:
    return pq.read_table(folder / f"{split}.parquet").to_pylist()


def test_the_rows_are_what_the_raw_files_say(exported):
    expected = Counter(
        (prompt, winner, loser)
        for prompt, winner, loser, kind in raw_verdicts()
        if kind == "win"
    )
    found: Counter[tuple[str, str, str]] = Counter()
    for split in ("train", "eval"):
        for row in rows_of(exported["dpo"], split):
            assert [turn["role"] for turn in row["prompt"]] == ["user"]
            found[
                row["prompt"][0]["content"],
                row["chosen"][0]["content"],
                row["rejected"][0]["content"],
            ] += 1
    assert found == expected


def test_the_rest_stands_in_the_ledger_by_id(exported):
    snapshot = json.loads((exported["dpo"] / "snapshot.json").read_text())
    kinds = Counter(kind for *_, kind in raw_verdicts())
    ledger = snapshot["ledger"]
    assert ledger["judged"] == 720
    assert ledger["exported"] == kinds["win"]
    assert ledger["left_out"].get("tie") == kinds["tie"]
    assert sum(ledger["left_out"].values()) == 720 - kinds["win"]
    reasons = {
        row["task_id"]: row["left_out"]
        for row in pq.read_table(exported["dpo"] / "ledger.parquet").to_pylist()
    }
    used = {
        row["task_id"]
        for split in ("train", "eval")
        for row in rows_of(exported["dpo"], split)
    }
    assert Counter(reasons.values()) == {"tie": kinds["tie"]}
    assert not used & set(reasons)
    assert len(used) == kinds["win"]


def test_no_prompt_is_on_both_sides_of_the_split(exported):
    train, held_out = (
        {row["prompt"][0]["content"] for row in rows_of(exported["reward"], split)}
        for split in ("train", "eval")
    )
    assert not train & held_out
    assert len(held_out) == pytest.approx(20, abs=1)


@pytest.fixture(scope="module")
def starter(site: Site, imported: dict[str, Any]) -> Path:
    folder = site.folder / "var" / "models" / "starter"
    site.manage("make_starter_model", "vicuna", "--out", folder, "--size", "tiny")
    return folder


def train(
    site: Site, data: Path, starter: Path, name: str, **settings: object
) -> dict[str, Any]:
    out = site.folder / "out" / name
    spec = site.folder / f"{name}.json"
    spec.write_text(
        json.dumps(
            {
                "job_name": name,
                "base_model": str(starter),
                "dataset_path": str(data),
                "output_dir": str(out),
                "max_length": 1024,
                "gradient_checkpointing": False,
                "num_sample_prompts": 0,
                # Once at the end, not ten times: on two cores that is half the time.
                "logging": {"eval_interval": 1000, "save_interval": 1000},
                **settings,
            }
        )
    )
    site.manage("train", spec, "--now")
    return json.loads((out / "result.json").read_text())


def test_a_reward_model_is_trained_and_judged_by_held_out_prompts(
    site, exported, starter, capsys
):
    result = train(
        *(site, exported["reward"], starter, "reward"),
        algorithm="reward_model",
        learning_rate=5e-4,
        num_epochs=2,
    )
    assert result["status"] == "completed"
    assert result["reload_check"]["equal"]
    measured = result["eval_metrics"]
    assert measured["pairs"] == result["ledger"]["eval"]["used"]
    assert measured["accuracy_low"] <= measured["accuracy"] <= measured["accuracy_high"]
    assert 0.5 < measured["baseline_longer_wins"] < 1
    assert 0.5 < measured["baseline_bag_of_words"] < 1
    assert measured["accuracy"] > 0.5
    with capsys.disabled():
        print(f"\nheld-out reward model: {json.dumps(measured)}")


def test_dpo_moves_the_margin(site, exported, starter):
    result = train(
        *(site, exported["dpo"], starter, "dpo"),
        algorithm="dpo",
        learning_rate=2e-4,
        max_steps=30,
    )
    assert result["status"] == "completed"
    assert result["reload_check"]["equal"]
    points = [
        json.loads(line)
        for line in (site.folder / "out" / "dpo" / "metrics.jsonl").open()
    ]
    margins = [p["rewards/margins"] for p in points if "rewards/margins" in p]
    assert abs(margins[0]) < 0.05
    assert margins[-1] > 0.1


def test_shuffled_labels_teach_nothing(site, exported, starter):
    """The control: with winners drawn by lot, held-out accuracy stays at chance."""
    folder = site.folder / "shuffled"
    folder.mkdir()
    lot = random.Random(0)
    for split in ("train", "eval"):
        table = pq.read_table(exported["reward"] / f"{split}.parquet")
        rows = table.to_pylist()
        for row in rows:
            if lot.random() < 0.5:
                row["chosen"], row["rejected"] = row["rejected"], row["chosen"]
        pq.write_table(
            pa.Table.from_pylist(rows, table.schema), folder / f"{split}.parquet"
        )
    result = train(
        *(site, folder, starter, "shuffled"),
        algorithm="reward_model",
        learning_rate=5e-4,
        num_epochs=1,
    )
    measured = result["eval_metrics"]
    assert measured["accuracy_low"] < 0.5 < measured["accuracy_high"]
