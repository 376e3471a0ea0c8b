"""Real training of every algorithm, full and with an adapter, and what it leaves."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from training.core.run_directory import RunDirectory, iter_lines

# One worker runs them all: each of the six runs is trained once.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("trained")]

ALGORITHMS = ("sft", "reward_model", "dpo")
COMBINATIONS = [(a, m) for a in ALGORITHMS for m in ("full", "lora")]


@pytest.fixture(params=COMBINATIONS, ids="-".join)
def finished(request, trained):
    return trained(*request.param)


def train_lines(run):
    return [line for line, _ in run.iter_metrics() if "loss" in line]


def eval_losses(run):
    return [line["eval_loss"] for line, _ in run.iter_metrics() if "eval_loss" in line]


def tensors(folder, name):
    from safetensors.torch import load_file

    return load_file(Path(folder) / name)


def test_the_objective_moves(finished):
    _, result, run = finished
    losses = [line["loss"] for line in train_lines(run)]
    assert losses[-1] < losses[0]
    assert eval_losses(run)[-1] < eval_losses(run)[0]
    assert result.status == "completed"


def test_every_trainable_parameter_changes(finished, tiny_model):
    config, result, run = finished
    if config.peft.method == "full":
        before = tensors(tiny_model, "model.safetensors")
        after = tensors(run.final, "model.safetensors")
        shared = before.keys() & after.keys()
        assert len(shared) >= 20
        trained = sum(after[name].numel() for name in after)
    else:
        # The oldest checkpoint is early enough: each step moves each tensor.
        oldest = min(run.checkpoints.iterdir(), key=lambda f: int(f.name.split("-")[1]))
        before = tensors(oldest, "adapter_model.safetensors")
        after = tensors(run.final, "adapter_model.safetensors")
        shared = after.keys()
        assert any("lora_B" in name for name in shared)
        trained = sum(tensor.numel() for tensor in after.values())
    unchanged = [name for name in shared if before[name].equal(after[name])]
    assert unchanged == []
    assert result.trainable_parameters == trained


def test_the_saved_model_does_as_the_live_one_did(finished):
    _, result, _ = finished
    assert result.reload_check == {"equal": True, "max_abs_diff": 0.0, "n_inputs": 4}


def test_what_is_reported_happened(finished):
    _, result, run = finished
    last = train_lines(run)[-1]
    assert last["step"] == result.total_steps == result.max_steps == 8
    assert result.final_loss == last["loss"]
    assert result.final_learning_rate == last["learning_rate"]
    # Linear from 5e-3 after one step of warm-up; the last of seven steps down.
    assert math.isclose(result.final_learning_rate, 5e-3 / 7)
    assert result.best_loss == min(eval_losses(run))
    assert result.tokens == last["num_tokens"]
    assert result.peak_memory_gb > 0.1
    assert result.peak_gpu_memory_gb is None
    assert result.total_gpu_hours is None


def test_the_run_directory_holds_exactly_what_is_promised(finished):
    config, _, run = finished
    found = {path.name for path in run.path.iterdir()}
    promised = {"config.json", "data", "metrics.jsonl", "events.jsonl", "checkpoints"}
    promised |= {"final", "result.json"}
    if config.algorithm != "reward_model":
        promised.add("samples.jsonl")
    assert found == promised
    assert all(path.is_dir() for path in run.checkpoints.iterdir())
    weights = "model" if config.peft.method == "full" else "adapter_model"
    final = {path.name for path in run.final.iterdir()}
    assert {f"{weights}.safetensors", "tokenizer.json", "chat_template.jinja"} <= final
    assert {"rlhf_config.json", "README.md"} <= final
    assert not any(name.endswith((".bin", ".pt", ".pth")) for name in final)


def test_the_result_file_is_the_result_with_relative_paths(finished):
    _, result, run = finished
    written = run.read_result()
    assert written["output_dir"] == "."
    assert written["final_checkpoint_path"] == "final"
    assert written["best_checkpoint_path"].startswith("checkpoints/checkpoint-")
    same = {"output_dir", "final_checkpoint_path", "best_checkpoint_path"}
    expected = json.loads(json.dumps(result.to_dict(), default=str))
    assert {k: v for k, v in written.items() if k not in same} == {
        k: v for k, v in expected.items() if k not in same
    }


def test_the_ledger_adds_up(finished):
    _, result, _ = finished
    for split, rows in (("train", 48), ("eval", 16)):
        account = result.ledger[split]
        assert account["rows"] == rows
        assert account["rows"] == account["used"] + sum(account["dropped"].values())


def test_the_events_tell_the_phases_in_order(finished):
    _, _, run = finished
    lines = [line for line, _ in iter_lines(run.events)]
    assert [line["message"] for line in lines if line["kind"] == "phase"] == [
        "starting",
        "reading data",
        "loading model",
        "training",
        "evaluating",
        "saving",
        "checking the saved model",
    ]
    kinds = [line["kind"] for line in lines]
    assert {"data_ready", "progress", "evaluated", "checkpoint"} <= set(kinds)
    assert kinds[-2:] == ["reload_verified", "completed"]


def test_samples_answer_the_same_prompt_before_and_after(finished):
    config, _, run = finished
    if config.algorithm == "reward_model":
        pytest.skip("a reward model writes nothing")
    samples = [line for line, _ in iter_lines(run.samples)]
    assert samples[0]["step"] == 0
    assert samples[-1]["step"] == 8
    assert {line["prompt"] for line in samples} == {samples[0]["prompt"]}


def test_held_out_measurements_stand_beside_baselines(finished):
    config, result, _ = finished
    measured = result.eval_metrics
    if config.algorithm == "sft":
        assert measured["perplexity"] < measured["perplexity_before"]
        return
    assert measured["accuracy_low"] <= measured["accuracy"] <= measured["accuracy_high"]
    assert measured["accuracy"] > 0.9
    assert measured["pairs"] == measured["prompts"] == 16
    assert measured["baseline_bag_of_words"] == 1.0
    assert measured["baseline_longer_wins"] == 1.0


def test_the_model_card_tells_data_and_use(finished):
    _, _, run = finished
    card = (run.final / "README.md").read_text()
    assert "| train | 48 | 48 | none |" in card
    assert "from_pretrained" in card
    assert str(run.path) not in card
    settings = json.loads((run.final / "rlhf_config.json").read_text())
    assert settings["output_dir"] == "."
    assert settings["dataset_path"] == "data"
    assert settings["max_length"] == 256


@pytest.mark.parametrize("method", ["full", "lora"])
def test_dpo_starts_at_ln_2(method, trained):
    _, _, run = trained("dpo", method)
    assert math.isclose(train_lines(run)[0]["loss"], math.log(2), rel_tol=1e-5)
    assert math.isclose(eval_losses(run)[0], math.log(2), rel_tol=1e-5)


def test_ipo_starts_at_its_own_loss(make_config, no_reload):
    from training.core.runner import RLHFJobRunner

    config = make_config("ipo", max_steps=2, dpo_config={"beta": 0.2})
    RLHFJobRunner(config).run()
    first = train_lines(RunDirectory(config.output_dir))[0]["loss"]
    # (margin - 1 / (2 beta)) squared, where every margin is 0.
    assert math.isclose(first, 6.25, rel_tol=1e-4)


def test_the_settings_reach_the_trainer(make_config, no_reload):
    from training.core.runner import RLHFJobRunner

    config = make_config(
        "sft",
        max_steps=None,
        num_epochs=1.5,
        per_device_batch_size=4,
        gradient_accumulation_steps=2,
        gradient_checkpointing=True,
        lr_scheduler="constant",
        warmup_steps=2,
        max_grad_norm=0,
        save_total_limit=3,
        logging={"log_interval": 4, "eval_interval": 4, "save_interval": 3},
        peft={"r": 4, "alpha": 8, "dropout": 0.1, "target_modules": ["q_proj"]},
    )
    result = RLHFJobRunner(config).run()
    run = RunDirectory(config.output_dir)
    # 48 rows, 8 a step: 6 steps a pass.
    assert result.total_steps == result.max_steps == 9
    lines = train_lines(run)
    assert [line["step"] for line in lines] == [1, 4, 8, 9]
    assert [line["learning_rate"] for line in lines] == [0, 5e-3, 5e-3, 5e-3]
    evaluated = [line["step"] for line, _ in run.iter_metrics() if "eval_loss" in line]
    assert evaluated == [0, 4, 8, 9]
    saved = {path.name for path in run.checkpoints.iterdir()}
    assert saved == {"checkpoint-3", "checkpoint-6", "checkpoint-9"}
    adapter = json.loads((run.final / "adapter_config.json").read_text())
    shape = ("r", "lora_alpha", "lora_dropout", "target_modules")
    assert [adapter[name] for name in shape] == [4, 8, 0.1, ["q_proj"]]
    state = run.checkpoints / "checkpoint-9" / "trainer_state.json"
    assert json.loads(state.read_text())["train_batch_size"] == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"weight_decay": 0.5},
        {"max_grad_norm": 0.01},
        {"max_length": 20},
        {"dpo_config": {"beta": 0.5}},
        {"dpo_config": {"loss_type": "hinge"}},
        {"dpo_config": {"loss_type": "robust", "label_smoothing": 0.3}},
    ],
    ids=str,
)
def test_a_setting_changes_what_is_learned(changes, trained, make_config, no_reload):
    from training.core.runner import RLHFJobRunner

    _, usual, _ = trained("dpo", "full")
    other = RLHFJobRunner(make_config("dpo", **changes)).run()
    assert other.final_loss != usual.final_loss
    assert other.ledger == usual.ledger or "max_length" in changes


def test_a_base_without_weights_for_a_head_gets_one_from_the_seed(trained):
    import torch

    from training.core.models import load_model

    config, _, _ = trained("reward_model", "full")
    heads = []
    for _ in range(2):
        torch.manual_seed(config.seed)
        model = load_model(Path(config.base_model), "score", torch.float32)
        heads.append(model.score.weight)
    assert heads[0].equal(heads[1])
