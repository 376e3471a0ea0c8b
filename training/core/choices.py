"""The words that a configuration may use where only some are right."""

from __future__ import annotations

from enum import StrEnum

STARTER_SIZES = ("tiny", "small")
STARTER_PREFIX = "starter:"


def starter_size(base_model: str) -> str | None:
    """The size in `starter:small`, or None for a model that exists already.

    >>> starter_size("starter:small"), starter_size("org/name")
    ('small', None)
    """
    if not base_model.startswith(STARTER_PREFIX):
        return None
    return base_model.removeprefix(STARTER_PREFIX)


class RLHFAlgorithm(StrEnum):
    """What the model learns from."""

    PPO = "ppo"
    DPO = "dpo"
    IPO = "ipo"
    ORPO = "orpo"
    KTO = "kto"
    REWARD_MODEL = "reward_model"
    SFT = "sft"


class PEFTMethod(StrEnum):
    """Which weights are trained."""

    LORA = "lora"
    QLORA = "qlora"
    IA3 = "ia3"
    ADALORA = "adalora"
    FULL = "full"


class ExperimentTracker(StrEnum):
    """Where metrics go besides the run directory."""

    NONE = "none"
    WANDB = "wandb"
    MLFLOW = "mlflow"
    TENSORBOARD = "tensorboard"


class Precision(StrEnum):
    """The number format of the forward and backward pass."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


class LRScheduler(StrEnum):
    """How the learning rate goes on after the warm-up."""

    LINEAR = "linear"
    COSINE = "cosine"
    CONSTANT = "constant"


class DPOLoss(StrEnum):
    """The losses on preference pairs that are offered, by TRL's names."""

    SIGMOID = "sigmoid"
    HINGE = "hinge"
    IPO = "ipo"
    ROBUST = "robust"


TRAINABLE_ALGORITHMS = frozenset(
    {
        RLHFAlgorithm.SFT,
        RLHFAlgorithm.REWARD_MODEL,
        RLHFAlgorithm.DPO,
        RLHFAlgorithm.IPO,
    }
)
TRAINABLE_METHODS = frozenset({PEFTMethod.LORA, PEFTMethod.FULL})


def unbuilt_algorithm(algorithm: RLHFAlgorithm) -> str:
    """The sentence about an algorithm that is named and not built."""
    choices = listed(TRAINABLE_ALGORITHMS)
    return f"Algorithm {algorithm} is not built yet: choose {choices}."


def listed(names: frozenset[RLHFAlgorithm] | frozenset[PEFTMethod]) -> str:
    """Names as a sentence offers them: dpo, ipo or sft."""
    *others, last = sorted(names)
    return f"{', '.join(others)} or {last}"
