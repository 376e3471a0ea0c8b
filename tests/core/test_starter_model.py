"""A model from nothing but text: it learns, appears whole, and refuses too little."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.core.conftest import make_demonstrations, make_pairs, write_jsonl


@pytest.fixture
def starter_model(monkeypatch):
    """The module, with sizes that are taught for a second."""
    from training.core.data import starter_model

    short = replace(starter_model.SIZES["tiny"], steps=30, width=32, batch_tokens=512)
    monkeypatch.setattr(starter_model, "SIZES", {"tiny": short})
    return starter_model


def texts(count):
    return [row["messages"] for row in make_demonstrations(count)]


@pytest.mark.slow
def test_it_learns_the_language_and_says_how_well(starter_model, tmp_path):
    told = []
    report = starter_model.make_starter_model(
        texts(60),
        tmp_path / "model",
        size="tiny",
        tell=lambda kind, message, **details: told.append(kind),
    )
    assert report["perplexity_after"] < report["perplexity_before"] / 5
    assert json.loads((tmp_path / "model" / "starter.json").read_text()) == report
    assert told[-2:] == ["progress", "phase"]
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert {"model.safetensors", "chat_template.jinja", "tokenizer.json"} <= names
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_model(starter_model, tmp_path):
    for name in ("one", "two"):
        starter_model.make_starter_model(texts(40), tmp_path / name, size="tiny")
    one, two = (
        (tmp_path / n / "model.safetensors").read_bytes() for n in ("one", "two")
    )
    assert one == two


@pytest.mark.slow
def test_its_tokenizer_marks_what_the_assistant_says(starter_model):
    from training.core.data.tokens import Encoder

    tokenizer = starter_model.train_tokenizer(texts(40), 384)
    assert tokenizer.eos_token_id != tokenizer.pad_token_id
    encoder = Encoder(tokenizer)
    [question, answer] = texts(1)[0]
    ids, labels = encoder.assistant_labels([question, answer])
    learned = [token for token in labels if token != -100]
    assert tokenizer.decode(learned) == f"{answer['content']}<|im_end|>"
    assert len(ids) == len(labels)


@pytest.mark.slow
def test_it_reads_pairs_and_demonstrations(starter_model, tmp_path):
    pairs = write_jsonl(tmp_path / "pairs.jsonl", make_pairs(2))
    plain = write_jsonl(tmp_path / "plain.jsonl", [{"text": "Once upon a time."}])
    rated = write_jsonl(
        tmp_path / "rated.jsonl", [{"prompt": "Hi", "completion": "No", "label": False}]
    )
    found = starter_model.read_texts([pairs, plain, rated])
    assert [[m["role"] for m in text] for text in found] == [
        *[["user", "assistant"]] * 4,
        ["assistant"],
        ["user", "assistant"],
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ({"size": "vast"}, "RLHF003"),
        ({}, "RLHF023"),
        ({"data": ["no.jsonl"]}, "RLHF020"),
    ],
)
def test_the_command_refuses_with_one_sentence(tmp_path, capsys, spec, code):
    from training.core.data.starter_model import main

    data = write_jsonl(tmp_path / "few.jsonl", make_demonstrations(3))
    path = tmp_path / "spec.json"
    out = {"data": [str(data)], "out_dir": str(tmp_path / "model"), **spec}
    path.write_text(json.dumps(out))
    assert main([str(path)]) == 1
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (last["kind"], last["code"]) == ("failed", code)
    assert not (tmp_path / "model").exists()


@pytest.mark.slow
def test_it_does_not_overwrite(starter_model, tmp_path):
    from training.core.errors import RLHFStorageError

    with pytest.raises(RLHFStorageError, match="is there already"):
        starter_model.make_starter_model(texts(40), tmp_path, size="tiny")
