"""Reward model: give the better completion the higher score."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import trl
from datasets import Dataset

from training.core.data.lint import Preference, preferences
from training.core.data.loaders import Source
from training.core.data.tokens import encode_scored_pairs
from training.core.evaluation.accuracy import pairwise_accuracy
from training.core.evaluation.baselines import baseline_metrics
from training.core.evaluation.scoring import reward_scores
from training.core.models import Task
from training.core.trainers.base import (
    BaseTrainer,
    adapter_config,
    check_rows,
    read_splits,
    require_rows,
)


@dataclass
class RewardTrainer(BaseTrainer):
    """Learns one score a text from pairs, by the Bradley-Terry likelihood."""

    task: ClassVar[Task] = "score"
    train_pairs: list[Preference] = field(init=False, repr=False)
    eval_pairs: list[Preference] = field(init=False, repr=False)
    train: list[dict[str, Any]] = field(init=False, repr=False)
    eval: list[dict[str, Any]] = field(init=False, repr=False)

    def read(self, source: Source) -> int:
        job = self.job
        train, held_out, self.ledgers = read_splits(job, source, preferences)
        self.train_pairs, self.train = encode_scored_pairs(
            train, job.encoder, job.max_length, self.ledgers.train
        )
        self.eval_pairs, self.eval = encode_scored_pairs(
            held_out, job.encoder, job.max_length, self.ledgers.eval
        )
        require_rows(self.train, self.ledgers.train)
        # A reward model writes nothing.
        self.sample_prompts = []
        return len(self.train)

    def build(self, model: Any, arguments: dict[str, Any], callbacks: list[Any]) -> Any:
        trainer = trl.RewardTrainer(
            model=model,
            args=trl.RewardConfig(**arguments),
            train_dataset=Dataset.from_list(self.train),
            eval_dataset=Dataset.from_list(self.eval) if self.eval else None,
            processing_class=self.job.tokenizer,
            peft_config=adapter_config(self.job.config),
            callbacks=callbacks,
        )
        check_rows(trainer, self.ledgers)
        return trainer

    def measure(self, trainer: Any, model: Any) -> dict[str, float]:
        if not self.eval:
            return {}
        chosen = self._scores(model, [pair["chosen_ids"] for pair in self.eval])
        rejected = self._scores(model, [pair["rejected_ids"] for pair in self.eval])
        groups = [pair.group for pair in self.eval_pairs]
        margins = chosen - rejected
        seed = self.job.config.seed
        return {
            **pairwise_accuracy(margins, groups, seed=seed),
            "mean_margin": float(margins.mean()),
            "ties": int((margins == 0).sum()),
            "pairs": len(groups),
            "prompts": len(set(groups)),
            **baseline_metrics(self.train_pairs, self.eval_pairs, seed),
        }

    def probes(self) -> list[list[int]]:
        return [pair["chosen_ids"] for pair in (self.eval or self.train)[:4]]

    def _scores(self, model: Any, texts: list[list[int]]) -> Any:
        pad = self.job.tokenizer.pad_token_id
        return reward_scores(model, texts, pad, self.job.config.per_device_batch_size)
