from __future__ import annotations

import io
import json

import pytest
from django.core.management import CommandError, call_command

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
    assert found["alpha"]["n"] == 8
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
    assert set(measured(project)) == {"agreement", "alpha"}


def test_it_prints_sentences(project):
    make_judgment(make_task(project), "a")
    printed = quality(project)
    assert "imported judgments" in printed
    assert "undefined: No task was judged by two people." in printed
    assert quality(make_project("Empty")) == "Nothing has been judged yet.\n"


def test_it_rejects_an_unknown_project(db):
    with pytest.raises(CommandError, match="There is no project 'nope'"):
        call_command("quality", "nope")
