"""Errors that leave every count right and the meaning wrong, as changes to the source.

`mutate_meaning.py` makes them one at a time and looks whether a test notices.
tests/test_mutations.py sees to it that this list keeps up with the source.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Edit:
    """One place of the source, and what stands there instead."""

    path: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutation:
    """One error. `wrong` says what it would do to somebody's data or model."""

    name: str
    wrong: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]
    """Where it is most likely noticed: these run before everything else."""


class Outdated(Exception):
    """The text to be changed is not in the source, or there more than once."""


def mutated(mutation: Mutation, root: Path = ROOT) -> dict[str, str]:
    """The new text of each file that the mutation changes, by path."""
    texts: dict[str, str] = {}
    for edit in mutation.edits:
        text = texts.get(edit.path) or (root / edit.path).read_text(encoding="utf-8")
        if (found := text.count(edit.old)) != 1:
            raise Outdated(
                f"{mutation.name}: {edit.path} holds {edit.old!r} {found} times, not "
                "once. Mend benchmarks/mutations.py, so that it makes the same error "
                "in the new source."
            )
        texts[edit.path] = text.replace(edit.old, edit.new)
    return texts


def _one(name: str, wrong: str, path: str, old: str, new: str, *tests: str) -> Mutation:
    return Mutation(name, wrong, (Edit(path, old, new),), tests)


VERDICTS = "labelhub/verdicts.py"
QUEUE = "labelhub/queue.py"
JUDGING = "labelhub/views/judging.py"
VICUNA = "labelhub/importing/formats/vicuna.py"
ESTIMATE = "labelhub/quality/estimate.py"
RECIPES = "training/recipes.py"
TALLYING = "training/tallying.py"
STATISTICS = "training/statistics.py"
HEADLINE = "training/headline.py"
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

TEST_VERDICTS = "tests/labelhub/test_verdicts.py"
TEST_QUEUE = "tests/labelhub/test_queue.py"
TEST_JUDGING = "tests/labelhub/test_judging.py"
TEST_AGREEMENT = "tests/labelhub/quality/test_agreement.py"
TEST_VICUNA = "tests/labelhub/test_import_vicuna.py"
TEST_RECIPES = "tests/training/test_recipes.py"
TEST_EXPORTING = "tests/training/test_exporting.py"
TEST_RUN_PAGES = "tests/training/test_run_pages.py"
TEST_DATA = "tests/core/test_data.py"
TEST_EVALUATION = "tests/core/test_evaluation.py"
TEST_TRAINING = "tests/core/test_training.py"
TEST_BASE_MODEL = "tests/core/test_base_model.py"
TEST_JOB_CONTROL = "tests/core/test_job_control.py"

JUDGED = (
    _one(
        "sides-swapped",
        "the response that was not meant wins",
        VERDICTS,
        "return _SIDES[shown][swapped]",
        "return _SIDES[shown][not swapped]",
        TEST_VERDICTS,
    ),
    _one(
        "history-mirrored",
        "the history says left where right was pressed",
        VERDICTS,
        "if sides[swapped] == verdict:",
        "if sides[not swapped] == verdict:",
        TEST_VERDICTS,
    ),
    _one(
        "left-stored-wrong",
        "position bias is measured for the other side",
        VERDICTS,
        "return Side.B if swapped else Side.A",
        "return Side.A if swapped else Side.B",
        TEST_QUEUE,
    ),
    _one(
        "page-not-swapped",
        "the page shows the responses as they lie and the verdict is turned round",
        JUDGING,
        "left, right = right, left",
        "left, right = left, right",
        TEST_JUDGING,
    ),
    _one(
        "sides-not-balanced",
        "the second person sees the same side as the first",
        QUEUE,
        "lean += 1 if other.swapped else -1",
        "lean += -1 if other.swapped else 1",
        TEST_QUEUE,
    ),
    _one(
        "revision-ignored",
        "an answer that was corrected stays as it was",
        QUEUE,
        "return _revise(assignment, standing, verdict, note)",
        "return _revise(assignment, standing, standing.verdict, note)",
        TEST_QUEUE,
    ),
    _one(
        "score-inverted",
        "the worse score wins in reviews that are imported",
        VICUNA,
        'return "a" if first > second else "b"',
        'return "b" if first > second else "a"',
        TEST_VICUNA,
    ),
    _one(
        "wilson-swapped",
        "the ends of an interval change places",
        ESTIMATE,
        "return max(0.0, middle - half), min(1.0, middle + half)",
        "return min(1.0, middle + half), max(0.0, middle - half)",
        TEST_AGREEMENT,
    ),
    _one(
        "prompts-as-if-independent",
        "intervals are too narrow where answers to one prompt are alike",
        ESTIMATE,
        "n_effective = min(n, p * (1 - p) / variance) if variance > 0 else float(k)",
        "n_effective = float(n)",
        TEST_AGREEMENT,
    ),
    _one(
        "alpha-without-chance",
        "α is the plain agreement",
        "labelhub/quality/agreement.py",
        "return 1 - (n - 1) * disagreement / by_chance",
        "return 1 - disagreement / n",
        TEST_AGREEMENT,
    ),
)

FROZEN = (
    _one(
        "verdict-inverted",
        "the loser is chosen",
        RECIPES,
        'Shape.PAIRS: {"a": (Draft("a", "b"),), "b": (Draft("b", "a"),)},',
        'Shape.PAIRS: {"a": (Draft("b", "a"),), "b": (Draft("a", "b"),)},',
        TEST_RECIPES,
    ),
    _one(
        "labels-inverted",
        "kto learns from bad as good",
        RECIPES,
        '"a": (Draft("a", label=True), Draft("b", label=False)),',
        '"a": (Draft("a", label=False), Draft("b", label=True)),',
        TEST_RECIPES,
    ),
    _one(
        "ties-as-wins",
        "a tie makes a a winner",
        RECIPES,
        'Shape.PAIRS: {"a": (Draft("a", "b"),),',
        'Shape.PAIRS: {"tie": (Draft("a", "b"),), "a": (Draft("a", "b"),),',
        TEST_RECIPES,
    ),
    _one(
        "half-is-majority",
        "a split jury decides by the order of its votes",
        RECIPES,
        "if 2 * votes_for <= n_votes:",
        "if 2 * votes_for < n_votes:",
        TEST_RECIPES,
    ),
    _one(
        "models-overrule-people",
        "the verdict of a judge model stands before that of people",
        RECIPES,
        "PRECEDENCE = (Source.HUMAN, Source.IMPORTED, Source.FEEDBACK, Source.MODEL)",
        "PRECEDENCE = (Source.MODEL, Source.IMPORTED, Source.FEEDBACK, Source.HUMAN)",
        TEST_RECIPES,
    ),
    _one(
        "every-revision-votes",
        "an answer that was taken back still votes",
        TALLYING,
        "Judgment.objects.standing()\n            .filter(project=project)\n"
        "            .exclude(",
        "Judgment.objects\n            .filter(project=project)\n            .exclude(",
        TEST_EXPORTING,
    ),
    _one(
        "surplus-votes",
        "who was late decides a verdict",
        TALLYING,
        "for v in votes if not v.surplus]",
        "for v in votes]",
        TEST_EXPORTING,
    ),
    _one(
        "texts-swapped",
        "chosen and rejected change places when the texts are fetched",
        TALLYING,
        'columns["chosen"] = _said(texts[first])\n'
        '                columns["rejected"] = _said(texts[second])',
        'columns["chosen"] = _said(texts[second])\n'
        '                columns["rejected"] = _said(texts[first])',
        TEST_EXPORTING,
    ),
    _one(
        "split-by-row",
        "a prompt is trained on and held out",
        TALLYING,
        'WHERE prompt.is_eval = ? ORDER BY row.key"',
        'WHERE (row.rowid % 2 = 0) = ? ORDER BY row.key"',
        TEST_EXPORTING,
    ),
    _one(
        "demonstration-judged-bad",
        "sft imitates a demonstration that people judged bad",
        TALLYING,
        'if outcome.verdict in ("bad", "both_bad"):',
        'if outcome.verdict in ("bads", "both_bad"):',
        TEST_EXPORTING,
    ),
    _one(
        "winner-and-loser-swapped",
        "the table of wins names the loser as winner",
        TALLYING,
        "winner, loser = names[won], names[1 - won]",
        "loser, winner = names[won], names[1 - won]",
        TEST_EXPORTING,
    ),
    _one(
        "shorter-won",
        "the length bias is that of shorter responses",
        TALLYING,
        "longer_won = lengths[won] > lengths[1 - won]",
        "longer_won = lengths[won] < lengths[1 - won]",
        TEST_EXPORTING,
    ),
    _one(
        "right-won",
        "the position bias is that of the right side",
        STATISTICS,
        "judgment.verdict = shown_left FROM",
        "judgment.verdict <> shown_left FROM",
        TEST_EXPORTING,
    ),
    _one(
        "training-shown-as-held-out",
        "the run page shows accuracy on rows that were trained on",
        HEADLINE,
        '"dpo": "eval_rewards/accuracies",',
        '"dpo": "rewards/accuracies",',
        TEST_RUN_PAGES,
        "tests/training/test_run_rows.py",
    ),
    _one(
        "beaten-model-praised",
        "a model that is worse than a rule of thumb raises no concern",
        HEADLINE,
        'if not best or measured["accuracy"] > rules[best]:',
        'if not best or measured["accuracy"] < rules[best]:',
        TEST_RUN_PAGES,
    ),
)

READ = (
    _one(
        "prompts-leak",
        "each row is its own prompt, so a prompt is on both sides of the split",
        LINT,
        "        text_key(prompt) if group is None else str(group),\n        prompt,",
        "        str(number) if group is None else str(group),\n        prompt,",
        TEST_DATA,
    ),
    _one(
        "starter-sees-held-out",
        "the starter model is taught from the prompts that are held out",
        BASE_MODEL,
        "return [source.train[pair.number] for pair in taught]",
        "return source.train",
        TEST_BASE_MODEL,
    ),
    _one(
        "bad-rows-imitated",
        "sft imitates what is labelled bad and leaves out the good",
        LINT,
        "not _is_good(row, columns, number):",
        "_is_good(row, columns, number):",
        TEST_DATA,
    ),
    _one(
        "system-turn-as-user",
        "the system prompt is said by the user",
        TEXT,
        '"system": "system",',
        '"system": "user",',
        TEST_DATA,
    ),
    _one(
        "end-of-sequence-dropped",
        "nothing teaches the model to stop",
        TOKENS,
        "return text if text.endswith(eos) else text + eos",
        "return text",
        f"{TEST_DATA}::test_our_ids_are_those_of_trl",
    ),
    _one(
        "prompt-trained-on",
        "sft learns to ask and not only to answer",
        TOKENS,
        "return ids, [IGNORED] * start + ids[start:]",
        "return ids, list(ids)",
        f"{TEST_DATA}::test_our_ids_are_those_of_trl",
    ),
    _one(
        "user-turns-trained-on",
        "in conversations sft learns what the user says",
        TOKENS,
        "return ids, [i if m else IGNORED for i, m in zip(ids, mask, strict=True)]",
        "return ids, list(ids)",
        f"{TEST_DATA}::test_turns_are_found_without_marks_in_the_template",
    ),
    _one(
        "max-length-ignored",
        "the length that was asked for is not the one that is trained with",
        RUNNER,
        "limit = self.config.max_length or min(1024, positions or 1024)",
        "limit = min(1024, positions or 1024)",
        f"{TEST_TRAINING}::test_a_setting_changes_what_is_learned",
    ),
    _one(
        "trainer-told-no-max-length",
        "dpo trains on whole texts and says that it cut them",
        TRAINER,
        '"max_length": job.max_length,',
        '"max_length": None,',
        f"{TEST_TRAINING}::test_a_setting_changes_what_is_learned",
    ),
)

TRAINED = (
    _one(
        "reference-wrong",
        "dpo is held to a random model and not to the one it started from",
        DPO,
        "            model=model,\n            args=trl.DPOConfig(",
        "            model=model,\n"
        "            ref_model=type(model)(model.config),\n"
        "            args=trl.DPOConfig(",
        f"{TEST_TRAINING}::test_dpo_starts_at_ln_2",
    ),
    _one(
        "measured-without-reference",
        "held-out margins of dpo are those of the adapted model against itself",
        DPO,
        "            with model.disable_adapter():\n"
        "                reference = self._margins(model)",
        "            reference = 0 * self._margins(model)",
        f"{TEST_EVALUATION}::test_dpo_accuracy_is_that_of_the_trainer",
    ),
    _one(
        "beta-ignored",
        "beta has no effect",
        DPO,
        "beta=dpo.beta,",
        "beta=0.1,",
        f"{TEST_TRAINING}::test_ipo_starts_at_its_own_loss",
    ),
    _one(
        "loss-type-ignored",
        "ipo trains by the loss of dpo",
        DPO,
        "loss_type=[str(dpo.loss_type)],",
        'loss_type=["sigmoid"],',
        f"{TEST_TRAINING}::test_ipo_starts_at_its_own_loss",
    ),
    _one(
        "label-smoothing-ignored",
        "label smoothing has no effect",
        DPO,
        "label_smoothing=dpo.label_smoothing,",
        "label_smoothing=0.0,",
        f"{TEST_TRAINING}::test_a_setting_changes_what_is_learned",
    ),
    _one(
        "dpo-sides-swapped",
        "dpo makes the worse response likelier",
        DPO,
        '"chosen": pair.chosen, "rejected": pair.rejected}',
        '"chosen": pair.rejected, "rejected": pair.chosen}',
        f"{TEST_EVALUATION}::test_dpo_accuracy_is_that_of_the_trainer",
        f"{TEST_TRAINING}::test_held_out_measurements_stand_beside_baselines",
    ),
    _one(
        "reward-sides-swapped",
        "the reward model gives the worse response the higher score",
        TOKENS,
        '{"chosen_ids": chosen, "rejected_ids": rejected}',
        '{"chosen_ids": rejected, "rejected_ids": chosen}',
        f"{TEST_DATA}::test_our_ids_are_those_of_trl",
    ),
    _one(
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
    _one(
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
    _one(
        "reward-head-not-saved",
        "an adapter of a reward model is saved without its head",
        TRAINER,
        "task_type=peft.task_type,",
        'task_type="CAUSAL_LM",',
        f"{TEST_TRAINING}::test_the_saved_model_does_as_the_live_one_did",
    ),
    _one(
        "adapter-not-merged",
        "training on an adapter starts from its bare base",
        BASE_MODEL,
        ".merge_and_unload().save_pretrained(partial)",
        ".unload().save_pretrained(partial)",
        f"{TEST_BASE_MODEL}::test_an_adapter_is_merged_into_its_base",
    ),
    _one(
        "alpha-ignored",
        "the strength of an adapter is not the one that was asked for",
        TRAINER,
        "lora_alpha=peft.alpha,",
        "lora_alpha=peft.r,",
        f"{TEST_TRAINING}::test_the_settings_reach_the_trainer",
    ),
    _one(
        "seed-ignored",
        "two seeds give one run",
        TRAINER,
        '"seed": config.seed,',
        '"seed": 0,',
        f"{TEST_TRAINING}::test_a_setting_changes_what_is_learned",
    ),
    _one(
        "weight-decay-ignored",
        "weight decay has no effect",
        TRAINER,
        '"weight_decay": config.weight_decay,',
        '"weight_decay": 0.0,',
        f"{TEST_TRAINING}::test_a_setting_changes_what_is_learned",
    ),
    _one(
        "nan-hidden",
        "a loss of NaN is reported as 0",
        TRAINER,
        '"logging_nan_inf_filter": False,',
        '"logging_nan_inf_filter": True,',
        "tests/core/test_failures.py::test_a_diverged_run_shows_its_nan",
    ),
    _one(
        "resumed-from-nothing",
        "a run that goes on starts anew",
        RUNNER,
        "trainer.train(resume_from_checkpoint=resume)",
        "trainer.train(resume_from_checkpoint=None)",
        f"{TEST_JOB_CONTROL}::test_resuming_repeats_the_losses",
    ),
)

MEASURED = (
    _one(
        "ties-counted-right",
        "equal scores count as a success",
        ACCURACY,
        "right = np.where(margins == 0, 0.5, margins > 0)",
        "right = np.where(margins == 0, 1.0, margins > 0)",
        f"{TEST_EVALUATION}::test_a_tie_is_half_right",
    ),
    _one(
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
    _one(
        "evaluated-on-training-rows",
        "the curve of held-out loss is that of rows that are trained on",
        REWARD,
        "eval_dataset=Dataset.from_list(self.eval) if self.eval else None,",
        "eval_dataset=Dataset.from_list(self.train[: len(self.eval)])"
        " if self.eval else None,",
        f"{TEST_EVALUATION}::test_reward_accuracy_is_that_of_the_trainer",
        f"{TEST_EVALUATION}::test_what_is_measured_is_what_was_held_out",
    ),
    _one(
        "margin-sign",
        "the accuracy is the share of pairs that are wrong",
        REWARD,
        "margins = chosen - rejected",
        "margins = rejected - chosen",
        f"{TEST_EVALUATION}::test_reward_accuracy_is_that_of_the_trainer",
    ),
    _one(
        "dropout-while-measuring",
        "measurements are noisy, since dropout stays on",
        SCORING,
        "    model.eval()\n",
        "",
        f"{TEST_EVALUATION}::test_dropout_is_off_while_a_model_is_measured",
    ),
    _one(
        "padding-read",
        "scores depend on the other texts of a batch",
        SCORING,
        "mask[line, : len(texts[place])] = 1",
        "mask[line] = 1",
        f"{TEST_EVALUATION}::test_scores_do_not_depend_on_the_batch",
    ),
    _one(
        "labels-not-shifted",
        "a token's probability is read one place too late",
        SCORING,
        "logits[:, :-1].float().transpose(1, 2),\n                labels[:, 1:],",
        "logits[:, 1:].float().transpose(1, 2),\n                labels[:, 1:],",
        f"{TEST_EVALUATION}::test_perplexity_is_that_of_the_held_out_loss",
    ),
    _one(
        "shorter-baseline",
        "the baseline chooses the shorter text",
        BASELINES,
        "[len(plain_text(p.chosen)) - len(plain_text(p.rejected)) for p in pairs]",
        "[len(plain_text(p.rejected)) - len(plain_text(p.chosen)) for p in pairs]",
        f"{TEST_EVALUATION}::test_baselines_find_what_length_and_words_give_away",
    ),
    _one(
        "strength-sign",
        "the Bradley–Terry fit of the bag of words prefers what lost",
        BASELINES,
        "softplus(-margins)",
        "softplus(margins)",
        f"{TEST_EVALUATION}::test_word_weights_are_those_of_scikit_learn",
    ),
    _one(
        "baseline-taught-on-held-out",
        "the bag of words has seen the pairs that it is measured on",
        BASELINES,
        "word_margins(train, held_out), groups",
        "word_margins(held_out, held_out), groups",
        f"{TEST_EVALUATION}::test_baselines_are_taught_by_the_training_pairs_alone",
    ),
    _one(
        "worst-loss-is-best",
        "the best held-out loss is the worst one",
        "training/core/callbacks.py",
        "min(best, loss)",
        "max(best, loss)",
        f"{TEST_TRAINING}::test_what_is_reported_happened",
    ),
)

MUTATIONS = (*JUDGED, *FROZEN, *READ, *TRAINED, *MEASURED)
