"""Supervised fine-tuning: imitate demonstrations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import trl
from datasets import Dataset

from training.core.data.lint import Demonstration, demonstrations
from training.core.data.loaders import Source
from training.core.data.text import Text
from training.core.data.tokens import encode_demonstrations
from training.core.evaluation.scoring import log_probabilities, perplexity
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
class SFTTrainer(BaseTrainer):
    """Learns the completion of a prompt, or what the assistant says in messages."""

    task: ClassVar[Task] = "causal"
    train: list[dict[str, list[int]]] = field(init=False, repr=False)
    eval: list[dict[str, list[int]]] = field(init=False, repr=False)

    def read(self, source: Source) -> int:
        job = self.job
        train, held_out, self.ledgers = read_splits(job, source, demonstrations)
        self.train = encode_demonstrations(
            train, job.encoder, job.max_length, self.ledgers.train
        )
        self.eval = encode_demonstrations(
            held_out, job.encoder, job.max_length, self.ledgers.eval
        )
        require_rows(self.train, self.ledgers.train)
        self.sample_prompts = encode_sample_prompts(
            job, [(row.group, _prompt(row)) for row in held_out or train]
        )
        return len(self.train)

    def build(self, model: Any, arguments: dict[str, Any], callbacks: list[Any]) -> Any:
        trainer = trl.SFTTrainer(
            model=model,
            args=trl.SFTConfig(**arguments),
            train_dataset=Dataset.from_list(self.train),
            eval_dataset=Dataset.from_list(self.eval) if self.eval else None,
            processing_class=self.job.tokenizer,
            peft_config=adapter_config(self.job.config),
            callbacks=callbacks,
        )
        check_rows(trainer, self.ledgers)
        return trainer

    def measure_before(self, model: Any) -> dict[str, float]:
        if not self.eval:
            return {}
        return {"perplexity_before": self._perplexity(model)}

    def measure(self, trainer: Any, model: Any) -> dict[str, float]:
        if not self.eval:
            return {}
        return {"perplexity": self._perplexity(model), "rows": len(self.eval)}

    def probes(self) -> list[list[int]]:
        return [row["input_ids"] for row in (self.eval or self.train)[:4]]

    def _perplexity(self, model: Any) -> float:
        tokenizer, config = self.job.tokenizer, self.job.config
        sums, counts = log_probabilities(
            model, self.eval, tokenizer.pad_token_id, config.per_device_batch_size
        )
        return perplexity(sums, counts)


def _prompt(row: Demonstration) -> Text | None:
    """What comes before the first thing that is learned, if anything does."""
    if row.prompt is None and isinstance(row.completion, list):
        roles = [message["role"] for message in row.completion]
        return row.completion[: roles.index("assistant")]
    return row.prompt
