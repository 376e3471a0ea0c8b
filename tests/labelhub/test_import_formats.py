"""Every format: what its rows become, and that a wrong kind of project refuses them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labelhub.importing import ImportOptions, ImportRefused, check_files, import_files
from labelhub.models import ImportBatch, Judgment, Project, Prompt, Response, Task
from tests.builders import make_project

DEMOS = Path(__file__).parents[3] / "shared" / "data" / "preference-demos"
SAMPLE = Path(__file__).parents[2] / "labelhub" / "sample"

USER = {"role": "user", "content": "Why is the sky blue?"}
GOOD = {"role": "assistant", "content": "Air scatters blue light most."}
WORSE = {"role": "assistant", "content": "It reflects the sea."}
HUMAN = {"from": "human", "value": USER["content"]}
TRANSCRIPT = f"\n\nHuman: {USER['content']}\n\nAssistant: "

PREFERENCES: dict[str, dict[str, Any]] = {
    "plain": {
        "prompt": USER["content"],
        "chosen": GOOD["content"],
        "rejected": WORSE["content"],
    },
    "conversational": {"prompt": [USER], "chosen": [GOOD], "rejected": [WORSE]},
    "ultrafeedback": {
        "prompt": USER["content"],
        "chosen": [USER, GOOD],
        "rejected": [USER, WORSE],
    },
    "implicit plain": {
        "chosen": f"{USER['content']} {GOOD['content']}",
        "rejected": f"{USER['content']} {WORSE['content']}",
    },
    "implicit conversational": {"chosen": [USER, GOOD], "rejected": [USER, WORSE]},
    "hh-rlhf": {
        "chosen": TRANSCRIPT + GOOD["content"],
        "rejected": TRANSCRIPT + WORSE["content"],
    },
    "sharegpt": {
        "conversations": [HUMAN],
        "chosen": {"from": "gpt", "value": GOOD["content"]},
        "rejected": {"from": "gpt", "value": WORSE["content"]},
    },
    "alpaca": {
        "instruction": USER["content"],
        "input": "",
        "chosen": GOOD["content"],
        "rejected": WORSE["content"],
    },
    "json in text": {
        "prompt": json.dumps([USER]),
        "chosen": json.dumps([GOOD]),
        "rejected": json.dumps([WORSE]),
    },
}
LABELLED: dict[str, dict[str, Any]] = {
    "plain": {
        "prompt": USER["content"],
        "completion": GOOD["content"],
        "label": True,
    },
    "conversational": {"prompt": [USER], "completion": [GOOD], "label": True},
    "messages": {"messages": [USER, GOOD], "label": 1},
    "sharegpt": {
        "conversations": [HUMAN, {"from": "gpt", "value": GOOD["content"]}],
        "label": "good",
    },
}
DEMONSTRATIONS: dict[str, dict[str, Any]] = {
    "alpaca": {"instruction": USER["content"], "input": "", "output": GOOD["content"]},
    "messages": {"messages": [USER, GOOD]},
    "conversations": {
        "conversations": [HUMAN, {"from": "gpt", "value": GOOD["content"]}]
    },
    "completion": {"prompt": USER["content"], "completion": GOOD["content"]},
}


def write_rows(path: Path, *rows: Any) -> Path:
    """JSON lines, or what the name says."""
    if path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=1))
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(project: Project, *paths: Path, **options: Any) -> ImportBatch:
    return import_files(project, paths, ImportOptions(**options))


@pytest.fixture
def binary(db) -> Project:
    return make_project("Binary", kind=Project.Kind.BINARY)


@pytest.mark.parametrize("name", PREFERENCES)
def test_a_preference_is_one_imported_judgment(project, tmp_path, name):
    run(project, write_rows(tmp_path / "x.jsonl", PREFERENCES[name]))

    judgment = Judgment.objects.select_related("task").get()
    task = judgment.task
    won, lost = task.response_a, task.response_b
    if judgment.verdict == "b":
        won, lost = lost, won
    assert Prompt.objects.get().messages == [USER]
    assert (won.text, lost.text) == (GOOD["content"], WORSE["content"])
    assert (judgment.source, judgment.judge_name) == ("imported", "")
    assert not won.is_demonstration
    assert (task.status, task.response_a_id < task.response_b_id) == ("open", True)


def test_the_chosen_response_is_a_or_b_by_chance(project, tmp_path):
    rows = [
        {"prompt": f"{n}?", "chosen": f"yes {n}", "rejected": f"no {n}"}
        for n in range(60)
    ]
    run(project, write_rows(tmp_path / "x.jsonl", *rows))
    verdicts = list(Judgment.objects.values_list("verdict", flat=True))
    assert 10 < verdicts.count("a") < 50
    for judgment in Judgment.objects.select_related("task__response_a"):
        chose_a = judgment.task.response_a.text.startswith("yes")
        assert chose_a == (judgment.verdict == "a")


@pytest.mark.parametrize("name", LABELLED)
def test_a_label_is_one_imported_judgment(binary, tmp_path, name):
    bad = LABELLED[name] | {"label": False}
    run(binary, write_rows(tmp_path / "x.jsonl", LABELLED[name]))
    run(binary, write_rows(tmp_path / "y.jsonl", bad))

    # The second file contradicts the first: both verdicts stand on one task.
    task = Task.objects.get()
    assert task.prompt.messages == [USER]
    assert (task.response_a.text, task.response_b) == (GOOD["content"], None)
    assert sorted(task.judgments.values_list("verdict", flat=True)) == ["bad", "good"]


@pytest.mark.parametrize("name", DEMONSTRATIONS)
def test_a_demonstration_makes_a_task_in_a_binary_project_only(
    project, binary, tmp_path, name
):
    path = write_rows(tmp_path / "x.jsonl", DEMONSTRATIONS[name])
    for home, n_tasks in ((project, 0), (binary, 1)):
        batch = run(home, path)
        assert batch.counts["tasks"] == home.tasks.count() == n_tasks
        response = Response.objects.get(prompt__project=home)
        assert response.is_demonstration
        assert (response.prompt.messages, response.text) == ([USER], GOOD["content"])
    assert not Judgment.objects.exists()


def test_alpaca_input_history_and_system_are_part_of_the_prompt(project, tmp_path):
    row = {
        "instruction": "Translate.",
        "input": "Guten Tag",
        "output": "Good day",
        "system": "Be brief.",
        "history": [["Hello", "Hi!"]],
    }
    run(project, write_rows(tmp_path / "x.json", row))
    turns = [(turn["role"], turn["content"]) for turn in Prompt.objects.get().messages]
    assert turns == [
        ("system", "Be brief."),
        ("user", "Hello"),
        ("assistant", "Hi!"),
        ("user", "Translate.\nGuten Tag"),
    ]


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "parquet"])
def test_every_container_gives_the_same_rows(project, tmp_path, suffix):
    rows = [
        {"prompt": 'What?\nAnd, "why"?', "chosen": "ä 漢 🙂", "rejected": "none"},
        {"prompt": "Who?", "chosen": "1,5", "rejected": "2"},
    ]
    run(project, write_rows(tmp_path / f"x.{suffix}", *rows))
    texts = set(Response.objects.values_list("text", flat=True))
    assert texts == {"ä 漢 🙂", "none", "1,5", "2"}
    assert Prompt.objects.first().last_user_turn == rows[0]["prompt"]


def test_json_lines_under_the_name_json_and_a_byte_order_mark(project, tmp_path):
    path = tmp_path / "x.json"
    lines = "".join(
        json.dumps(PREFERENCES["plain"] | {"prompt": f"{n}?"}) + "\r\n\r\n"
        for n in range(2)
    )
    path.write_text("\ufeff" + lines)
    assert run(project, path).counts["tasks"] == 2


def test_semicolons_and_tabs_separate_columns_too(project, tmp_path):
    for n, delimiter in enumerate(";\t"):
        path = tmp_path / f"{n}.csv"
        path.write_text(
            delimiter.join(("prompt", "chosen", "rejected"))
            + f"\n{delimiter.join((f'{n}?', 'yes', 'no'))}\n"
        )
        assert run(project, path).counts["tasks"] == 1


# --- several responses, pairs -----------------------------------------------


def _answers(tmp_path: Path) -> Path:
    rows = [
        {"prompt_id": "p1", "prompt": "Why?", "model": model, "response": f"by {model}"}
        for model in ("x:1", "y:2", "z")
    ]
    return write_rows(tmp_path / "answers.jsonl", *rows)


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ("", {"x:1 y:2", "x:1 z", "y:2 z"}),
        ("all", {"x:1 y:2", "x:1 z", "y:2 z"}),
        ("adjacent", {"x:1 y:2", "y:2 z"}),
        ("none", set()),
        ("x:1:z", {"x:1 z"}),
        ("y:2:x:1", {"x:1 y:2"}),
    ],
)
def test_pairs_are_made_as_asked(project, tmp_path, pairs, expected):
    path, options = _answers(tmp_path), ImportOptions(pairs=pairs)
    report = check_files(project, [path], options)
    batch = import_files(project, [path], options)
    made = {
        f"{task.response_a.model_name} {task.response_b.model_name}"
        for task in Task.objects.select_related("response_a", "response_b")
    }
    assert made == expected
    assert batch.counts["tasks"] == report.counts.get("tasks", 0) == len(expected)


def test_a_list_of_responses_makes_pairs_and_identical_ones_are_counted(
    project, tmp_path
):
    row = {"prompt": "Why?", "responses": ["a", "b", "a"], "models": ["x", "y", "z"]}
    batch = run(project, write_rows(tmp_path / "x.jsonl", row))
    assert batch.counts["responses"] == 3
    assert batch.counts["tasks"] == 2
    assert batch.counts["identical_pairs"] == 1


def test_an_identical_preference_pair_is_counted_and_makes_no_task(project, tmp_path):
    row = {"prompt": "Why?", "chosen": "same\r\n", "rejected": "same\n"}
    batch = run(project, write_rows(tmp_path / "x.jsonl", row))
    assert batch.counts["identical_pairs"] == 1
    assert batch.counts["tasks"] == batch.counts["judgments"] == 0


def test_a_later_model_is_paired_with_those_that_are_there(project, tmp_path):
    run(project, _answers(tmp_path))
    late = {"prompt_id": "p1", "model": "new", "response": "by new"}
    batch = run(project, write_rows(tmp_path / "late.jsonl", late))
    assert batch.counts["tasks"] == 3
    assert Task.objects.count() == 6


def test_comparisons_are_pairs_with_or_without_a_verdict(project, tmp_path):
    row = {"prompt": "Why?", "response_a": "one", "response_b": "two", "model_a": "m"}
    run(project, write_rows(tmp_path / "x.jsonl", row))
    assert (Task.objects.count(), Judgment.objects.count()) == (1, 0)

    for verdict in ("a", "model_b", "tie", "both bad"):
        judged = row | {"verdict": verdict, "judge": verdict}
        run(project, write_rows(tmp_path / "y.jsonl", judged))
    assert Task.objects.count() == 1
    of_one = "a" if Task.objects.get().response_a.text == "one" else "b"
    of_two = "b" if of_one == "a" else "a"
    found = dict(Judgment.objects.values_list("judge_name", "verdict"))
    assert found == {
        "a": of_one, "model_b": of_two, "tie": "tie", "both bad": "both_bad",
    }  # fmt: skip


def test_a_named_judge_model_makes_model_judgments(project, tmp_path):
    path = write_rows(tmp_path / "x.jsonl", PREFERENCES["plain"])
    run(project, path, judge="gpt-4", judge_kind="model")
    judgment = Judgment.objects.get()
    assert (judgment.source, judgment.judge_name) == ("model", "gpt-4")


def test_columns_are_renamed_first(project, tmp_path):
    row = {"question": "Why?", "win": "yes", "lose": "no", "noise": 1}
    run(
        project,
        write_rows(tmp_path / "x.csv", row),
        map={"question": "prompt", "win": "chosen", "lose": "rejected"},
    )
    assert Prompt.objects.get().last_user_turn == "Why?"


# --- kinds ------------------------------------------------------------------


def test_labels_are_refused_in_a_pairwise_project(project, tmp_path):
    path = write_rows(tmp_path / "kto.jsonl", LABELLED["plain"])
    with pytest.raises(ImportRefused, match="made with --kind binary"):
        run(project, path)
    assert not ImportBatch.objects.exists()


def test_preferences_are_refused_in_a_binary_project(binary, tmp_path):
    path = write_rows(tmp_path / "dpo.jsonl", PREFERENCES["plain"])
    with pytest.raises(ImportRefused, match="made with --kind pairwise"):
        run(binary, path)
    assert not ImportBatch.objects.exists()


def test_pairs_are_refused_in_a_binary_project(binary, tmp_path):
    with pytest.raises(ImportRefused, match="is binary and has no pairs"):
        run(binary, _answers(tmp_path), pairs="all")


# --- our own files, and real ones -------------------------------------------


def test_the_sample_project_is_read_whole(project):
    names = ("prompts", "responses", "judgments")
    paths = [SAMPLE / f"{name}.jsonl" for name in names]
    rows = {path.stem: [json.loads(line) for line in path.open()] for path in paths}
    batch = run(project, *reversed(paths))
    assert batch.counts["prompts"] == len(rows["prompts"])
    assert batch.counts["responses"] == len(rows["responses"])
    pairs = {frozenset((r["response_a"], r["response_b"])) for r in rows["judgments"]}
    assert batch.counts["tasks"] == len(pairs)

    for row in rows["judgments"]:
        judgment = Judgment.objects.get(
            judge_name=row["judge"],
            task__response_a__external_id__in=(row["response_a"], row["response_b"]),
            task__response_b__external_id__in=(row["response_a"], row["response_b"]),
        )
        names_of = {"a": row["response_a"], "b": row["response_b"]}
        stored_of = {
            "a": judgment.task.response_a.external_id,
            "b": judgment.task.response_b.external_id,
        }
        assert names_of.get(row["verdict"]) == stored_of.get(judgment.verdict)
        assert judgment.source == "imported"


@pytest.mark.skipif(not DEMOS.is_dir(), reason="the demo files are not beside us")
def test_the_demo_files_are_read_whole(project, binary):
    dpo = run(project, DEMOS / "dpo_en_demo.json")
    assert (dpo.n_rows, dpo.counts["prompts"], dpo.counts["tasks"]) == (300, 295, 295)
    assert dpo.counts["repeated"]["tasks"] == 5
    won = {
        (j.task.prompt.last_user_turn, getattr(j.task, f"response_{j.verdict}").text)
        for j in Judgment.objects.select_related(
            "task__prompt", "task__response_a", "task__response_b"
        )
    }
    for row in json.loads((DEMOS / "dpo_en_demo.json").read_text()):
        assert (row["conversations"][-1]["value"], row["chosen"]["value"]) in won

    kto = run(binary, DEMOS / "kto_en_demo.json")
    assert (kto.n_rows, kto.counts["tasks"], kto.counts["judgments"]) == (300,) * 3
    good = Judgment.objects.filter(project=binary, verdict="good").count()
    assert good == 150

    alpaca = run(project, DEMOS / "alpaca_en_demo.json")
    assert (alpaca.n_rows, alpaca.counts["responses"]) == (999, 985)
    assert alpaca.counts["repeated"]["responses"] == 14
