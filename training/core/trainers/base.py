"""What every algorithm is asked for, in this order, and what all of them need."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from peft import LoraConfig

from training.core.config import LRScheduler, PEFTMethod, Precision, RLHFConfig
from training.core.data.columns import Columns, detect_columns
from training.core.data.ledger import Ledger
from training.core.data.lint import AnyRow, draw, hold_out
from training.core.data.loaders import Row, Source
from training.core.data.text import Text
from training.core.data.tokens import Encoder
from training.core.device import Device
from training.core.errors import RLHFDatasetError, RLHFModelError
from training.core.models import Task
from training.core.run_directory import RunDirectory

Normalise = Callable[..., list[AnyRow]]

LOG_LINES, EVALUATIONS, CHECKPOINTS = 200, 10, 5
"""How many of each a run gets where the configuration leaves it open."""


@dataclass(frozen=True)
class Job:
    """What a trainer is given: the resolved configuration and all that is loaded."""

    config: RLHFConfig
    run: RunDirectory
    device: Device
    tokenizer: Any
    encoder: Encoder
    max_length: int
    positions: int | None
    """The longest text that the model has positions for, if it says."""


@dataclass(frozen=True)
class Schedule:
    """Optimizer steps in all, and between log lines, evaluations and checkpoints."""

    max_steps: int
    log: int
    evaluate: int
    save: int


@dataclass
class Ledgers:
    """The accounts of both splits; held-out rows may be none."""

    train: Ledger
    eval: Ledger
    columns: Columns
    source: str

    def to_dict(self) -> dict[str, Any]:
        """Both accounts, by split."""
        return {"train": self.train.to_dict(), "eval": self.eval.to_dict()}


@dataclass
class BaseTrainer(ABC):
    """One algorithm. The runner calls read, build and measure in this order."""

    job: Job
    task: ClassVar[Task] = "causal"
    ledgers: Ledgers = field(init=False)
    sample_prompts: list[tuple[Text, list[int]]] = field(init=False, repr=False)

    @abstractmethod
    def read(self, source: Source) -> int:
        """Turn the rows that were found into rows to train on; return their number.

        Raises:
            RLHFDatasetError: RLHF022, RLHF023 or RLHF025, where that is impossible.
        """

    @abstractmethod
    def build(self, model: Any, arguments: dict[str, Any], callbacks: list[Any]) -> Any:
        """TRL's trainer for the model, ready to train.

        Raises:
            RLHFDatasetError: RLHF056, where it holds other rows than it was given.
        """

    def measure_before(self, model: Any) -> dict[str, float]:
        """What must be measured on the untrained model."""
        return {}

    @abstractmethod
    def measure(self, trainer: Any, model: Any) -> dict[str, float]:
        """The measurements on the held-out rows, none where there are none."""

    @abstractmethod
    def probes(self) -> list[list[int]]:
        """A few fixed inputs, on which a reloaded model must do as the live one did."""


def read_splits(
    job: Job, source: Source, normalise: Normalise[AnyRow]
) -> tuple[list[AnyRow], list[AnyRow], Ledgers]:
    """Rows to train on and rows held out, each with its account.

    Held-out rows are those of the source, else a share of the prompts; a prompt that is
    trained on is never held out.
    """
    config = job.config
    columns = _detect(source.train, config)
    if columns_need_template(source.train, columns) and not job.tokenizer.chat_template:
        raise RLHFModelError(
            "The data holds conversations and the tokenizer has no chat template: use "
            "a base model with one, add chat_template.jinja to its folder, or give "
            "plain prompt and completion columns.",
            code="RLHF033",
        )
    has_template = bool(job.tokenizer.chat_template)
    train_ledger = Ledger(len(source.train))
    train = normalise(source.train, columns, train_ledger, has_template=has_template)
    if source.eval is None:
        train, held_out = hold_out(train, config.eval_share, config.seed)
        for row in held_out:
            train_ledger.drop("held_out", row.number)
        eval_ledger = Ledger(len(held_out))
    else:
        eval_ledger = Ledger(len(source.eval))
        found = _detect(source.eval, config) if source.eval else columns
        held_out = normalise(source.eval, found, eval_ledger, has_template=has_template)
        trained_on = {row.group for row in train}
        for row in held_out:
            if row.group in trained_on:
                eval_ledger.drop("prompt_in_train", row.number)
        held_out = [row for row in held_out if row.group not in trained_on]
    train = draw(train, config.max_samples, config.seed, train_ledger)
    ledgers = Ledgers(train_ledger, eval_ledger, columns, source.description)
    return train, held_out, ledgers


def require_rows(rows: Sequence[object], ledger: Ledger) -> None:
    """Refuse to train on nothing.

    Raises:
        RLHFDatasetError: RLHF023, with what became of the rows.
    """
    if not rows:
        raise RLHFDatasetError(
            f"No row is left to train on: {ledger.describe()}.", code="RLHF023"
        )


def encode_sample_prompts(
    job: Job, prompts: Iterable[tuple[str, Text | None]]
) -> list[tuple[Text, list[int]]]:
    """The first prompts of different groups with their ids, as many as asked for.

    A prompt that leaves no room for its answer is passed over.
    """
    config = job.config
    chosen: dict[str, tuple[Text, list[int]]] = {}
    for group, prompt in prompts:
        if len(chosen) == config.num_sample_prompts:
            break
        if not prompt or group in chosen:
            continue
        ids = job.encoder.ids(prompt, ask=True)
        if len(ids) + config.sample_max_new_tokens <= (job.positions or math.inf):
            chosen[group] = (prompt, ids)
    return list(chosen.values())


def check_rows(trainer: Any, ledgers: Ledgers) -> None:
    """Check that TRL holds the rows it was given, and no fewer.

    Raises:
        RLHFDatasetError: RLHF056, where it dropped some.
    """
    ledgers.train.settle(len(trainer.train_dataset))
    if trainer.eval_dataset is not None:
        ledgers.eval.settle(len(trainer.eval_dataset))


def columns_need_template(rows: Sequence[Row], columns: Columns) -> bool:
    """Whether any cell that is read holds messages."""
    return any(
        isinstance(columns.cell(row, name), list | dict)
        for row in rows
        for name in ("messages", "prompt", "completion", "chosen", "rejected")
    )


def plan(config: RLHFConfig, rows: int) -> Schedule:
    """How long to train on so many rows, and when to log, evaluate and save.

    Intervals that are left open are multiples of each other, so that every checkpoint
    has an evaluation and no logged mean spans a resume.
    """
    batches = math.ceil(rows / config.per_device_batch_size)
    steps_an_epoch = math.ceil(batches / config.gradient_accumulation_steps)
    max_steps = config.max_steps or math.ceil(
        (config.num_epochs or 1.0) * steps_an_epoch
    )
    logging = config.logging
    log = logging.log_interval or math.ceil(max_steps / LOG_LINES)
    evaluate = logging.eval_interval or _multiple(max_steps / EVALUATIONS, log)
    save = logging.save_interval or _multiple(max_steps / CHECKPOINTS, evaluate)
    return Schedule(max_steps, log, evaluate, save)


def common_arguments(
    job: Job, schedule: Schedule, *, evaluates: bool, resumes: bool
) -> dict[str, Any]:
    """The arguments of transformers' Trainer that are the same for every algorithm."""
    config, device = job.config, job.device
    if config.warmup_steps is None:
        # transformers 5 reads a number below 1 as a share of all steps.
        warmup: float = config.warmup_ratio or 0
    else:
        warmup = config.warmup_steps
    scheduler = config.lr_scheduler
    return {
        "output_dir": str(job.run.checkpoints),
        "max_steps": schedule.max_steps,
        "per_device_train_batch_size": config.per_device_batch_size,
        "per_device_eval_batch_size": config.per_device_batch_size,
        "gradient_accumulation_steps": config.gradient_accumulation_steps,
        "learning_rate": config.learning_rate,
        # "constant" alone would ignore the warm-up.
        "lr_scheduler_type": "constant_with_warmup"
        if scheduler is LRScheduler.CONSTANT
        else scheduler.value,
        "warmup_steps": warmup,
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "seed": config.seed,
        "logging_steps": schedule.log,
        "logging_first_step": True,
        # TRL and transformers would log a loss of NaN as 0.0.
        "logging_nan_inf_filter": False,
        "eval_strategy": "steps" if evaluates else "no",
        "eval_steps": schedule.evaluate,
        "eval_on_start": evaluates and not resumes,
        # Names the checkpoint to keep beside the newest; it is not loaded at the end.
        "metric_for_best_model": "eval_loss" if evaluates else None,
        "save_strategy": "steps",
        "save_steps": schedule.save,
        "save_total_limit": config.save_total_limit,
        "use_cpu": device.kind == "cpu",
        # TRL's default of bf16 raises on a machine without a GPU.
        "bf16": device.precision is Precision.BF16,
        "fp16": device.precision is Precision.FP16,
        "gradient_checkpointing": config.gradient_checkpointing,
        "dataloader_pin_memory": device.kind != "cpu",
        "max_length": job.max_length,
        "disable_tqdm": True,
        "report_to": "none",
    }


def adapter_config(config: RLHFConfig) -> LoraConfig | None:
    """The adapter to train, or None where every weight is trained."""
    peft = config.peft
    if peft is None or peft.method is PEFTMethod.FULL:
        return None
    return LoraConfig(
        r=peft.r,
        lora_alpha=peft.alpha,
        lora_dropout=peft.dropout,
        bias=peft.bias,
        target_modules=peft.target_modules or "all-linear",
        # SEQ_CLS also trains and saves the score head, which is new and random: without
        # it a reloaded reward model would score with another head.
        task_type=peft.task_type,
    )


def _detect(rows: Sequence[Row], config: RLHFConfig) -> Columns:
    if not rows:
        raise RLHFDatasetError("The data has no rows.", code="RLHF023")
    available = list(dict.fromkeys(name for row in rows for name in row))
    return detect_columns(available, config.columns, config.algorithm)


def _multiple(wanted: float, of: int) -> int:
    return max(1, round(wanted / of)) * of
