"""A language and a model small enough to be learned and trained in seconds."""

from __future__ import annotations

import json
import os
import random

import pytest

# Before torch is imported: two threads on two busy cores take ten times longer.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

COLOURS = ("red", "blue", "green", "white", "black", "brown")
ANIMALS = ("cat", "dog", "fox", "hen", "owl", "pig", "rat", "yak")


def make_pairs(count, *, seed=0, shuffled_labels=False):
    """Pairs where the polite answer is better; with shuffled labels, neither is."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        thing = f"{rng.choice(COLOURS)} {rng.choice(ANIMALS)} {number}"
        polite, rude = f"Please see the {thing}.", f"Go find the {thing}."
        if shuffled_labels and rng.random() < 0.5:
            polite, rude = rude, polite
        rows.append(
            {
                "prompt": [{"role": "user", "content": f"Where is the {thing}?"}],
                "chosen": [{"role": "assistant", "content": polite}],
                "rejected": [{"role": "assistant", "content": rude}],
            }
        )
    return rows


def make_demonstrations(count, *, seed=0):
    return [
        {"messages": row["prompt"] + row["chosen"]}
        for row in make_pairs(count, seed=seed)
    ]


def write_jsonl(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """The folder of a two-layer Llama of width 32 with random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from training.core.data.starter_model import train_tokenizer

    folder = tmp_path_factory.mktemp("tiny") / "model"
    texts = [row["messages"] for row in make_demonstrations(50)]
    tokenizer = train_tokenizer(texts, 384)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def config_in(folder, model, algorithm="dpo", *, rows=None, eval_rows=None, **changes):
    """The configuration of a short run in a fresh run directory, with data in it."""
    from training.core.config import RLHFConfig

    make_rows = make_demonstrations if algorithm == "sft" else make_pairs
    write_jsonl(
        folder / "data" / "train.jsonl", make_rows(48) if rows is None else rows
    )
    held_out = make_rows(16, seed=1) if eval_rows is None else eval_rows
    if held_out:
        write_jsonl(folder / "data" / "eval.jsonl", held_out)
    return RLHFConfig.from_dict(
        {
            "job_name": "test",
            "algorithm": algorithm,
            "base_model": str(model),
            "dataset_path": str(folder / "data"),
            "output_dir": str(folder),
            "learning_rate": 5e-3,
            "max_steps": 8,
            "per_device_batch_size": 8,
            "gradient_checkpointing": False,
            "num_sample_prompts": 1,
            "sample_max_new_tokens": 8,
            "cpu_threads": 1,
            **changes,
        }
    )


@pytest.fixture
def make_config(tmp_path, tiny_model):
    """`config_in` for the tiny model, in a folder of this test."""

    def make(algorithm="dpo", *, name="run", **changes):
        return config_in(tmp_path / name, tiny_model, algorithm, **changes)

    return make


@pytest.fixture(scope="session")
def trained(tiny_model, tmp_path_factory):
    """Finished runs by algorithm and method: configuration, result and directory.

    Each is trained once for all tests, which only look at it.
    """
    from training.core.run_directory import RunDirectory
    from training.core.runner import RLHFJobRunner

    runs = {}

    def get(algorithm, method):
        if (algorithm, method) not in runs:
            folder = tmp_path_factory.mktemp(f"{algorithm}-{method}")
            config = config_in(folder, tiny_model, algorithm, peft={"method": method})
            result = RLHFJobRunner(config).run()
            runs[algorithm, method] = config, result, RunDirectory(folder)
        return runs[algorithm, method]

    return get


@pytest.fixture
def no_reload(monkeypatch):
    """Spare the fresh process that proves the saved model; other tests do that."""
    monkeypatch.setattr(
        "training.core.reload_check.check_reload",
        lambda live, inputs, **where: {"equal": True},
    )
