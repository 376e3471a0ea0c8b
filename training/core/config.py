"""The configuration of a training job: typed, strict, and the same in YAML and JSON.

Every field is read by the runner or refused; an unknown key is an error that names the
nearest right one. The text beside each field is its help on pages and in the schema.
Pydantic and the standard library only, so that a web process can afford to import it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from training.core.choices import (
    STARTER_PREFIX,
    STARTER_SIZES,
    TRAINABLE_ALGORITHMS,
    TRAINABLE_METHODS,
    DPOLoss,
    ExperimentTracker,
    LRScheduler,
    PEFTMethod,
    Precision,
    RLHFAlgorithm,
    listed,
    starter_size,
    unbuilt_algorithm,
)
from training.core.config_file import read_values
from training.core.config_problems import configuration_error
from training.core.errors import RLHFConfigurationError
from training.core.learning_rates import usual_learning_rate

__all__ = [
    "TRAINABLE_ALGORITHMS",
    "TRAINABLE_METHODS",
    "DPOConfig",
    "DPOLoss",
    "ExperimentTracker",
    "LRScheduler",
    "LoggingConfig",
    "PEFTConfig",
    "PEFTMethod",
    "Precision",
    "RLHFAlgorithm",
    "RLHFConfig",
    "read_values",
    "refuse_unbuilt",
    "usual_learning_rate",
]

# True while an outer part is being validated: an inner part then leaves its problems to
# the outer one, so that all of them are told at once.
_within_a_part: ContextVar[bool] = ContextVar("_within_a_part", default=False)

# Below 2**31, as the database and the ML libraries count.
PositiveInt = Annotated[int, Field(ge=1, lt=2**31)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]


class _Part(BaseModel):
    """A group of fields whose problems are told together, as one of our errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @model_validator(mode="wrap")
    @classmethod
    def _explain(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if _within_a_part.get():
            return cls._build(data, handler)
        token = _within_a_part.set(True)
        try:
            return cls._build(data, handler)
        except ValidationError as error:
            raise configuration_error(cls, error) from None
        except PydanticCustomError as conflict:
            text = conflict.message()
            raise RLHFConfigurationError(text, code="RLHF004") from None
        finally:
            _within_a_part.reset(token)

    @classmethod
    def _build(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        part = handler(data)
        if conflicts := " ".join(part._conflicts()):
            raise PydanticCustomError("conflict", "{text}", {"text": conflicts})
        return part

    def _conflicts(self) -> Iterator[str]:
        """Sentences about fields that do not go together."""
        return iter(())

    def to_dict(self) -> dict[str, Any]:
        """Plain values, fit for JSON, from which the same part can be built."""
        return self.model_dump(mode="json")


class PEFTConfig(_Part):
    """Which weights are trained, and the shape of the adapter."""

    method: PEFTMethod = Field(
        PEFTMethod.LORA,
        description="lora trains a small adapter; full trains every weight.",
    )
    r: PositiveInt = Field(
        8, description="Rank of the adapter: its width beside each layer."
    )
    alpha: PositiveInt = Field(
        16, description="The adapter's output is scaled by alpha / r."
    )
    dropout: Share = Field(
        0.0, description="Share of adapter inputs that are zeroed while training."
    )
    target_modules: list[str] | None = Field(
        None,
        min_length=1,
        description="Names of the layers that get an adapter. Empty: every linear "
        "layer except the output head.",
    )
    bias: Literal["none", "all", "lora_only"] = Field(
        "none", description="Which bias terms are trained as well."
    )
    task_type: Literal["CAUSAL_LM", "SEQ_CLS"] | None = Field(
        None,
        description="Follows from the algorithm; SEQ_CLS for a reward model. Only "
        "checked when given.",
    )
    quantization_bits: Literal[4, 8] | None = Field(
        None, description="Bits per base weight; for qlora only."
    )

    def _conflicts(self) -> Iterator[str]:
        if self.method is PEFTMethod.QLORA and self.quantization_bits is None:
            yield "method qlora needs quantization_bits: 4 or 8."
        if self.method is not PEFTMethod.QLORA and self.quantization_bits is not None:
            yield (
                "quantization_bits is read by method qlora only, not by "
                f"{self.method}: remove it, or set method: qlora."
            )
        if self.method is PEFTMethod.FULL:
            for name in ("r", "alpha", "dropout", "target_modules", "bias"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    yield (
                        f"{name} describes an adapter, and method full trains none: "
                        "remove it, or set method: lora."
                    )


class DPOConfig(_Part):
    """The loss on preference pairs."""

    beta: PositiveFloat = Field(
        0.1,
        description="How strongly the model is held to the reference; more is closer.",
    )
    loss_type: DPOLoss | None = Field(
        None,
        description="The loss on the margin between chosen and rejected. robust "
        "expects label_smoothing to be the share of wrong labels. Empty: sigmoid for "
        "dpo, ipo for ipo.",
    )
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5, allow_inf_nan=False)] = Field(
        0.0,
        description="Share of the labels that is thought to be wrong; loss_type robust "
        "only.",
    )

    def _conflicts(self) -> Iterator[str]:
        # TRL 1.16 takes it with every loss and reads it in this one.
        if self.label_smoothing and self.loss_type is not DPOLoss.ROBUST:
            yield (
                "label_smoothing has no effect without loss_type robust: remove it, or "
                "set loss_type: robust."
            )


class LoggingConfig(_Part):
    """How often the run reports, evaluates and saves, in optimizer steps."""

    tracker: ExperimentTracker = Field(
        ExperimentTracker.NONE,
        description="Metrics always go to the run directory; a tracker gets a copy.",
    )
    log_interval: PositiveInt | None = Field(
        None, description="Steps between metric lines. Empty: about 200 lines a run."
    )
    eval_interval: PositiveInt | None = Field(
        None, description="Steps between evaluations. Empty: about 10 a run."
    )
    save_interval: PositiveInt | None = Field(
        None, description="Steps between checkpoints. Empty: about 5 a run."
    )


class RLHFConfig(_Part):
    """Everything that decides the outcome of a training job.

    Raises:
        RLHFConfigurationError: with every problem found; its code is that of the first
            (RLHF001 missing, RLHF002 unknown algorithm, RLHF003 key or value, RLHF004
            conflict).
    """

    version: Literal[1] = Field(1, description="Version of this format.")
    job_name: str = Field(
        min_length=1, max_length=200, description="What the run is called on pages."
    )
    algorithm: RLHFAlgorithm = Field(
        description="sft learns from demonstrations; reward_model, dpo and ipo from "
        "preference pairs."
    )
    base_model: str = Field(
        min_length=1,
        description="The model to start from: a folder, a hub id with a revision, "
        "as in org/name@revision, or starter:small, which is made from the training "
        "text where nothing can be downloaded.",
    )
    dataset_path: str = Field(
        min_length=1,
        description="The data: a folder with train.* and maybe eval.*, one .parquet, "
        ".jsonl, .json or .csv file, or a hub id as in org/name@revision.",
    )
    output_dir: str = Field(
        min_length=1, description="The run directory that the job writes."
    )
    reward_model: str | None = Field(
        None, description="The model that scores completions; for ppo only."
    )

    train_split: str = Field(
        "train", min_length=1, description="Name of the split, or file, to train on."
    )
    eval_split: str = Field(
        "eval", min_length=1, description="Name of the split, or file, held out."
    )
    eval_dataset_path: str | None = Field(
        None, min_length=1, description="Held-out data from another place."
    )
    eval_share: Share = Field(
        0.0,
        description="Share of the prompts to hold out where there is no eval split.",
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Column names, ours to theirs, where detection would guess wrong: "
        "prompt: question.",
    )
    max_samples: PositiveInt | None = Field(
        None, description="Train on at most this many rows, drawn with the seed."
    )
    max_length: Annotated[int, Field(ge=8)] | None = Field(
        None,
        description="Tokens in prompt and completion together. Empty: 1024, or as many "
        "as the model has positions for.",
    )

    peft: PEFTConfig | None = Field(
        None, description="The adapter. Empty: every weight is trained."
    )
    dpo_config: DPOConfig | None = Field(
        None, description="The loss on preference pairs; for dpo and ipo."
    )
    logging: LoggingConfig = Field(
        default_factory=LoggingConfig, description="Reporting and saving."
    )

    learning_rate: PositiveFloat | None = Field(
        None, description="Peak learning rate of AdamW. Empty: by algorithm and method."
    )
    max_steps: PositiveInt | None = Field(
        None, description="Number of optimizer steps. Excludes num_epochs."
    )
    num_epochs: Annotated[float, Field(gt=0, le=10_000)] | None = Field(
        None, description="Passes over the data. Empty, with no max_steps: 1."
    )
    per_device_batch_size: PositiveInt = Field(
        8, description="Rows, or pairs, in one forward pass."
    )
    gradient_accumulation_steps: PositiveInt = Field(
        1, description="Forward passes per optimizer step."
    )
    warmup_steps: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="Steps over which the learning rate rises. Excludes warmup_ratio.",
    )
    warmup_ratio: Share | None = Field(
        None, description="Warm-up as a share of all steps. Empty: 0.1."
    )
    lr_scheduler: LRScheduler = Field(
        LRScheduler.LINEAR, description="How the learning rate goes on after warm-up."
    )
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        0.0, description="Decoupled weight decay of AdamW."
    )
    max_grad_norm: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        1.0, description="Gradients are scaled down to this norm; 0 turns it off."
    )
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(
        42, description="Seed of initial weights, shuffling and the held-out split."
    )
    precision: Precision = Field(
        Precision.AUTO,
        description="auto is bf16 on a GPU that has it, else fp32.",
    )
    bf16: bool = Field(False, description="Short for precision: bf16.")
    fp16: bool = Field(False, description="Short for precision: fp16.")
    gradient_checkpointing: bool = Field(
        True, description="Compute activations twice to hold fewer: 10-25% slower."
    )
    save_total_limit: Annotated[int, Field(ge=2)] = Field(
        2,
        description="Checkpoints kept. At least 2: the older stays until the newer is "
        "whole.",
    )
    num_sample_prompts: Annotated[int, Field(ge=0, le=64)] = Field(
        4, description="Held-out prompts answered at each evaluation."
    )
    sample_max_new_tokens: PositiveInt = Field(
        64, description="Tokens at most in such an answer."
    )
    cpu_threads: PositiveInt | None = Field(
        None, description="Threads of torch on the CPU. Empty: torch's own choice."
    )

    @property
    def method(self) -> PEFTMethod:
        """Which weights are trained."""
        return self.peft.method if self.peft else PEFTMethod.FULL

    def resolved(self) -> RLHFConfig:
        """The same job with every default filled in; what a run directory holds.

        Raises:
            RLHFConfigurationError: RLHF002, where this version cannot run what the
                configuration asks for.
        """
        refuse_unbuilt(self)
        peft = self.peft or PEFTConfig(method=PEFTMethod.FULL)
        changes: dict[str, Any] = {
            "learning_rate": self.learning_rate
            or usual_learning_rate(
                self.algorithm,
                peft.method,
                from_starter=starter_size(self.base_model) is not None,
            ),
            "peft": {**peft.to_dict(), "task_type": _task_type(self.algorithm)},
        }
        if self.max_steps is None and self.num_epochs is None:
            changes["num_epochs"] = 1.0
        if self.warmup_steps is None and self.warmup_ratio is None:
            changes["warmup_ratio"] = 0.1
        if self.algorithm in (RLHFAlgorithm.DPO, RLHFAlgorithm.IPO):
            dpo = self.dpo_config or DPOConfig()
            loss = "ipo" if self.algorithm is RLHFAlgorithm.IPO else "sigmoid"
            changes["dpo_config"] = {
                **dpo.to_dict(),
                "loss_type": dpo.loss_type or loss,
            }
        return RLHFConfig.from_dict({**self.to_dict(), **changes})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RLHFConfig:
        """Build from plain values; words are accepted for enums."""
        return cls.model_validate(dict(values))

    @classmethod
    def from_file(cls, path: str | Path) -> RLHFConfig:
        """Read a .yaml, .yml or .json file.

        Raises:
            RLHFConfigurationError: RLHF054 where the file cannot be read, and as the
                class says where its values are wrong.
        """
        return cls.from_dict(read_values(Path(path)))

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """The JSON schema, with the help text of every field."""
        return cls.model_json_schema()

    @model_validator(mode="before")
    @classmethod
    def _expand_precision(cls, data: Any) -> Any:
        """Let bf16: true stand for precision: bf16."""
        if not isinstance(data, Mapping):
            return data
        asked = [name for name in ("bf16", "fp16") if data.get(name) is True]
        if len(asked) == 1 and data.get("precision") in (None, Precision.AUTO):
            return {**data, "precision": asked[0]}
        return data

    def _conflicts(self) -> Iterator[str]:
        yield from self._precision_conflicts()
        yield from self._starter_conflicts()
        if self.max_steps is not None and self.num_epochs is not None:
            yield "max_steps and num_epochs exclude each other: remove one."
        if self.warmup_steps is not None and self.warmup_ratio is not None:
            yield "warmup_steps and warmup_ratio exclude each other: remove one."
        if (self.warmup_steps or 0) > (self.max_steps or float("inf")):
            yield (
                f"warmup_steps {self.warmup_steps} is more than max_steps "
                f"{self.max_steps}: the peak would never be reached."
            )
        if self.eval_dataset_path and self.eval_share:
            yield "eval_dataset_path and eval_share exclude each other: remove one."
        if self.reward_model and self.algorithm is not RLHFAlgorithm.PPO:
            yield (
                f"reward_model is read by ppo only, not by {self.algorithm}: remove it."
            )
        yield from self._algorithm_conflicts()

    def _starter_conflicts(self) -> Iterator[str]:
        size = starter_size(self.base_model)
        if size is None:
            return
        if size not in STARTER_SIZES:
            yield (
                f"base_model {self.base_model} is no starter model: write "
                f"{' or '.join(STARTER_PREFIX + known for known in STARTER_SIZES)}."
            )
        if self.method is not PEFTMethod.FULL:
            yield (
                f"base_model {self.base_model} is made within the run, and an adapter "
                "would be saved without it: set peft method: full."
            )

    def _precision_conflicts(self) -> Iterator[str]:
        if self.bf16 and self.fp16:
            yield "bf16 and fp16 are both set: choose one."
        for name, asked in (("bf16", self.bf16), ("fp16", self.fp16)):
            if asked and self.precision != name and not (self.bf16 and self.fp16):
                yield f"{name} is set and precision is {self.precision}: remove one."

    def _algorithm_conflicts(self) -> Iterator[str]:
        if self.dpo_config is not None:
            if self.algorithm not in (RLHFAlgorithm.DPO, RLHFAlgorithm.IPO):
                yield (
                    f"dpo_config is read by dpo and ipo only, not by {self.algorithm}: "
                    "remove it."
                )
            elif (
                self.algorithm is RLHFAlgorithm.IPO
                and self.dpo_config.loss_type not in (None, DPOLoss.IPO)
            ):
                yield (
                    f"algorithm ipo has loss_type ipo, not "
                    f"{self.dpo_config.loss_type}: remove loss_type, or set "
                    "algorithm: dpo."
                )
        if self.peft is not None and self.peft.task_type is not None:
            right = _task_type(self.algorithm)
            if self.peft.task_type != right:
                yield (
                    f"task_type of {self.algorithm} is {right}, not "
                    f"{self.peft.task_type}: remove it."
                )
        uses_reference = self.algorithm in (RLHFAlgorithm.DPO, RLHFAlgorithm.IPO)
        if uses_reference and self.peft is not None and self.peft.bias != "none":
            # The reference is the model with its adapter off, and biases stay on.
            yield (
                f"bias {self.peft.bias} would change the reference of "
                f"{self.algorithm} as well: set bias: none."
            )


def refuse_unbuilt(config: RLHFConfig) -> None:
    """Refuse what is named in this format and not built in this version.

    Raises:
        RLHFConfigurationError: RLHF002, with what can be chosen instead.
    """
    problems = []
    if config.algorithm not in TRAINABLE_ALGORITHMS:
        problems.append(unbuilt_algorithm(config.algorithm))
    if config.method not in TRAINABLE_METHODS:
        choices = listed(TRAINABLE_METHODS)
        problems.append(f"Method {config.method} is not built yet: choose {choices}.")
    if config.logging.tracker is not ExperimentTracker.NONE:
        problems.append(
            f"Tracker {config.logging.tracker} is not built yet: set tracker: none. "
            "Metrics are in the run directory."
        )
    if problems:
        raise RLHFConfigurationError(" ".join(problems), code="RLHF002")


def _task_type(algorithm: RLHFAlgorithm) -> str:
    return "SEQ_CLS" if algorithm is RLHFAlgorithm.REWARD_MODEL else "CAUSAL_LM"
