from __future__ import annotations

import io
import json

import pytest
from django.core.management import CommandError, call_command

from labelhub.models import Prompt, Task
from tests.builders import make_judgment, make_project, make_task


def quality(project, *args: str) -> str:
    out = io.StringIO()
    call_command("quality", project.slug, *args, stdout=out)
    return out.getvalue()


def measured(project, source: str = "imported") -> dict:
    return json.loads(quality(project, "--json"))[source]


def test_it_measures_agreement_and_bias(project):
    for n, verdicts in enumerate([("a", "a"), ("a", "b"), ("tie", "tie"), ("b", "b")]):
        task = make_task(project, f"What is {n}?", "long answer", "short")
        for side, verdict in zip("ab", verdicts, strict=True):
            make_judgment(task, verdict, shown_left=side)
    found = measured(project)
    assert (found["agreement"]["value"], found["agreement"]["n"]) == (0.75, 4)
    assert found["alpha"]["n"] == 4
    # a a, a b, b b: the longer won three times, and on the left was a of a, b of b.
    assert (found["length_bias"]["value"], found["length_bias"]["n"]) == (0.5, 6)
    assert (found["position_bias"]["value"], found["position_bias"]["n"]) == (4 / 6, 6)


def test_sources_are_not_mixed(project):
    task = make_task(project)
    make_judgment(task, "a")
    make_judgment(task, "a")
    make_judgment(task, "b", source="model")
    assert measured(project)["agreement"]["value"] == 1.0
    found = measured(project, "model")["agreement"]
    assert found["because"] == "No task was judged by two people."


def test_nobody_agrees_with_himself(project):
    task = make_task(project)
    make_judgment(task, "a", judge_name="ann", external_id="1")
    make_judgment(task, "a", judge_name="ann", external_id="2")
    assert measured(project)["agreement"]["n"] == 0


def test_thumbs_have_no_sides(db):
    project = make_project("Thumbs", kind="binary")
    make_judgment(make_task(project), "good")
    found = measured(project)
    assert "agreement" in found
    assert not {"position_bias", "length_bias", "alpha_ordinal"} & set(found)


def test_it_prints_sentences(project):
    make_judgment(make_task(project), "a")
    printed = quality(project)
    assert "imported judgments" in printed
    assert "undefined: No task was judged by two people." in printed
    assert quality(make_project("Empty")) == "Nothing has been judged yet.\n"


def test_it_rejects_an_unknown_project(db):
    with pytest.raises(CommandError, match="There is no project 'nope'"):
        call_command("quality", "nope")


def test_each_person_is_measured(project):
    for n in range(20):
        task = make_task(project, f"What is {n}?")
        for name in ("ann", "ben"):
            make_judgment(task, "a" if n % 2 else "b", judge_name=name)
        make_judgment(task, "a", judge_name="cleo", shown_left="ab"[n % 2])
    found = measured(project)["judges"]
    assert list(found) == ["ann", "ben", "cleo"]
    assert found["ann"]["agreement"]["value"] == 0.75
    assert found["cleo"]["agreement"]["value"] == 0.5
    assert found["cleo"]["cohen"]["value"] == pytest.approx(0.0)
    assert found["cleo"]["position_bias"]["value"] == 0.5
    assert found["ann"]["position_bias"]["value"] is None


def test_a_repeat_measures_consistency_and_nothing_else(project):
    for n in range(10):
        task = make_task(project, f"What is {n}?")
        again = Task.objects.create(
            project=project,
            prompt=task.prompt,
            response_a=task.response_a,
            response_b=task.response_b,
            shuffle_key=0.5,
            status="open",
            repeat_of=task,
        )
        make_judgment(task, "a", judge_name="ann")
        make_judgment(again, "b" if n == 3 else "a", judge_name="ann")
        make_judgment(again, "b", judge_name="ben")
    found = measured(project)
    assert found["n_judgments"] == 10
    consistency = found["self_consistency"]
    assert (consistency["value"], consistency["n"]) == (0.9, 10)
    assert found["judges"]["ann"]["self_consistency"] == consistency
    assert found["agreement"]["n"] == 0


def test_judgments_by_nobody_known_are_nobodys(project):
    task = make_task(project)
    for n in range(3):
        make_judgment(task, "a", judge_name="", external_id=str(n))
    found = measured(project)
    assert found["agreement"]["n"] == 3
    assert found["judges"] == {}
    assert found["cohen"]["value"] is None


def test_names_may_hold_whatever_a_file_can_break_on(project):
    name = 'a "b",\n c\r\né'
    make_judgment(make_task(project), "tie", judge_name=name, shown_left="b")
    assert list(measured(project)["judges"]) == [name]


def test_prompts_of_a_category_are_a_slice(project):
    for n in range(6):
        task = make_task(project, f"What is {n}?")
        Prompt.objects.update(metadata={})
        Prompt.objects.filter(pk=task.prompt_id).update(metadata={"category": "x"})
        make_judgment(task, "a")
        make_judgment(task, "a" if n else "b")
    found = measured(project)["slices"]["category"]
    assert {name: part["agreement"]["n"] for name, part in found.items()} == {
        "none": 5,
        "x": 1,
    }
