"""Every error in the table can happen, says what to do, and is in the result."""

from __future__ import annotations

import json
import math
import resource
import shutil

import numpy as np
import pytest

from tests.core.conftest import make_demonstrations, make_pairs, write_jsonl
from training.core.config import PEFTConfig, RLHFAlgorithm, RLHFConfig
from training.core.data.ledger import Ledger
from training.core.errors import ERROR_CODES, RLHFError
from training.core.run_directory import RunDirectory

pytestmark = pytest.mark.slow


def run_job(config, **options):
    from training.core.runner import RLHFJobRunner

    return RLHFJobRunner(config, **options).run()


@pytest.fixture
def copy_of_model(tiny_model, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    return folder


@pytest.fixture
def fail_in_training(monkeypatch):
    """Raise an error at the first step, where a device or a disk would."""

    def fail(error):
        def training_step(*arguments, **named):
            raise error

        monkeypatch.setattr("trl.SFTTrainer.training_step", training_step)

    return fail


# --- Before anything is loaded ---


def rlhf001(**_):
    RLHFConfig.from_dict({"job_name": "a"})


def rlhf002(**_):
    from training.core.trainers import get_trainer_class

    get_trainer_class(RLHFAlgorithm.PPO)


def rlhf003(**_):
    PEFTConfig(r=0)


def rlhf004(make_config, **_):
    run_job(make_config(precision="fp16"))


def rlhf051(make_config, **_):
    config = make_config()
    RunDirectory(config.output_dir).write_result({"status": "completed"})
    run_job(config)


def rlhf053(make_config, tmp_path, **_):
    (tmp_path / "checkpoint-5").mkdir()
    run_job(make_config(), resume_from=tmp_path / "checkpoint-5")


def rlhf054(tmp_path, **_):
    RLHFConfig.from_file(tmp_path / "no.yaml")


# --- Data ---


def rlhf020(make_config, tmp_path, **_):
    run_job(make_config(dataset_path=str(tmp_path / "no")))


def rlhf021(make_config, tmp_path, **_):
    (tmp_path / "rows.xlsx").write_bytes(b"")
    run_job(make_config(dataset_path=str(tmp_path / "rows.xlsx")))


def rlhf022(make_config, **_):
    run_job(make_config("dpo", rows=make_demonstrations(3)))


def rlhf023(make_config, **_):
    row = make_pairs(1)[0]
    run_job(make_config(rows=[{**row, "rejected": row["chosen"]}]))


def rlhf024(make_config, tmp_path, **_):
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a"}\n{"prompt": \n')
    run_job(make_config(dataset_path=str(tmp_path / "rows.jsonl")))


def rlhf025(make_config, **_):
    rows = [{"prompt": "a", "completion": "b", "label": "maybe"}]
    run_job(make_config("sft", rows=rows))


def rlhf056(**_):
    Ledger(3).settle(2)


# --- Models ---


def rlhf013(make_config, copy_of_model, **_):
    weights = copy_of_model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    run_job(make_config(base_model=str(copy_of_model)))


def rlhf030(make_config, tmp_path, **_):
    run_job(make_config(base_model=str(tmp_path / "no")))


def rlhf031(make_config, copy_of_model, **_):
    settings = copy_of_model / "config.json"
    values = json.loads(settings.read_text()) | {"model_type": "unheard_of"}
    settings.write_text(json.dumps(values))
    run_job(make_config(base_model=str(copy_of_model)))


def rlhf033(make_config, copy_of_model, **_):
    (copy_of_model / "chat_template.jinja").unlink()
    run_job(make_config(base_model=str(copy_of_model)))


# --- Training and after ---


def rlhf010(make_config, **_):
    run_job(make_config("sft", learning_rate=1e30, warmup_steps=0))


def rlhf011(make_config, fail_in_training, **_):
    import torch

    fail_in_training(torch.OutOfMemoryError("CUDA out of memory."))
    run_job(make_config("sft"))


def rlhf012(make_config, **_):
    # A real limit on the size of files, below that of the weights.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    config = make_config("sft", logging={"save_interval": 1})
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        run_job(config)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def rlhf041(**_):
    from training.core.evaluation.accuracy import pairwise_accuracy

    pairwise_accuracy(np.array([0.1, np.nan]), ["a", "b"], seed=0)


def rlhf055(make_config, fail_in_training, **_):
    fail_in_training(ZeroDivisionError("by zero"))
    run_job(make_config("sft"))


def rlhf057(make_config, monkeypatch, **_):
    from training.core import reload_check

    def outputs(model, inputs):
        # As if something that was trained had not been saved.
        return {name: logits + 1 for name, logits in real(model, inputs).items()}

    real = reload_check.outputs
    monkeypatch.setattr(reload_check, "outputs", outputs)
    run_job(make_config("sft", max_steps=1))


CASES = {
    name.upper(): case for name, case in globals().items() if name.startswith("rlhf0")
}


def test_every_code_has_a_case():
    assert CASES.keys() == ERROR_CODES.keys()


@pytest.mark.parametrize("code", sorted(CASES))
def test_the_code_is_reached(
    code, make_config, tmp_path, copy_of_model, monkeypatch, fail_in_training
):
    with pytest.raises(RLHFError) as caught:
        CASES[code](
            make_config=make_config,
            tmp_path=tmp_path,
            copy_of_model=copy_of_model,
            monkeypatch=monkeypatch,
            fail_in_training=fail_in_training,
        )

    error = caught.value
    assert error.code == code
    assert type(error) is ERROR_CODES[code].raised_as
    assert str(error).startswith(f"[{code}] {error.message}")
    result = RunDirectory(tmp_path / "run").read_result()
    if result is None or code == "RLHF051":
        return
    assert result["status"] == "failed"
    assert result["error"]["code"] == code
    assert result["error"]["message"] == error.message
    assert result["final_checkpoint_path"] is None


def test_a_diverged_run_shows_its_nan(make_config):
    config = make_config("sft", learning_rate=1e30, warmup_steps=0)
    with pytest.raises(RLHFError):
        run_job(config)
    run = RunDirectory(config.output_dir)
    *_, (last, _) = run.iter_metrics()
    watched = ("loss", "grad_norm", "eval_loss")
    assert not all(math.isfinite(last.get(name, 0)) for name in watched)
    result = run.read_result()
    assert result["total_steps"] == last["step"]
    assert result["error"]["where"].startswith(f"training, step {last['step']}, ")


def test_a_full_disk_leaves_no_half_checkpoint(make_config):
    config = make_config("sft", logging={"save_interval": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(RLHFError, match="could not be saved"):
            run_job(config)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    run = RunDirectory(config.output_dir)
    assert list(run.checkpoints.glob("checkpoint-*")) == []
    assert run.read_result()["status"] == "failed"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(28, "No space left on device"), "RLHF012"),
        (RuntimeError("[enforce] PytorchStreamWriter failed writing file"), "RLHF012"),
        (MemoryError(), "RLHF011"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "RLHF011"),
        (ConnectionError("reset"), "RLHF055"),
    ],
)
def test_errors_of_the_libraries_are_named(error, code):
    from training.core.failures import classify

    assert classify(error, "training").code == code


def test_weights_that_could_run_code_are_refused(make_config, copy_of_model):
    weights = copy_of_model / "model.safetensors"
    weights.rename(copy_of_model / "pytorch_model.bin")
    with pytest.raises(RLHFError, match="no weights as") as caught:
        run_job(make_config(base_model=str(copy_of_model)))
    assert caught.value.code == "RLHF013"


def test_a_reward_model_cannot_write(make_config, trained):
    _, _, run = trained("reward_model", "full")
    with pytest.raises(RLHFError, match="does not write text") as caught:
        run_job(make_config("dpo", base_model=str(run.final)))
    assert caught.value.code == "RLHF031"


def test_a_tokenizer_of_another_model_is_refused(make_config, copy_of_model):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(copy_of_model)
    tokenizer.add_tokens(["one-more"])
    tokenizer.save_pretrained(copy_of_model)
    with pytest.raises(RLHFError, match="do not belong together"):
        run_job(make_config(base_model=str(copy_of_model)))


@pytest.mark.parametrize("field", ["base_model", "dataset_path"])
def test_a_hub_id_that_is_not_handed_out_gets_one_sentence(field, make_config):
    with pytest.raises(RLHFError) as caught:
        run_job(make_config(**{field: "nobody/nothing@main"}))
    assert (
        caught.value.code == {"base_model": "RLHF030", "dataset_path": "RLHF020"}[field]
    )
    assert caught.value.message.startswith("nobody/nothing@main is neither")
    assert "\n" not in caught.value.message


def test_a_run_directory_that_cannot_be_written_is_refused(make_config, tmp_path):
    config = make_config()
    (tmp_path / "file").write_text("")
    values = {**config.to_dict(), "output_dir": str(tmp_path / "file" / "run")}
    with pytest.raises(RLHFError, match="cannot be written") as caught:
        run_job(RLHFConfig.from_dict(values))
    assert caught.value.code == "RLHF051"


def test_data_that_may_not_be_read_is_refused(make_config, tmp_path):
    folder = write_jsonl(tmp_path / "data.jsonl" / "x", [])
    with pytest.raises(RLHFError) as caught:
        run_job(make_config(dataset_path=str(folder.parent)))
    assert caught.value.code == "RLHF020"
