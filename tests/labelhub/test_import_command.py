"""`create_project`, `import_data` and `remove_import`, as they are typed."""

from __future__ import annotations

import json

import pytest
from django.core.management import CommandError, call_command

from labelhub.models import ImportBatch, Project, Task
from tests.labelhub.test_import_formats import write_rows

PAIR = {"prompt": "Why?", "chosen": "yes", "rejected": "no"}


@pytest.fixture
def path(tmp_path):
    return write_rows(tmp_path / "x.jsonl", PAIR)


def test_a_project_is_made_with_its_guidelines(db, tmp_path, capsys):
    guidelines = tmp_path / "guidelines.md"
    guidelines.write_text("Prefer the *true* answer.")
    call_command(
        "create_project",
        "Helpful answers",
        "--kind=pairwise",
        "--judgments-per-task=3",
        f"--guidelines={guidelines}",
    )
    project = Project.objects.get(slug="helpful-answers")
    assert (project.kind, project.judgments_per_task) == ("pairwise", 3)
    assert (project.allow_tie, project.lease_seconds) == (True, 1800)
    assert project.current_guideline().text == "Prefer the *true* answer."
    assert "helpful-answers" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["x", "--kind=pairwise", "--judgments-per-task=0"], "judgments-per-task: "),
        (["!!!", "--kind=pairwise"], "at least one letter or digit"),
        (["x", "--kind=triple"], "invalid choice: 'triple'"),
        (["x", "--kind=binary", "--guidelines=no.md"], "no.md cannot be read: No such"),
    ],
)
def test_a_project_that_cannot_be_is_refused(db, arguments, sentence):
    with pytest.raises(CommandError) as caught:
        call_command("create_project", *arguments)
    assert sentence in str(caught.value)
    assert not Project.objects.exists()


def test_a_second_project_of_that_name_is_refused(project):
    with pytest.raises(CommandError, match="already"):
        call_command("create_project", project.name, "--kind=pairwise")


@pytest.mark.parametrize("by", ["slug", "name"])
def test_a_project_is_named_by_slug_or_name(project, path, capsys, by):
    call_command("import_data", getattr(project, by), path)
    batch = ImportBatch.objects.get()
    out, err = capsys.readouterr()
    assert out == (
        f"Imported as batch {batch.pk}: 1 prompts, 2 responses, 1 tasks,"
        " 1 judgments, of 1 rows.\n"
    )
    assert err == ""  # quiet in a pipe

    call_command("import_data", project.slug, path)
    said = capsys.readouterr().out
    assert said == f"Already imported as batch {batch.pk}: nothing new.\n"


def test_json_has_the_counts(project, path, capsys):
    call_command("import_data", project.slug, path, "--json")
    said = json.loads(capsys.readouterr().out)
    assert (said["rows"], said["tasks"], said["repeat"]) == (1, 1, False)
    call_command("import_data", project.slug, path, "--json")
    assert json.loads(capsys.readouterr().out)["repeat"] is True


def test_a_dry_run_shows_examples(project, path, capsys):
    call_command("import_data", project.slug, path, "--dry-run")
    said = capsys.readouterr().out
    assert "x.jsonl: 1 rows, preference: prompt, chosen, rejected" in said
    assert "would get 1 prompts, 2 responses, 1 tasks, 1 judgments." in said
    assert "  user: Why?\n  -> response: yes\n  -> response: no\n" in said
    call_command("import_data", project.slug, path, "--dry-run", "--json")
    assert json.loads(capsys.readouterr().out)["tasks"] == 1
    assert not Task.objects.exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Name a project and at least one file."),
        (["nowhere", "x.jsonl"], "There is no project 'nowhere'. There are: "),
        (["{slug}"], "There is no file to import."),
        (["{slug}", "no.jsonl"], "no.jsonl cannot be read: No such file"),
        (["{slug}", "no.jsonl", "--map=x"], "--map 'x' is not FROM=TO."),
        (["--batch=99"], "There is no import 99."),
    ],
)
def test_a_failure_is_one_sentence(project, arguments, sentence):
    with pytest.raises(CommandError) as caught:
        call_command("import_data", *(a.format(slug=project.slug) for a in arguments))
    assert str(caught.value).startswith(sentence) or sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_import_is_removed_by_its_number(project, path, capsys):
    call_command("import_data", project.slug, path)
    batch = ImportBatch.objects.get()
    call_command("remove_import", project.slug, batch.pk)
    assert f"Removed import {batch.pk}." in capsys.readouterr().out
    assert not Task.objects.exists()

    with pytest.raises(CommandError, match=f"It has: {batch.pk}"):
        call_command("remove_import", project.slug, batch.pk + 1)
