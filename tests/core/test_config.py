"""The configuration tells all that is wrong with it, and survives a round trip."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import training.core
from training.core.config import (
    DPOConfig,
    LoggingConfig,
    PEFTConfig,
    PEFTMethod,
    RLHFAlgorithm,
    RLHFConfig,
)
from training.core.errors import RLHFConfigurationError

MINIMAL = {
    "job_name": "helpful",
    "algorithm": "dpo",
    "base_model": "inputs/base_model",
    "dataset_path": "data",
    "output_dir": ".",
}


def refusal(**changes):
    with pytest.raises(RLHFConfigurationError) as caught:
        RLHFConfig.from_dict({**MINIMAL, **changes}).resolved()
    return caught.value


def test_the_documented_example_can_be_built():
    config = RLHFConfig(
        job_name="helpful",
        algorithm=RLHFAlgorithm.DPO,
        base_model="meta-llama/Llama-2-7b-hf",
        dataset_path="HuggingFaceH4/ultrafeedback_binarized",
        output_dir="./outputs/dpo",
        peft=PEFTConfig(method=PEFTMethod.LORA, r=64, alpha=16),
        dpo_config=DPOConfig(beta=0.1),
        learning_rate=5e-5,
        max_steps=10000,
        bf16=True,
    )
    assert config.precision == "bf16"
    assert config.resolved().dpo_config.loss_type == "sigmoid"


def test_words_stand_for_enums():
    assert RLHFConfig.from_dict(MINIMAL).algorithm is RLHFAlgorithm.DPO


@pytest.mark.parametrize("algorithm", ["sft", "reward_model", "dpo", "ipo"])
def test_resolving_fills_every_default_once(algorithm):
    resolved = RLHFConfig.from_dict({**MINIMAL, "algorithm": algorithm}).resolved()
    assert resolved.learning_rate is not None
    assert resolved.num_epochs == 1
    assert resolved.peft.method is PEFTMethod.FULL
    assert resolved.resolved() == resolved
    assert RLHFConfig.from_dict(json.loads(json.dumps(resolved.to_dict()))) == resolved


@pytest.mark.parametrize("suffix", ["yaml", "yml", "json"])
def test_it_reads_files(tmp_path, suffix):
    path = tmp_path / f"job.{suffix}"
    path.write_text(json.dumps(MINIMAL))
    assert RLHFConfig.from_file(path) == RLHFConfig.from_dict(MINIMAL)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("job.yaml", None, "no such file"),
        ("job.toml", "", ".yaml, .yml or .json"),
        ("job.yaml", "a: [", "line 1"),
        ("job.json", "{", "line 1"),
        ("job.yaml", "- 1", "holds no keys"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(tmp_path, name, text, told):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(RLHFConfigurationError, match=told) as caught:
        RLHFConfig.from_file(tmp_path / name)
    assert caught.value.code == "RLHF054"


@pytest.mark.parametrize(
    ("changes", "code", "told"),
    [
        ({"base_model": ""}, "RLHF003", "base_model"),
        ({"algorithm": "dop"}, "RLHF002", "'dpo'"),
        ({"algorithm": "ppo"}, "RLHF002", "ppo is not built yet"),
        ({"algorithm": "kto"}, "RLHF002", "kto is not built yet"),
        ({"peft": {"method": "ia3"}}, "RLHF002", "ia3 is not built yet"),
        ({"logging": {"tracker": "wandb"}}, "RLHF002", "wandb is not built yet"),
        ({"learning_rate": 0}, "RLHF003", "greater than 0, not 0"),
        ({"learning_rate": float("nan")}, "RLHF003", "finite"),
        ({"max_steps": 1.5}, "RLHF003", "max_steps"),
        ({"peft": {"r": 0}}, "RLHF003", "peft.r"),
        ({"version": 2}, "RLHF003", "version must be 1"),
        ({"bf16": True, "fp16": True}, "RLHF004", "bf16 and fp16"),
        ({"bf16": True, "precision": "fp32"}, "RLHF004", "precision is fp32"),
        ({"max_steps": 5, "num_epochs": 1}, "RLHF004", "max_steps and num_epochs"),
        ({"warmup_steps": 5, "warmup_ratio": 0.1}, "RLHF004", "warmup_ratio"),
        ({"max_steps": 5, "warmup_steps": 6}, "RLHF004", "warmup_steps 6"),
        ({"eval_dataset_path": "x", "eval_share": 0.1}, "RLHF004", "eval_share"),
        ({"reward_model": "x"}, "RLHF004", "ppo only"),
        ({"algorithm": "sft", "dpo_config": {}}, "RLHF004", "dpo and ipo only"),
        (
            {"algorithm": "ipo", "dpo_config": {"loss_type": "hinge"}},
            "RLHF004",
            "not hinge",
        ),
        (
            {"algorithm": "ipo", "dpo_config": {"label_smoothing": 0.1}},
            "RLHF004",
            "no effect",
        ),
        ({"dpo_config": {"label_smoothing": 0.1}}, "RLHF004", "no effect"),
        (
            {"dpo_config": {"loss_type": "hinge", "label_smoothing": 0.1}},
            "RLHF004",
            "no effect",
        ),
        ({"peft": {"method": "full", "r": 64}}, "RLHF004", "method full trains none"),
        ({"peft": {"method": "qlora"}}, "RLHF004", "needs quantization_bits"),
        ({"peft": {"quantization_bits": 4}}, "RLHF004", "qlora only"),
        ({"peft": {"task_type": "SEQ_CLS"}}, "RLHF004", "CAUSAL_LM"),
        ({"peft": {"bias": "all"}}, "RLHF004", "change the reference"),
    ],
)
def test_what_cannot_be_run_is_refused(changes, code, told):
    error = refusal(**changes)
    assert error.code == code
    assert told in error.message


@pytest.mark.parametrize(
    ("changes", "nearest"),
    [
        ({"lerning_rate": 1e-5}, "did you mean learning_rate?"),
        ({"beta": 0.1}, "did you mean dpo_config.beta?"),
        ({"eval_interval": 5}, "did you mean logging.eval_interval?"),
        ({"peft": {"lora_alpha": 16}}, "did you mean peft.alpha?"),
        ({"dpo_config": {"betta": 1}}, "did you mean dpo_config.beta?"),
        ({"zzz": 1}, "Known here: version, job_name"),
    ],
)
def test_an_unknown_key_gets_the_nearest_right_one(changes, nearest):
    error = refusal(**changes)
    assert error.code == "RLHF003"
    assert nearest in error.message


def test_a_secret_is_refused_and_not_repeated():
    error = refusal(logging={"wandb_api_key": "hunter2"})
    assert "set WANDB_API_KEY" in error.message
    assert "hunter2" not in str(error)


def test_all_problems_are_told_at_once():
    error = refusal(lerning_rate=1, max_steps=0, peft={"r": 0, "alhpa": 1}, job_name="")
    for told in ("learning_rate", "max_steps", "peft.r", "peft.alpha", "job_name"):
        assert told in error.message


def test_a_missing_field_is_named():
    with pytest.raises(RLHFConfigurationError, match="base_model is missing") as caught:
        RLHFConfig.from_dict({"job_name": "a"})
    assert caught.value.code == "RLHF001"


def test_a_part_on_its_own_raises_the_same_error():
    with pytest.raises(RLHFConfigurationError, match="r must be greater"):
        PEFTConfig(r=0)
    with pytest.raises(RLHFConfigurationError, match="log_interval"):
        LoggingConfig(log_interval=0)


def test_the_schema_explains_every_field():
    schema = RLHFConfig.json_schema()
    parts = [schema, *(p for p in schema["$defs"].values() if "properties" in p)]
    for part in parts:
        for name, field in part["properties"].items():
            assert field.get("description"), name


def test_every_field_is_consumed():
    """Each is read by the trainer, or settled or refused where it is validated."""
    settled_here = {
        "version",  # one value
        "reward_model",  # refused until there is PPO
        "bf16",  # becomes precision
        "fp16",
        "peft",  # its fields are read
        "dpo_config",
        "logging",
        "tracker",  # none, or refused
        "quantization_bits",  # for qlora, which is refused
    }
    core = Path(training.core.__file__).parent
    sources = [
        path.read_text()
        for path in core.rglob("*.py")
        if path.name not in ("config.py", "config_problems.py")
    ]
    code = "\n".join(sources)
    for part in (RLHFConfig, PEFTConfig, DPOConfig, LoggingConfig):
        for name in part.model_fields:
            is_read = re.search(rf"(config|peft|dpo|logging)\.{name}\b", code)
            assert is_read or name in settled_here, name


def test_the_web_side_pays_for_no_ml_library():
    code = (
        "import sys, training.core, training.core.config, training.core.errors, "
        "training.core.run_directory; "
        "print(sorted({'torch', 'transformers', 'trl', 'numpy'} & set(sys.modules)))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"
