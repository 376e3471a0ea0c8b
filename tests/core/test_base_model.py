"""What a job can start from besides a whole model: nothing at all, or an adapter."""

from __future__ import annotations

import json

import pytest

from tests.core.conftest import config_in, make_demonstrations
from training.core.config import RLHFConfig
from training.core.errors import RLHFConfigurationError
from training.core.locations import local_path

VALUES = {"job_name": "t", "algorithm": "sft", "dataset_path": "d", "output_dir": "."}


def test_an_unknown_starter_is_refused_with_the_known_ones():
    with pytest.raises(RLHFConfigurationError, match="starter:tiny or starter:small"):
        RLHFConfig.from_dict({**VALUES, "base_model": "starter:huge"})


def test_an_adapter_on_a_starter_would_lose_its_base():
    with pytest.raises(RLHFConfigurationError, match="method: full"):
        RLHFConfig.from_dict(
            {**VALUES, "base_model": "starter:tiny", "peft": {"method": "lora"}}
        )


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["sft", "reward_model"])
def test_a_starter_sees_nothing_of_the_share_that_is_held_out(tmp_path, algorithm):
    from training.core.base_model import _training_rows

    config = config_in(
        tmp_path, "starter:tiny", algorithm, eval_rows=[], eval_share=0.25
    )
    assert len(_training_rows(config)) == 36


@pytest.mark.slow
def test_a_run_can_make_its_own_starter_from_what_it_may_see(tmp_path, monkeypatch):
    from training.core.data import starter_model
    from training.core.runner import RLHFJobRunner

    taught = []
    make = starter_model.train_tokenizer
    monkeypatch.setattr(
        starter_model,
        "train_tokenizer",
        lambda texts, size: taught.extend(texts) or make(texts, size),
    )
    held_out = make_demonstrations(16, seed=7)
    config = config_in(tmp_path / "run", "starter:tiny", "sft", eval_rows=held_out)
    result = RLHFJobRunner(config).run()

    assert result.status == "completed"
    assert result.reload_check["equal"]
    report = json.loads((tmp_path / "run/inputs/starter/starter.json").read_text())
    assert report["perplexity_after"] < report["perplexity_before"] / 10
    seen = {text[0]["content"] for text in taught}
    assert seen == {row["messages"][0]["content"] for row in make_demonstrations(48)}


@pytest.mark.slow
@pytest.mark.parametrize("generations", [1, 2])
def test_an_adapter_is_merged_into_its_base(tmp_path, tiny_model, trained, generations):
    """DPO starts where LoRA SFT ended."""
    import torch

    from training.core.models import load_model, load_trained
    from training.core.runner import RLHFJobRunner

    _, _, sft = trained("sft", "lora")
    start, base = sft.final, tiny_model
    for generation in range(generations):
        if generation:
            # As the supervisor lays it out: the adapter, and beside it its base.
            (start / "base").symlink_to(base)
        folder = tmp_path / f"run{generation}"
        config = config_in(folder, start, "dpo", peft={"method": "lora"})
        result = RLHFJobRunner(config).run()
        assert result.reload_check["equal"]
        ids = torch.arange(20).unsqueeze(0)
        merged = load_model(folder / "inputs/merged", "causal", torch.float32)
        adapted = load_trained(start, base, "causal", torch.float32)
        difference = merged(ids).logits - adapted(ids).logits
        assert difference.abs().max() < 1e-4
        start, base = folder / "final", folder / "inputs/merged"


def test_a_name_that_no_file_system_takes_is_only_not_there():
    assert local_path("a" * 290) is None
    assert local_path("~nobody-of-this-name/x") is not None
