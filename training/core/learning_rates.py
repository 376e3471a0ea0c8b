"""The peak learning rates that jobs get where none is given."""

from __future__ import annotations

from training.core.choices import PEFTMethod, RLHFAlgorithm

# Peak learning rates that are customary for pretrained models: (full, LoRA). Adapters
# start at zero and stand about ten times more.
_LEARNING_RATES = {
    RLHFAlgorithm.SFT: (2e-5, 2e-4),
    RLHFAlgorithm.REWARD_MODEL: (1e-5, 1e-4),
    RLHFAlgorithm.DPO: (1e-6, 1e-5),
    RLHFAlgorithm.IPO: (1e-6, 1e-5),
}

# A starter model has a million weights, not a billion, and is moved by nothing less.
_STARTER_LEARNING_RATES = {
    RLHFAlgorithm.SFT: 1e-3,
    RLHFAlgorithm.REWARD_MODEL: 3e-4,
    RLHFAlgorithm.DPO: 5e-4,
    RLHFAlgorithm.IPO: 5e-4,
}


def usual_learning_rate(
    algorithm: RLHFAlgorithm, method: PEFTMethod, *, from_starter: bool = False
) -> float:
    """The peak learning rate where none is given, for pretrained or starter models."""
    if from_starter:
        return _STARTER_LEARNING_RATES[algorithm]
    full, lora = _LEARNING_RATES[algorithm]
    return full if method is PEFTMethod.FULL else lora
