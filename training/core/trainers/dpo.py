"""DPO and IPO: make the better completion more likely, relative to a reference."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import trl
from datasets import Dataset

from training.core.config import DPOConfig
from training.core.data.lint import Preference, preferences
from training.core.data.loaders import Source
from training.core.data.tokens import IGNORED, encode_pairs
from training.core.evaluation.accuracy import Floats, pairwise_accuracy
from training.core.evaluation.baselines import baseline_metrics
from training.core.evaluation.scoring import log_probabilities
from training.core.models import Task
from training.core.trainers.base import (
    BaseTrainer,
    adapter_config,
    check_rows,
    encode_sample_prompts,
    read_splits,
    require_rows,
)


@dataclass
class DPOTrainer(BaseTrainer):
    """Learns from pairs directly, held to the model it started from."""

    task: ClassVar[Task] = "causal"
    train_pairs: list[Preference] = field(init=False, repr=False)
    eval_pairs: list[Preference] = field(init=False, repr=False)
    train: list[dict[str, list[int]]] = field(init=False, repr=False)
    eval: list[dict[str, list[int]]] = field(init=False, repr=False)

    def read(self, source: Source) -> int:
        job = self.job
        train, held_out, self.ledgers = read_splits(job, source, preferences)
        self.train_pairs, self.train = encode_pairs(
            train, job.encoder, job.max_length, self.ledgers.train
        )
        self.eval_pairs, self.eval = encode_pairs(
            held_out, job.encoder, job.max_length, self.ledgers.eval
        )
        require_rows(self.train, self.ledgers.train)
        self.sample_prompts = encode_sample_prompts(
            job, [(pair.group, pair.prompt) for pair in held_out or train]
        )
        return len(self.train)

    def build(self, model: Any, arguments: dict[str, Any], callbacks: list[Any]) -> Any:
        dpo = self.job.config.dpo_config or DPOConfig()
        # TRL takes texts here and encodes them once more, by the same rules: check_rows
        # proves that it has dropped none. Without an adapter it loads the reference
        # from the folder that the model came from.
        trainer = trl.DPOTrainer(
            model=model,
            args=trl.DPOConfig(
                **arguments,
                beta=dpo.beta,
                loss_type=[str(dpo.loss_type)],
                label_smoothing=dpo.label_smoothing,
            ),
            train_dataset=_texts(self.train_pairs),
            eval_dataset=_texts(self.eval_pairs) if self.eval else None,
            processing_class=self.job.tokenizer,
            peft_config=adapter_config(self.job.config),
            callbacks=callbacks,
        )
        check_rows(trainer, self.ledgers)
        return trainer

    def measure(self, trainer: Any, model: Any) -> dict[str, float]:
        if not self.eval:
            return {}
        policy = self._margins(model)
        if trainer.ref_model is not None:
            reference = self._margins(trainer.ref_model)
        else:
            with model.disable_adapter():
                reference = self._margins(model)
        margins = trainer.beta * (policy - reference)
        groups = [pair.group for pair in self.eval_pairs]
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
        pairs = (self.eval or self.train)[:4]
        return [pair["prompt_ids"] + pair["chosen_ids"] for pair in pairs]

    def _margins(self, model: Any) -> Floats:
        """[n] log-probability of chosen minus that of rejected."""
        tokenizer, config = self.job.tokenizer, self.job.config
        sums = []
        for side in ("chosen_ids", "rejected_ids"):
            rows = [
                {
                    "input_ids": pair["prompt_ids"] + pair[side],
                    "labels": [IGNORED] * len(pair["prompt_ids"]) + pair[side],
                }
                for pair in self.eval
            ]
            total, _ = log_probabilities(
                model, rows, tokenizer.pad_token_id, config.per_device_batch_size
            )
            sums.append(total)
        margins: Floats = sums[0] - sums[1]
        return margins


def _texts(pairs: list[Preference]) -> Dataset:
    return Dataset.from_list(
        [
            {"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected}
            for pair in pairs
        ]
    )
