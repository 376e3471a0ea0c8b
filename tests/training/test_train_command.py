"""manage.py train and make_starter_model: a sentence, a queue entry, or a model."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from tests.builders import make_prompt, make_response
from training import foreground
from training.management.commands.make_starter_model import write_texts
from training.models import Run

FAKE_TRAINER = Path(__file__).with_name("fake_trainer.py")


@pytest.fixture(autouse=True)
def _cheap(settings, tmp_path, monkeypatch):
    settings.TRAINER_COMMAND = [sys.executable, str(FAKE_TRAINER)]
    monkeypatch.chdir(tmp_path)


def write_spec(name: str = "job.yaml", **changes) -> str:
    values = {
        "job_name": "helpful",
        "algorithm": "dpo",
        "base_model": "org/tiny",
        "dataset_path": "org/pairs",
        "output_dir": "out",
        **changes,
    }
    Path(name).write_text(json.dumps(values))  # JSON is YAML too
    return name


def train(*words: str) -> str:
    out = io.StringIO()
    call_command("train", *words, stdout=out, stderr=io.StringIO())
    return out.getvalue()


def test_it_trains_now_without_a_database():
    answer = train(write_spec(), "--now")
    assert "completed after 10" in answer
    assert str(Path("out/final").absolute()) in answer
    config = json.loads(Path("out/config.json").read_text())
    assert config["output_dir"] == "."


def test_paths_are_named_from_here():
    Path("tiny").mkdir()
    train(write_spec(base_model="tiny"), "--now")
    config = json.loads(Path("out/config.json").read_text())
    assert config["base_model"] == str(Path("tiny").absolute())


def test_values_can_be_set_on_the_way():
    train(write_spec(), "--now", "--set", "peft.r=16", "--set", "learning_rate=0.001")
    config = json.loads(Path("out/config.json").read_text())
    assert config["peft"]["r"] == 16
    assert config["learning_rate"] == 0.001


def test_json_is_the_result():
    assert json.loads(train(write_spec(), "--now", "--json"))["status"] == "completed"


@pytest.mark.parametrize(
    ("plan", "sentence"), [("do=fail", "No rows."), ("do=crash", "was refused")]
)
def test_a_failure_is_told_with_its_log(plan, sentence):
    with pytest.raises(CommandError, match=sentence) as told:
        train(write_spec(job_name=plan), "--now")
    assert "log.txt" in str(told.value)
    assert "hf_" not in str(told.value)


def test_a_directory_with_a_run_is_not_written_over():
    train(write_spec(), "--now")
    with pytest.raises(CommandError, match="holds a run already"):
        train(write_spec(), "--now")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["missing.yaml", "--now"], "missing.yaml cannot be read"),
        (["job.ai", "--now"], "N3 files cannot be read yet"),
        (["job.yaml", "--now", "--set", "learning_rat=1"], "did you mean"),
        (["job.yaml", "--now", "--set", "nonsense"], "KEY=VALUE"),
        (["job.yaml"], "--project"),
    ],
)
def test_it_refuses_with_one_sentence(words, sentence):
    write_spec()
    with pytest.raises(CommandError, match=sentence):
        train(*words)
    assert not Path("out").exists()


def test_it_queues_a_run_of_a_project(project):
    answer = train(write_spec(), "--project", project.slug)
    run = Run.objects.get()
    assert answer == f"Run {run.pk} (helpful) is queued.\n"
    assert (run.project, run.state, run.name) == (project, "queued", "helpful")
    assert json.loads(train(write_spec(project=project.name), "--json"))["run"]


@pytest.mark.django_db
def test_an_unknown_project_is_named():
    with pytest.raises(CommandError, match="There is no project 'x'"):
        train(write_spec(), "--project", "x")


# --- make_starter_model ---


def test_every_text_of_the_project_is_used(project, tmp_path):
    answered = make_prompt(project, "Answered?")
    make_response(answered, "Yes.")
    make_response(answered, "No.")
    make_prompt(project, "Not answered?")
    conversations, prompts = write_texts(project, tmp_path)
    rows = [json.loads(line) for line in conversations.read_text().splitlines()]
    assert [row["messages"][-1]["content"] for row in rows] == ["Yes.", "No."]
    assert json.loads(prompts.read_text()) == {"text": "Not answered?"}


def test_it_says_what_was_made(project, tmp_path, monkeypatch):
    report = {
        "parameters": 1000,
        "texts": 20,
        "seconds": 1.0,
        "held_out_texts": 8,
        "perplexity_before": 900.0,
        "perplexity_after": 12.5,
    }
    told = [{"kind": "completed", "message": "", "report": report}]
    monkeypatch.setattr(foreground, "make_starter_model", lambda spec: iter(told))
    out = io.StringIO()
    folder = str(tmp_path / "model")
    call_command("make_starter_model", project.slug, "--out", folder, stdout=out)
    assert "900.0 before, 12.5 after" in out.getvalue()


def test_a_failure_to_make_it_is_one_sentence(project, tmp_path, monkeypatch):
    told = [{"kind": "failed", "message": "Give at least 20 texts."}]
    monkeypatch.setattr(foreground, "make_starter_model", lambda spec: iter(told))
    with pytest.raises(CommandError, match="at least 20 texts"):
        call_command("make_starter_model", project.slug, "--out", str(tmp_path / "m"))
    with pytest.raises(CommandError, match="there already"):
        call_command("make_starter_model", project.slug, "--out", str(tmp_path))
