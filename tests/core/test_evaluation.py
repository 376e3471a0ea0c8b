"""Measurements are right, say how sure they are, and find nothing where nothing is."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.core.conftest import make_pairs
from training.core.config import RLHFAlgorithm
from training.core.data.columns import detect_columns
from training.core.data.ledger import Ledger
from training.core.data.lint import preferences
from training.core.run_directory import RunDirectory

pytestmark = pytest.mark.slow


def accuracy(margins, groups=None, **options):
    from training.core.evaluation.accuracy import pairwise_accuracy

    margins = np.array(margins, dtype=float)
    groups = [str(n) for n in range(len(margins))] if groups is None else groups
    return pairwise_accuracy(margins, groups, seed=0, **options)


def pairs_of(rows):
    columns = detect_columns(list(rows[0]), {}, RLHFAlgorithm.DPO)
    return preferences(rows, columns, Ledger(len(rows)), has_template=True)


def contrary_pairs(count):
    """Held-out pairs with the verdicts that are the opposite of those of training."""
    return [
        {**row, "chosen": row["rejected"], "rejected": row["chosen"]}
        for row in make_pairs(count, seed=1)
    ]


def test_a_tie_is_half_right():
    assert accuracy([1, -1, 0, 0])["accuracy"] == 0.5
    assert accuracy([2, 0], name="x").keys() == {"x", "x_low", "x_high"}


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        found = accuracy(rng.random(100) - 0.3)
        covered += found["accuracy_low"] <= 0.7 <= found["accuracy_high"]
    assert covered >= 180


def test_a_perfect_score_on_few_prompts_is_no_certainty():
    found = accuracy([1.0] * 20)
    assert found["accuracy"] == found["accuracy_high"] == 1.0
    assert found["accuracy_low"] == pytest.approx(0.839, abs=1e-3)


def test_pairs_of_one_prompt_count_as_one():
    rng = np.random.default_rng(0)
    prompts = rng.random(30) - 0.3
    margins = np.repeat(prompts, 10)
    groups = np.repeat(np.arange(30), 10).astype(str)
    single, repeated = accuracy(prompts), accuracy(margins, groups)
    assert repeated["accuracy_low"] == pytest.approx(single["accuracy_low"], abs=1e-9)
    assert repeated["accuracy_high"] == pytest.approx(single["accuracy_high"], abs=1e-9)
    naive = accuracy(margins)
    assert naive["accuracy_low"] > repeated["accuracy_low"]


def test_word_weights_are_those_of_scikit_learn():
    import torch
    from sklearn.linear_model import LogisticRegression

    from training.core.evaluation.baselines import fit_logistic

    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 6)) + np.array([0.5, -0.3, 0, 0, 0.1, 0])
    ours = fit_logistic(torch.tensor(features).to_sparse(), penalty=2.0)
    # The same likelihood for scikit-learn: half of the rows turned round.
    sign = np.where(np.arange(200) % 2, 1, -1)
    model = LogisticRegression(C=0.5, fit_intercept=False, tol=1e-10)
    model.fit(features * sign[:, None], sign)
    assert np.allclose(ours, model.coef_[0], atol=1e-4)


def test_baselines_find_what_length_and_words_give_away():
    from training.core.evaluation.baselines import baseline_metrics

    found = baseline_metrics(
        pairs_of(make_pairs(60)), pairs_of(make_pairs(30, seed=1)), 0
    )
    assert found["baseline_random"] == 0.5
    assert found["baseline_longer_wins"] == 1.0
    assert found["baseline_bag_of_words"] == 1.0


def test_baselines_are_taught_by_the_training_pairs_alone():
    from training.core.evaluation.baselines import baseline_metrics

    train, held_out = pairs_of(make_pairs(60)), pairs_of(contrary_pairs(30))
    assert baseline_metrics(train, held_out, 0)["baseline_bag_of_words"] == 0.0


def test_shuffled_labels_teach_the_baselines_nothing():
    from training.core.evaluation.baselines import baseline_metrics

    train = pairs_of(make_pairs(200, shuffled_labels=True))
    held_out = pairs_of(make_pairs(200, seed=1, shuffled_labels=True))
    found = baseline_metrics(train, held_out, 0)
    for name in ("baseline_longer_wins", "baseline_bag_of_words"):
        assert found[f"{name}_low"] <= 0.5 <= found[f"{name}_high"]


def test_shuffled_labels_teach_the_model_nothing(make_config, no_reload):
    from training.core.runner import RLHFJobRunner

    config = make_config(
        "reward_model",
        rows=make_pairs(64, shuffled_labels=True),
        eval_rows=make_pairs(64, seed=1, shuffled_labels=True),
        max_steps=16,
    )
    measured = RLHFJobRunner(config).run().eval_metrics
    assert measured["accuracy_low"] <= 0.5 <= measured["accuracy_high"]


@pytest.mark.parametrize("method", ["full", "lora"])
def test_dpo_accuracy_is_that_of_the_trainer(method, trained):
    _, result, _ = trained("dpo", method)
    measured, logged = result.eval_metrics, result.metrics
    assert measured["accuracy"] == logged["eval_rewards/accuracies"]
    margin = logged["eval_rewards/margins"]
    assert measured["mean_margin"] == pytest.approx(margin, rel=1e-3)


def test_reward_accuracy_is_that_of_the_trainer(trained):
    _, result, _ = trained("reward_model", "lora")
    measured, logged = result.eval_metrics, result.metrics
    assert measured["accuracy"] == logged["eval_accuracy"]
    assert measured["mean_margin"] == pytest.approx(logged["eval_margin"], rel=1e-3)


@pytest.mark.parametrize("algorithm", ["reward_model", "dpo"])
def test_what_is_measured_is_what_was_held_out(algorithm, make_config, no_reload):
    """Held-out verdicts that contradict those of training must look as bad."""
    from training.core.runner import RLHFJobRunner

    config = make_config(algorithm, eval_rows=contrary_pairs(16))
    result = RLHFJobRunner(config).run()
    assert result.eval_metrics["accuracy"] < 0.1
    lines = [line for line, _ in RunDirectory(config.output_dir).iter_metrics()]
    trained_on = [line["loss"] for line in lines if "loss" in line]
    held_out = [line["eval_loss"] for line in lines if "eval_loss" in line]
    assert trained_on[-1] < trained_on[0]
    assert held_out[-1] > held_out[0]


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_saved_model_is_as_good_as_was_measured(method, trained, tiny_model):
    import torch

    from training.core.data.tokens import Encoder, encode_scored_pairs
    from training.core.evaluation.scoring import reward_scores
    from training.core.models import load_tokenizer, load_trained

    _, result, run = trained("reward_model", method)
    model = load_trained(run.final, tiny_model, "score", torch.float32)
    encoder = Encoder(load_tokenizer(run.final))
    held_out = pairs_of(make_pairs(16, seed=1))
    _, encoded = encode_scored_pairs(held_out, encoder, 256, Ledger(16))
    chosen, rejected = (
        reward_scores(model, [pair[side] for pair in encoded], 0, 8)
        for side in ("chosen_ids", "rejected_ids")
    )
    margins = chosen - rejected
    assert accuracy(margins)["accuracy"] == result.eval_metrics["accuracy"]
    measured = result.eval_metrics["mean_margin"]
    assert margins.mean() == pytest.approx(measured, rel=1e-4)


def test_perplexity_is_that_of_the_held_out_loss(trained):
    _, result, run = trained("sft", "full")
    lines = [line for line, _ in run.iter_metrics()]
    losses = [line["eval_loss"] for line in lines if "eval_loss" in line]
    # The trainer averages batches, we average tokens: near, and not the same.
    for name, loss in (("perplexity_before", losses[0]), ("perplexity", losses[-1])):
        assert result.eval_metrics[name] == pytest.approx(math.exp(loss), rel=0.02)


def test_scores_do_not_depend_on_the_batch(trained):
    import torch

    from training.core.evaluation.scoring import log_probabilities, reward_scores
    from training.core.models import load_model

    texts = [[5, 6, 7], [5, 6, 7, 8, 9, 10, 11], [9, 8]]
    _, _, run = trained("reward_model", "full")
    model = load_model(run.final, "score", torch.float32)
    one, all_ = reward_scores(model, texts, 0, 1), reward_scores(model, texts, 0, 3)
    assert np.allclose(one, all_, atol=1e-5)

    _, _, run = trained("sft", "full")
    model = load_model(run.final, "causal", torch.float32)
    rows = [{"input_ids": t, "labels": [-100, *t[1:]]} for t in texts]
    one, counts = log_probabilities(model, rows, 0, 1)
    all_, _ = log_probabilities(model, rows, 0, 3)
    assert np.allclose(one, all_, atol=1e-4)
    assert counts.tolist() == [2, 6, 1]


def test_dropout_is_off_while_a_model_is_measured():
    import torch

    from training.core.evaluation.scoring import measuring

    layer = torch.nn.Dropout(0.5)
    with measuring(layer):
        assert layer(torch.ones(100)).eq(1).all()
    assert layer.training


def test_without_held_out_rows_nothing_is_claimed(make_config, no_reload):
    from training.core.runner import RLHFJobRunner

    config = make_config(eval_rows=[], max_steps=1)
    result = RLHFJobRunner(config).run()
    assert result.eval_metrics == {}
    assert result.best_loss is None
    assert result.best_checkpoint_path is None
    assert RunDirectory(config.output_dir).samples.exists()
