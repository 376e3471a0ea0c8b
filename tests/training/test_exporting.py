"""Freezing: what is exported, what is left out, and that it never changes."""

from __future__ import annotations

import csv
import io
import itertools
import json
import random
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, transaction

from labelhub.models import Event, Judgment, Project, Response, Task
from tests.builders import (
    make_judgment,
    make_project,
    make_prompt,
    make_response,
    make_task,
)
from training import exporting, previewing
from training.exporting import ExportError
from training.models import Snapshot
from training.models.snapshot import FrozenError
from training.recipes import VERSION, Recipe, RecipeError
from training.storage import StorageError, open_store


@pytest.fixture
def binary(db) -> Project:
    return make_project("Thumbs", kind="binary")


def freeze(project: Project, algorithm: str = "dpo", **fields) -> Snapshot:
    fields.setdefault("eval_share", 0)
    return exporting.freeze(project, Recipe(algorithm=algorithm, **fields))


def rows_of(snapshot: Snapshot, name: str = "train") -> list[dict]:
    return _table(snapshot, f"{name}.parquet").to_pylist()


def left_out(snapshot: Snapshot) -> dict[int, str]:
    rows = _table(snapshot, "ledger.parquet").to_pylist()
    return {row["task_id"]: row["left_out"] for row in rows}


def _table(snapshot, name):
    with open_store().open(f"{snapshot.uri}/{name}") as file:
        return pq.read_table(file)


def judge(task: Task, *verdicts: str, **fields) -> Task:
    for verdict in verdicts:
        make_judgment(task, verdict, **fields)
    return task


def said(text: str, role: str = "assistant") -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


# --- Rows ---------------------------------------------------------------------


def voted(project, *votes: tuple[str, int]) -> Task:
    task = make_task(project)
    for verdict, strength in votes:
        make_judgment(task, verdict, strength=strength)
    return task


def test_strength_is_the_mean_over_the_votes_for_the_winner(project):
    voted(project, ("a", 3), ("a", 2), ("b", 3))
    voted(project, ("b", 1))
    voted(project, ("a", 0))
    rows = {r["task_id"]: r for r in rows_of(freeze(project))}
    assert [rows[pk]["strength"] for pk in sorted(rows)] == [2.5, 1.0, None]
    assert all("margin" not in row for row in rows.values())


@pytest.mark.parametrize("verdict", ["a", "b"])
def test_the_margin_of_a_pair_is_positive_whoever_won(project, verdict):
    """A sign that turned with the sides would teach the opposite."""
    voted(project, (verdict, 2))
    snapshot = freeze(project, "reward", margins="strength")
    [row] = rows_of(snapshot)
    task = Task.objects.get()
    winner = task.response_a if verdict == "a" else task.response_b
    assert row["chosen"] == said(winner.text)
    assert row["margin"] == row["strength"] == 2.0
    assert snapshot.recipe["margins"] == "strength"
    # The same rows, but not the same content: a margin is trained on.
    assert snapshot.sha256 != freeze(project, "reward").sha256


@pytest.mark.parametrize(
    ("algorithm", "asked", "n_left"), [("dpo", 2, 3), ("kto", 2, 3), ("sft", 3, 4)]
)
def test_weak_preferences_are_left_out_for_that_reason(
    project, algorithm, asked, n_left
):
    voted(project, ("a", 2))
    voted(project, ("a", 1), ("a", 2))
    voted(project, ("b", 1))
    voted(project, ("b", 0))
    voted(project, ("b", 3))
    voted(project, ("tie", 0))
    snapshot = freeze(project, algorithm, min_strength=asked)
    counts = Counter(left_out(snapshot).values())
    assert counts == {"min_strength": n_left, "tie": 1}
    recipe = Recipe(algorithm=algorithm, min_strength=asked)
    seen = previewing.preview(previewing.patterns_of(project), recipe)
    assert seen.left_out == counts


def test_strengths_change_no_hash_where_nobody_gave_one(project):
    """The content of a dataset from before there was a scale keeps its name."""
    judge(make_task(project, "2 + 2?", "5", "4"), "b")
    assert freeze(project).sha256 == (
        "996a92c16eb44a80b28cbdda01db886f4311f13038bdc165fa44518c561026c0"
    )


def test_a_pair_has_the_winner_chosen(project):
    task = judge(make_task(project, "2 + 2?", "5", "4"), "b", "b", "a")
    snapshot = freeze(project)
    assert rows_of(snapshot) == [
        {
            "prompt": said("2 + 2?", "user"),
            "chosen": said("4"),
            "rejected": said("5"),
            "strength": None,
            "task_id": task.pk,
            "judgment_ids": sorted(task.judgments.values_list("pk", flat=True)),
            "prompt_id": task.prompt_id,
            "votes_for": 2,
            "votes_against": 1,
            "n_votes": 3,
            "source": "imported",
        }
    ]
    assert (snapshot.state, snapshot.n_train, snapshot.n_eval) == ("ready", 1, 0)


def test_a_pair_makes_a_good_and_a_bad_row_for_kto(project):
    judge(make_task(project, "2 + 2?", "5", "4"), "b")
    judge(make_task(project, "1 + 1?", "3", "11"), "both_bad")
    judge(make_task(project, "0 + 0?", "0", "zero"), "tie")
    rows = rows_of(freeze(project, "kto"))
    labels = {row["completion"][0]["content"]: row["label"] for row in rows}
    assert labels == {"4": True, "5": False, "3": False, "11": False}


def test_kto_rows_are_shuffled_over_the_whole_file(project):
    """KTO reads in order, and compares a row with its neighbour's answer."""
    for n in range(60):
        judge(make_task(project, f"What is {n}?"), "a")
    rows = rows_of(freeze(project, "kto"))
    labels = [row["label"] for row in rows]
    neighbours = sum(
        one["prompt_id"] == other["prompt_id"]
        for one, other in itertools.pairwise(rows)
    )
    assert 20 < sum(labels[:60]) < 40
    assert neighbours < 10


def test_thumbs_are_labels(binary):
    judge(make_task(binary, "2 + 2?", "4"), "good")
    judge(make_task(binary, "1 + 1?", "3"), "bad")
    rows = rows_of(freeze(binary, "kto"))
    labels = {row["completion"][0]["content"]: row["label"] for row in rows}
    assert labels == {"4": True, "3": False}


def test_what_was_judged_good_is_imitated(binary):
    judge(make_task(binary, "2 + 2?", "4"), "good")
    bad = judge(make_task(binary, "1 + 1?", "3"), "bad")
    snapshot = freeze(binary, "sft")
    assert [row["completion"] for row in rows_of(snapshot)] == [said("4")]
    assert left_out(snapshot) == {bad.pk: "bad"}


def test_a_winner_of_many_pairs_is_imitated_once(project):
    prompt = make_prompt(project, "2 + 2?")
    best, *others = (make_response(prompt, text) for text in ("4", "5", "6"))
    for n, other in enumerate(others):
        task = Task.objects.create(
            project=project,
            prompt=prompt,
            response_a=best,
            response_b=other,
            status="open",
            shuffle_key=n,
        )
        judge(task, "a", "a")
    snapshot = freeze(project, "sft")
    (row,) = rows_of(snapshot)
    assert row["completion"] == said("4")
    assert len(row["judgment_ids"]) == row["votes_for"] == 4
    assert (snapshot.ledger["exported"], snapshot.ledger["rows"]) == (2, 1)


def test_demonstrations_are_imitated_where_nobody_judged_them(project):
    shown = make_response(make_prompt(project, "Why?"), "Because.")
    Response.objects.update(is_demonstration=True)
    judge(make_task(project, "2 + 2?", "4", "5"), "a")
    snapshot = freeze(project, "sft")
    sources = {row["completion"][0]["content"]: row for row in rows_of(snapshot)}
    assert sources[shown.text]["source"] == "demonstration"
    assert sources[shown.text]["task_id"] is None
    assert sources["4"]["source"] == "imported"
    assert snapshot.ledger["demonstrations"] == 1
    assert snapshot.ledger["exported"] == 1


def test_a_demonstration_that_was_judged_bad_is_no_example(binary):
    judge(make_task(binary, "2 + 2?", "5"), "bad")
    Response.objects.update(is_demonstration=True)
    judge(make_task(binary, "1 + 1?", "2"), "good")
    rows = rows_of(freeze(binary, "sft"))
    assert [row["completion"] for row in rows] == [said("2")]


def test_ppo_gets_each_judged_prompt_once(project):
    prompt = make_prompt(project, "2 + 2?")
    judge(make_task(project, prompt), "a")
    judge(make_task(project, prompt), "tie", "b")
    (row,) = rows_of(freeze(project, "ppo"))
    assert row["prompt"] == said("2 + 2?", "user")
    assert row["n_votes"] == 3


def test_a_conversation_is_kept_whole(project):
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "2 + 2? שלום 🙂"},
    ]
    judge(make_task(project, make_prompt(project, "x", messages=messages)), "a")
    assert rows_of(freeze(project))[0]["prompt"] == messages


# --- Who is heard -------------------------------------------------------------


def test_only_standing_judgments_count(project):
    task = make_task(project, "2 + 2?", "4", "5")
    old = make_judgment(task, "b", judge_name="ann")
    new = make_judgment(task, "a", judge_name="ann", revision=2, external_id="2")
    Judgment.objects.filter(pk=old.pk).update(superseded_by=new)
    (row,) = rows_of(freeze(project))
    assert row["chosen"] == said("4")
    assert row["judgment_ids"] == [new.pk]


def test_surplus_judgments_are_kept_but_do_not_vote(project):
    """What is exported must not hang on who happened to be late."""
    task = judge(make_task(project, "2 + 2?", "4", "5"), "a")
    judge(task, "b", "b", surplus=True)
    snapshot = freeze(project)
    (row,) = rows_of(snapshot)
    assert (row["chosen"], row["n_votes"]) == (said("4"), 1)
    voted = Counter(_table(snapshot, "judgments.parquet")["voted"].to_pylist())
    assert voted == {True: 1, False: 2}
    assert snapshot.statistics["sources"] == {"imported": 3}
    assert snapshot.statistics["surplus"] == 2


def test_tasks_of_an_unfinished_import_are_not_there_yet(project):
    judge(make_task(project, "2 + 2?"), "a")
    judge(make_task(project, "1 + 1?", status="loading"), "a")
    assert freeze(project).ledger["judged"] == 1


def test_the_statistics_know_who_won_how_and_where(project):
    """The short response of one model wins each time, and is on the left."""
    for n in range(3):
        task = make_task(project, f"{n}?", "long and winding", "short")
        Response.objects.filter(pk=task.response_a_id).update(model_name="large")
        Response.objects.filter(pk=task.response_b_id).update(model_name="small")
        judge(task, "b", shown_left="b")
    found = freeze(project).statistics
    assert found["wins"] == [{"winner": "small", "loser": "large", "n": 3}]
    assert found["length_bias"]["value"] == 0
    assert found["position_bias"]["value"] == 1


def test_other_projects_are_not_heard(project):
    judge(make_task(project, "2 + 2?"), "a")
    judge(make_task(make_project("Other"), "2 + 2?"), "a")
    assert freeze(project).ledger["judged"] == 1


# --- The ledger ---------------------------------------------------------------


def test_every_reason_stands_in_the_ledger_by_task(project):
    kept = judge(make_task(project), "a", "a", "b")
    expected = {
        judge(make_task(project), "a", "b").pk: "min_votes",
        judge(make_task(project), "a", "b", "tie").pk: "no_majority",
        judge(make_task(project), "tie", "tie", "a").pk: "tie",
        judge(make_task(project), "both_bad", "both_bad", "a").pk: "both_bad",
        judge(make_task(project), "a", "a", "a", source="model").pk: "judges",
        judge(make_task(project, status="retired"), "a", "a", "a").pk: "retired",
        judge(make_task(project, repeat_of=kept), "a", "a", "a").pk: "repeat",
    }
    make_task(project)
    snapshot = freeze(project, min_votes=3)
    assert left_out(snapshot) == expected
    assert snapshot.ledger == {
        "judged": 8,
        "exported": 1,
        "left_out": dict.fromkeys(snapshot.ledger["left_out"], 1),
        "rows": 1,
        "demonstrations": 0,
    }


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("algorithm", ["dpo", "kto", "sft", "ppo"])
def test_any_ledger_adds_up_and_the_preview_told_it(db, algorithm, seed):
    chance = random.Random(seed)
    kind = "pairwise" if algorithm == "dpo" else chance.choice(["pairwise", "binary"])
    project = make_project(kind=kind)
    _judge_at_random(project, chance)
    others = chance.sample(["human", "feedback", "model"], 2)
    recipe = Recipe(
        algorithm=algorithm,
        min_votes=chance.choice([1, 2]),
        judges=("imported", *others),
        eval_share=chance.choice([0, 0.2, 0.5]),
        seed=seed,
    )
    promised = previewing.preview(previewing.patterns_of(project), recipe)
    snapshot = exporting.freeze(project, recipe)
    ledger = snapshot.ledger

    assert ledger["judged"] == ledger["exported"] + sum(ledger["left_out"].values())
    assert ledger["judged"] == project.tasks.exclude(judgments=None).count()
    assert Counter(left_out(snapshot).values()) == ledger["left_out"]
    assert (promised.judged, promised.exported, dict(promised.left_out)) == (
        *(ledger["judged"], ledger["exported"]),
        ledger["left_out"],
    )
    train, evaluation = rows_of(snapshot), _rows_or_none(snapshot, "eval")
    assert ledger["rows"] == len(train) + len(evaluation)
    shared = {row["prompt_id"] for row in train} & {
        row["prompt_id"] for row in evaluation
    }
    assert not shared


def _judge_at_random(project: Project, chance: random.Random) -> None:
    prompts = [make_prompt(project) for _ in range(8)]
    verdicts = ["a", "b", "tie", "both_bad"]
    if project.kind == "binary":
        verdicts = ["good", "bad"]
    for _ in range(40):
        task = make_task(
            project,
            chance.choice(prompts),
            status=chance.choice(["open", "open", "open", "done", "retired"]),
        )
        for _ in range(chance.randrange(5)):
            make_judgment(
                task,
                chance.choice(verdicts),
                source=chance.choice(["imported", "imported", "feedback", "model"]),
                surplus=chance.random() < 0.1,
            )
    Response.objects.filter(pk__in=chance.sample(_response_ids(project), 5)).update(
        is_demonstration=True
    )


def _response_ids(project: Project) -> list[int]:
    responses = Response.objects.filter(prompt__project=project)
    return sorted(responses.values_list("pk", flat=True))


def _rows_or_none(snapshot: Snapshot, name: str) -> list[dict]:
    return rows_of(snapshot, name) if snapshot.n_eval else []


# --- The split ----------------------------------------------------------------


def test_the_split_is_by_prompt_and_exact(project):
    for n in range(30):
        prompt = make_prompt(project, f"What is {n}?")
        for _ in range(3):
            judge(make_task(project, prompt), "a")
    snapshot = freeze(project, eval_share=0.1)
    train, evaluation = rows_of(snapshot), rows_of(snapshot, "eval")
    assert len({row["prompt_id"] for row in evaluation}) == 3
    assert len({row["prompt_id"] for row in train}) == 27
    assert (snapshot.n_train, snapshot.n_eval) == (81, 9)
    assert snapshot.statistics["prompts"] == {"train": 27, "eval": 3}


def test_another_seed_keeps_other_prompts(project):
    for n in range(30):
        judge(make_task(project, f"What is {n}?"), "a")
    kept = {
        frozenset(row["prompt_id"] for row in rows_of(found, "eval"))
        for found in (freeze(project, eval_share=0.3, seed=seed) for seed in range(3))
    }
    assert len(kept) == 3


@pytest.mark.parametrize(
    ("n", "share", "n_eval"), [(2, 0.1, 1), (2, 0.9, 1), (1, 0.5, 0)]
)
def test_neither_side_of_the_split_is_empty(project, n, share, n_eval):
    for _ in range(n):
        judge(make_task(project), "a")
    snapshot = freeze(project, eval_share=share)
    assert (snapshot.n_train, snapshot.n_eval) == (n - n_eval, n_eval)


# --- The same again -----------------------------------------------------------


def test_the_same_judgments_give_the_same_bytes(project):
    _judge_at_random(project, random.Random(1))
    one, other = (freeze(project, eval_share=0.2, seed=3) for _ in range(2))
    assert one.pk != other.pk
    assert one.files == other.files
    assert (one.sha256, one.uri) == (other.sha256, other.uri)


def test_the_hash_is_blind_to_database_ids(db):
    """The same import into two databases is the same dataset."""
    hashes = []
    for name, order in (("One", range(12)), ("Two", reversed(range(12)))):
        project = make_project(name)
        for n in order:
            judge(make_task(project, f"What is {n}?", f"{n}", f"{n + 1}"), "ab"[n % 2])
        hashes.append([freeze(project, a, eval_share=0.25).sha256 for a in _EVERY])
    assert hashes[0] == hashes[1]
    assert len(set(hashes[0])) == len(_EVERY)


_EVERY = ("dpo", "kto", "sft", "ppo")


def test_the_same_judgments_give_the_hashes_they_always_gave(project):
    """Where these must change, VERSION of the recipe does."""
    prompts = [make_prompt(project, f'Is “{n}” "\\%s"?\n') for n in range(9)]
    for n in range(40):
        task = make_task(project, prompts[n % 9], f"{n}\t√é", f"{n} no")
        judge(task, *("a", "b", "tie", "a", "both_bad")[n % 5 : n % 7 + 1])
        judge(task, "b", source="model")
        judge(task, "b", surplus=True)
    Response.objects.filter(text__in=["3\t√é", "4 no"]).update(is_demonstration=True)
    everybody = ("imported", "model")
    found = {
        algorithm: freeze(project, algorithm, judges=everybody, eval_share=0.25).sha256
        for algorithm in _EVERY
    }
    assert VERSION == 1
    assert found == {
        "dpo": "ed491842cfc24ed795e8e2b85d678c4e623dcf6e492c7e56a7cc85371e2cd75c",
        "kto": "17151431bab8a4e78ff43edd7627be0076321849493f47d004cb7e3e741a1442",
        "sft": "0fc1c95d6842a2354cb51346b8c6dbb9197a0d6792b1dca080f718a7b1e7d58e",
        "ppo": "2593f29464329082166bc19a5f783aa994b0e11bd51d3da4e2e83c4ef79bbf71",
    }


def test_another_seed_gives_another_order(project):
    _judge_at_random(project, random.Random(1))
    assert freeze(project, seed=1).sha256 != freeze(project, seed=2).sha256


# --- It never changes ---------------------------------------------------------


def test_later_judgments_do_not_reach_it(project, tmp_path):
    task = judge(make_task(project, "2 + 2?", "4", "5"), "a")
    snapshot = freeze(project)
    judge(task, "b", "b", "b")
    judge(make_task(project), "a")
    snapshot.refresh_from_db()
    assert len(rows_of(snapshot)) == snapshot.ledger["rows"] == 1
    assert rows_of(snapshot)[0]["chosen"] == said("4")


def test_a_ready_snapshot_cannot_be_saved(project):
    judge(make_task(project), "a")
    snapshot = freeze(project)
    snapshot.ledger = {}
    with pytest.raises(FrozenError, match=f"Snapshot {snapshot.pk} is frozen"):
        snapshot.save()


def test_the_database_refuses_to_change_a_snapshot(project):
    judge(make_task(project), "a")
    snapshot = freeze(project)
    with pytest.raises(DatabaseError, match="never changes"), transaction.atomic():
        Snapshot.objects.filter(pk=snapshot.pk).update(ledger={})
    snapshot.refresh_from_db()
    assert snapshot.ledger["judged"] == 1


def test_of_two_processes_one_is_accepted(project):
    """The queue may start the work twice."""
    judge(make_task(project), "a")
    snapshot = exporting.begin(project, Recipe(algorithm="dpo"))
    twin = Snapshot.objects.get(pk=snapshot.pk)
    exporting.complete(snapshot)
    before = Snapshot.objects.filter(pk=snapshot.pk).values().get()
    judge(make_task(project), "a")
    exporting.complete(twin)
    assert Snapshot.objects.filter(pk=snapshot.pk).values().get() == before
    assert Event.objects.filter(verb="snapshot.frozen").count() == 1


def test_a_damaged_file_reaches_no_run(project, tmp_path, settings):
    judge(make_task(project), "a")
    snapshot = freeze(project)
    (path,) = Path(settings.ARTIFACT_STORE).rglob("train.parquet")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(StorageError, match="changed or is damaged"):
        exporting.fetch(snapshot, tmp_path / "data")


def test_a_run_gets_the_rows_and_their_story(project, tmp_path):
    for _ in range(4):
        judge(make_task(project), "a")
    exporting.fetch(freeze(project, eval_share=0.5), tmp_path / "data")
    names = sorted(path.name for path in (tmp_path / "data").iterdir())
    assert names == ["eval.parquet", "snapshot.json", "train.parquet"]


def test_a_snapshot_in_the_making_reaches_no_run(project, tmp_path):
    snapshot = exporting.begin(project, Recipe(algorithm="dpo"))
    with pytest.raises(ExportError, match="is freezing, not ready"):
        exporting.fetch(snapshot, tmp_path / "data")


# --- Refusals -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdicts", "fields", "sentence"),
    [
        ([], {}, "Nothing has been judged yet"),
        (["tie"], {}, r"Not one row for dpo can be made \(1 of 1 judged tasks: tie\)"),
        (["a", "b"], {}, "have them judged once more"),
        (["a"], {"min_votes": 2}, "ask for fewer than 2"),
        (["a"], {"judges": ("model",)}, "name more judges"),
    ],
)
def test_a_dataset_without_rows_is_refused(
    project, settings, verdicts, fields, sentence
):
    judge(make_task(project), *verdicts)
    with pytest.raises(ExportError, match=sentence):
        freeze(project, **fields)
    assert not Snapshot.objects.exists()
    assert not Path(settings.ARTIFACT_STORE).exists()
    assert not list(Path(settings.DATA_DIR).iterdir())


def test_pairs_of_thumbs_are_refused(binary):
    judge(make_task(binary), "good")
    with pytest.raises(RecipeError, match="make the dataset for kto or sft"):
        freeze(binary, "dpo")
    assert not Snapshot.objects.exists()


def test_a_failed_freeze_leaves_nothing(project, settings, monkeypatch):
    judge(make_task(project), "a")
    monkeypatch.setattr(exporting, "open_store", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        freeze(project)
    assert not Snapshot.objects.exists()
    assert not list(Path(settings.DATA_DIR).iterdir())


# --- The command --------------------------------------------------------------


def export_dataset(project: Project, *args: str) -> str:
    out = io.StringIO()
    call_command("export_dataset", project.slug, *args, stdout=out)
    return out.getvalue()


def test_the_command_writes_the_files_and_prints_the_ledger(project, tmp_path):
    for _ in range(9):
        judge(make_task(project), "a")
    judge(make_task(project), "tie")
    out = tmp_path / "dataset"
    printed = export_dataset(project, "--for", "dpo", "--out", str(out))
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md",
        "eval.parquet",
        "judgments.parquet",
        "ledger.parquet",
        "snapshot.json",
        "train.parquet",
    ]
    lines = [line.split() for line in printed.splitlines()[:3]]
    assert lines == [
        ["judged", "tasks", "10"],
        ["-", "tie", "1"],
        ["=", "exported", "9"],
    ]
    facts = json.loads((out / "snapshot.json").read_text())
    snapshot = Snapshot.objects.get()
    assert facts["sha256"] == snapshot.sha256
    assert facts["ledger"] == snapshot.ledger
    assert "path: train.parquet" in (out / "README.md").read_text()


def test_the_command_answers_a_script(project, tmp_path):
    judge(make_task(project), "a")
    printed = export_dataset(
        project, "--for", "reward", "--out", str(tmp_path / "out"), "--json"
    )
    assert json.loads(printed)["recipe"]["for"] == "reward_model"


def test_json_lines_hold_the_same_rows(project, tmp_path):
    for n in range(5):
        judge(make_task(project, f"What is {n}?"), "a")
    export_dataset(
        project, "--for", "kto", "--out", str(tmp_path / "o"), "--format", "jsonl"
    )
    lines = (tmp_path / "o" / "train.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == rows_of(Snapshot.objects.get())
    assert not (tmp_path / "o" / "train.parquet").exists()
    assert "path: train.jsonl" in (tmp_path / "o" / "README.md").read_text()
    facts = json.loads((tmp_path / "o" / "snapshot.json").read_text())
    assert "train.jsonl" in [file["name"] for file in facts["files"]]


def test_csv_holds_the_same_rows(project, tmp_path):
    judge(make_task(project, "=HYPERLINK(1)", '+1 "quoted",\nnewline', "@b"), "a")
    export_dataset(
        project, "--for", "dpo", "--out", str(tmp_path / "o"), "--format", "csv"
    )
    with (tmp_path / "o" / "train.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert json.loads(row["chosen"]) == said('+1 "quoted",\nnewline')
    assert not [cell for cell in row.values() if cell.startswith(("=", "+", "-", "@"))]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--for", "dpoo"], "for is 'dpoo'"),
        (["--for", "dpo", "--judges", "gpt"], "judges is 'gpt'"),
        (["--for", "dpo", "--judges", ","], "judges is empty"),
        (["--for", "dpo", "--eval-share", "1"], "eval_share is 1.0"),
        (["--for", "dpo", "--min-votes", "0"], "min_votes is 0"),
        (["--for", "dpo", "--ties", "coin"], "ties is 'coin'"),
        (["--for", "dpo", "--judges", "model"], "Not one row for dpo"),
    ],
)
def test_the_command_refuses_with_a_sentence(project, tmp_path, arguments, sentence):
    judge(make_task(project), "a")
    with pytest.raises(CommandError, match=sentence):
        export_dataset(project, *arguments, "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    assert not Snapshot.objects.exists()


def test_the_command_fills_no_folder_that_holds_something(project, tmp_path):
    judge(make_task(project), "a")
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(CommandError, match="is not empty: name another folder"):
        export_dataset(project, "--for", "dpo", "--out", str(tmp_path))
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert not Snapshot.objects.exists()


def test_the_command_names_the_projects_there_are(project, tmp_path):
    with pytest.raises(CommandError, match=f"'nope', only: {project.slug}"):
        call_command("export_dataset", "nope", "--for", "dpo", "--out", str(tmp_path))


# --- In a process of its own --------------------------------------------------


def test_the_queue_makes_a_waiting_snapshot(project):
    judge(make_task(project), "a")
    snapshot = exporting.begin(project, Recipe(algorithm="dpo"))
    call_command("freeze_snapshot", str(snapshot.pk))
    call_command("freeze_snapshot", str(snapshot.pk))
    snapshot.refresh_from_db()
    assert (snapshot.state, snapshot.progress) == ("ready", "")


def test_a_failure_is_told_in_the_row(project):
    judge(make_task(project), "tie")
    snapshot = exporting.begin(project, Recipe(algorithm="dpo"))
    with pytest.raises(CommandError, match="Not one row"):
        call_command("freeze_snapshot", str(snapshot.pk))
    snapshot.refresh_from_db()
    assert snapshot.state == "failed"
    assert snapshot.error.startswith("Not one row for dpo can be made")


# --- Killed -------------------------------------------------------------------


def test_rooms_of_killed_processes_are_cleared_away_and_those_in_use_stay(settings):
    settings.DATA_DIR.mkdir(parents=True)
    left = settings.DATA_DIR / "freezing-left"
    left.mkdir()
    (left / "scratch.sqlite3").touch()
    with exporting._own_room() as mine:
        assert not left.exists()
        with exporting._own_room() as other:
            assert other != mine
            assert mine.exists()
    assert list(settings.DATA_DIR.iterdir()) == []


def test_a_freeze_from_the_command_line_shows_that_it_lives(project):
    make_judgment(make_task(project), "a")
    assert exporting.freeze(project, Recipe(algorithm="dpo")).beat_at is not None
