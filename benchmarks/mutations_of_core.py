"""Errors on the way from a dataset to a trained and measured model."""

from __future__ import annotations

from benchmarks.mutation import Edit, Mutation, one

LINT = "training/core/data/lint.py"
TEXT = "training/core/data/text.py"
TOKENS = "training/core/data/tokens.py"
ACCURACY = "training/core/evaluation/accuracy.py"
BASELINES = "training/core/evaluation/baselines.py"
SCORING = "training/core/evaluation/scoring.py"
TRAINER = "training/core/trainers/base.py"
DPO = "training/core/trainers/dpo.py"
REWARD = "training/core/trainers/reward.py"
RUNNER = "training/core/runner.py"
BASE_MODEL = "training/core/base_model.py"
TEST_DATA = "tests/core/test_data.py"
TEST_EVALUATION = "tests/core/test_evaluation.py"
TEST_TRAINING = "tests/core/test_training.py"
TEST_BASE_MODEL = "tests/core/test_base_model.py"
TEST_JOB_CONTROL = "tests/core/test_job_control.py"

READ = (
    one(
        "prompts-leak",
        "each row is its own prompt, so a prompt is on both sides of the split",
        LINT,
        "        text_key(prompt) if group is None else str(group),\n        prompt,",
        "        str(number) if group is None else str(group),\n        prompt,",
        TEST_DATA,
    ),
    one(
        "starter-sees-held-out",
        "the starter model is taught from the prompts that are held out",
        BASE_MODEL,
        "return [source.train[pair.number] for pair in taught]",
        "return source.train",
        TEST_BASE_MODEL,
    ),
    one(
        "bad-rows-imitated",
        "sft imitates what is labelled bad and leaves out the good",
        LINT,
        "not _is_good(row, columns, number):",
        "_is_good(row, columns, number):",
        TEST_DATA,
    ),
    one(
        "system-turn-as-user",
        "the system prompt is said by the user",
        TEXT,
        '"system": "system",',
        '"system": "user",',
        TEST_DATA,
    ),
    one(
        "end-of-sequence-dropped",
        "nothing teaches the model to stop",
        TOKENS,
        "return text if text.endswith(eos) else text + eos",
        "return text",
        f"{TEST_DATA}::test_our_ids_are_those_of_trl",
    ),
    one(
        "prompt-trained-on",
        "sft learns to ask and not only to answer",
        TOKENS,
        "return ids, [IGNORED] * start + ids[start:]",
        "return ids, list(ids)",
        f"{TEST_DATA}::test_our_ids_are_those_of_trl",
    ),
    one(
        "user-turns-trained-on",
        "in conversations sft learns what the user says",
        TOKENS,
        "return ids, [i if m else IGNORED for i, m in zip(ids, mask, strict=True)]",
        "return ids, list(ids)",
        f"{TEST_DATA}::test_turns_are_found_without_marks_in_the_template",
    ),
    one(
        "max-length-ignored",
        "the length that was asked for is not the one that is trained with",
        RUNNER,
        "limit = self.config.max_length or min(1024, positions or 1024)",
        "limit = min(1024, positions or 1024)",
        f"{TEST_TRAINING}::test_a_setting_changes_what_is_learned",
    ),
    one(
        "trainer-told-no-max-length",
        "dpo trains on whole texts and says that it cut them",
        TRAINER,
        '"max_length": job.max_length,',
        '"max_length": None,',
        f"{TEST_TRAINING}::test_a_setting_changes_what_is_learned",
    ),
)

TRAINED = (
    one(
        "reference-wrong",
        "dpo is held to a random model and not to the one it started from",
        DPO,
        "            model=model,\n            args=trl.DPOConfig(",
        "            model=model,\n"
        "            ref_model=type(model)(model.config),\n"
        "            args=trl.DPOConfig(",
        f"{TEST_TRAINING}::test_dpo_starts_at_ln_2",
    ),
    one(
        "measured-without-reference",
        "held-out margins of dpo are those of the adapted model against itself",
        DPO,
        "            with model.disable_adapter():\n"
        "                reference = self._margins(model)",
        "            reference = 0 * self._margins(model)",
        f"{TEST_EVALUATION}::test_dpo_accuracy_is_that_of_the_trainer",
    ),
    one(
        "beta-ignored",
        "beta has no effect",
        DPO,
        "beta=dpo.beta,",
        "beta=0.1,",
        f"{TEST_TRAINING}::test_ipo_starts_at_its_own_loss",
    ),
    one(
        "loss-type-ignored",
        "ipo trains by the loss of dpo",
        DPO,
        "loss_type=[str(dpo.loss_type)],",
        'loss_type=["sigmoid"],',
        f"{TEST_TRAINING}::test_ipo_starts_at_its_own_loss",
    ),
    one(
        "label-smoothing-ignored",
        "label smoothing has no effect",
        DPO,
        "label_smoothing=dpo.label_smoothing,",
        "label_smoothing=0.0,",
        f"{TEST_TRAINING}::test_a_setting_changes_what_is_learned",
    ),
    one(
        "dpo-sides-swapped",
        "dpo makes the worse response likelier",
        DPO,
        '"chosen": pair.chosen, "rejected": pair.rejected}',
        '"chosen": pair.rejected, "rejected": pair.chosen}',
        f"{TEST_EVALUATION}::test_dpo_accuracy_is_that_of_the_trainer",
        f"{TEST_TRAINING}::test_held_out_measurements_stand_beside_baselines",
    ),
    one(
        "reward-sides-swapped",
        "the reward model gives the worse response the higher score",
        TOKENS,
        '{"chosen_ids": chosen, "rejected_ids": rejected}',
        '{"chosen_ids": rejected, "rejected_ids": chosen}',
        f"{TEST_DATA}::test_our_ids_are_those_of_trl",
    ),
    one(
        "reward-head-redrawn-when-loaded",
        "a reward model that is loaded again scores with a random head",
        "training/core/models.py",
        "return PeftModel.from_pretrained(load_model(base, task, dtype), folder)",
        "adapted = PeftModel.from_pretrained(load_model(base, task, dtype), folder)\n"
        '    if task == "score":\n'
        "        adapted.score.modules_to_save.default.reset_parameters()\n"
        "    return adapted",
        f"{TEST_TRAINING}::test_the_saved_model_does_as_the_live_one_did",
    ),
    one(
        "reward-head-redrawn-when-saved",
        "the reward model that is saved has another head than the measured one",
        RUNNER,
        "        model.save_pretrained(final)\n",
        "        for layer in model.modules():\n"
        "            if getattr(layer, 'out_features', 0) == 1:\n"
        "                layer.reset_parameters()\n"
        "        model.save_pretrained(final)\n",
        f"{TEST_EVALUATION}::test_the_saved_model_is_as_good_as_was_measured",
    ),
    one(
        "reward-head-not-saved",
        "an adapter of a reward model is saved without its head",
        TRAINER,
        "task_type=peft.task_type,",
        'task_type="CAUSAL_LM",',
        f"{TEST_TRAINING}::test_the_saved_model_does_as_the_live_one_did",
    ),
    one(
        "adapter-not-merged",
        "training on an adapter starts from its bare base",
        BASE_MODEL,
        ".merge_and_unload().save_pretrained(partial)",
        ".unload().save_pretrained(partial)",
        f"{TEST_BASE_MODEL}::test_an_adapter_is_merged_into_its_base",
    ),
    one(
        "alpha-ignored",
        "the strength of an adapter is not the one that was asked for",
        TRAINER,
        "lora_alpha=peft.alpha,",
        "lora_alpha=peft.r,",
        f"{TEST_TRAINING}::test_the_settings_reach_the_trainer",
    ),
    one(
        "seed-ignored",
        "two seeds give one run",
        TRAINER,
        '"seed": config.seed,',
        '"seed": 0,',
        f"{TEST_TRAINING}::test_a_setting_changes_what_is_learned",
    ),
    one(
        "weight-decay-ignored",
        "weight decay has no effect",
        TRAINER,
        '"weight_decay": config.weight_decay,',
        '"weight_decay": 0.0,',
        f"{TEST_TRAINING}::test_a_setting_changes_what_is_learned",
    ),
    one(
        "nan-hidden",
        "a loss of NaN is reported as 0",
        TRAINER,
        '"logging_nan_inf_filter": False,',
        '"logging_nan_inf_filter": True,',
        "tests/core/test_failures.py::test_a_diverged_run_shows_its_nan",
    ),
    one(
        "resumed-from-nothing",
        "a run that goes on starts anew",
        RUNNER,
        "trainer.train(resume_from_checkpoint=resume)",
        "trainer.train(resume_from_checkpoint=None)",
        f"{TEST_JOB_CONTROL}::test_resuming_repeats_the_losses",
    ),
)

MEASURED = (
    one(
        "ties-counted-right",
        "equal scores count as a success",
        ACCURACY,
        "right = np.where(margins == 0, 0.5, margins > 0)",
        "right = np.where(margins == 0, 1.0, margins > 0)",
        f"{TEST_EVALUATION}::test_a_tie_is_half_right",
    ),
    one(
        "pairs-as-if-independent",
        "the interval is too narrow where prompts have several pairs",
        ACCURACY,
        "np.asarray(groups, dtype=object)",
        "np.arange(len(margins))",
        f"{TEST_EVALUATION}::test_pairs_of_one_prompt_count_as_one",
    ),
    Mutation(
        "training-accuracy-reported",
        "the reward model is measured on the pairs that it was trained on",
        (
            Edit(
                REWARD,
                '[pair["chosen_ids"] for pair in self.eval])',
                '[pair["chosen_ids"] for pair in self.train])',
            ),
            Edit(
                REWARD,
                '[pair["rejected_ids"] for pair in self.eval])',
                '[pair["rejected_ids"] for pair in self.train])',
            ),
            Edit(
                REWARD,
                "groups = [pair.group for pair in self.eval_pairs]",
                "groups = [pair.group for pair in self.train_pairs]",
            ),
        ),
        (
            f"{TEST_EVALUATION}::test_shuffled_labels_teach_the_model_nothing",
            f"{TEST_TRAINING}::test_held_out_measurements_stand_beside_baselines",
        ),
    ),
    Mutation(
        "training-accuracy-reported-by-dpo",
        "dpo is measured on as many of the pairs that it was trained on",
        (
            Edit(
                DPO,
                "for pair in self.eval\n",
                "for pair in self.train[: len(self.eval)]\n",
            ),
        ),
        (
            f"{TEST_EVALUATION}::test_dpo_accuracy_is_that_of_the_trainer",
            f"{TEST_EVALUATION}::test_what_is_measured_is_what_was_held_out",
        ),
    ),
    one(
        "evaluated-on-training-rows",
        "the curve of held-out loss is that of rows that are trained on",
        REWARD,
        "eval_dataset=Dataset.from_list(self.eval) if self.eval else None,",
        "eval_dataset=Dataset.from_list(self.train[: len(self.eval)])"
        " if self.eval else None,",
        f"{TEST_EVALUATION}::test_reward_accuracy_is_that_of_the_trainer",
        f"{TEST_EVALUATION}::test_what_is_measured_is_what_was_held_out",
    ),
    one(
        "margin-sign",
        "the accuracy is the share of pairs that are wrong",
        REWARD,
        "margins = chosen - rejected",
        "margins = rejected - chosen",
        f"{TEST_EVALUATION}::test_reward_accuracy_is_that_of_the_trainer",
    ),
    one(
        "dropout-while-measuring",
        "measurements are noisy, since dropout stays on",
        SCORING,
        "    model.eval()\n",
        "",
        f"{TEST_EVALUATION}::test_dropout_is_off_while_a_model_is_measured",
    ),
    one(
        "labels-not-shifted",
        "a token's probability is read one place too late",
        SCORING,
        "logits[:, :-1].float().transpose(1, 2),\n                labels[:, 1:],",
        "logits[:, 1:].float().transpose(1, 2),\n                labels[:, 1:],",
        f"{TEST_EVALUATION}::test_perplexity_is_that_of_the_held_out_loss",
    ),
    one(
        "shorter-baseline",
        "the baseline chooses the shorter text",
        BASELINES,
        "[len(plain_text(p.chosen)) - len(plain_text(p.rejected)) for p in pairs]",
        "[len(plain_text(p.rejected)) - len(plain_text(p.chosen)) for p in pairs]",
        f"{TEST_EVALUATION}::test_baselines_find_what_length_and_words_give_away",
    ),
    one(
        "strength-sign",
        "the Bradley–Terry fit of the bag of words prefers what lost",
        BASELINES,
        "softplus(-margins)",
        "softplus(margins)",
        f"{TEST_EVALUATION}::test_word_weights_are_those_of_scikit_learn",
    ),
    one(
        "baseline-taught-on-held-out",
        "the bag of words has seen the pairs that it is measured on",
        BASELINES,
        "word_margins(train, held_out), groups",
        "word_margins(held_out, held_out), groups",
        f"{TEST_EVALUATION}::test_baselines_are_taught_by_the_training_pairs_alone",
    ),
    one(
        "worst-loss-is-best",
        "the best held-out loss is the worst one",
        "training/core/callbacks.py",
        "min(best, loss)",
        "max(best, loss)",
        f"{TEST_TRAINING}::test_what_is_reported_happened",
    ),
)
