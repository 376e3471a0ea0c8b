"""One file an algorithm; this is the list of those that exist."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from training.core.choices import RLHFAlgorithm, unbuilt_algorithm
from training.core.errors import RLHFConfigurationError

if TYPE_CHECKING:
    from training.core.trainers.base import BaseTrainer

_CLASSES = {
    RLHFAlgorithm.SFT: ("sft", "SFTTrainer"),
    RLHFAlgorithm.REWARD_MODEL: ("reward", "RewardTrainer"),
    RLHFAlgorithm.DPO: ("dpo", "DPOTrainer"),
    # IPO is DPO with a squared loss on the margin.
    RLHFAlgorithm.IPO: ("dpo", "DPOTrainer"),
}


def get_trainer_class(algorithm: RLHFAlgorithm) -> type[BaseTrainer]:
    """The class that trains by an algorithm.

    Raises:
        RLHFConfigurationError: RLHF002, where it is not built yet.
    """
    if algorithm not in _CLASSES:
        raise RLHFConfigurationError(unbuilt_algorithm(algorithm), code="RLHF002")
    module, name = _CLASSES[algorithm]
    found: type[BaseTrainer] = getattr(import_module(f"{__name__}.{module}"), name)
    return found
