"""Share of pairs that are ordered as people ordered them, with its uncertainty."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from training.core.errors import RLHFEvaluationError

Floats = npt.NDArray[np.float64]

RESAMPLES = 2000


def pairwise_accuracy(
    margins: Floats, groups: Sequence[str], *, seed: int, name: str = "accuracy"
) -> dict[str, float]:
    """Share of positive margins; a margin of zero is half right, as a guess would be.

    The interval is a 95 % percentile bootstrap that draws prompts and not pairs: pairs
    of one prompt are alike, and drawing them one by one would make it too narrow.

    Args:
        margins: [n] score of chosen minus score of rejected.
        groups: [n] equal for pairs of the same prompt.

    Returns:
        The accuracy under `name`, and its ends under name_low and name_high.

    Raises:
        RLHFEvaluationError: RLHF041, where a margin is no number.
    """
    broken = int(np.sum(~np.isfinite(margins)))
    if broken:
        raise RLHFEvaluationError(
            f"{broken} of {len(margins)} held-out pairs scored no number.",
            code="RLHF041",
        )
    right = np.where(margins == 0, 0.5, margins > 0)
    _, inverse = np.unique(np.asarray(groups, dtype=object), return_inverse=True)
    size = np.bincount(inverse)
    hits = np.bincount(inverse, weights=right)
    rng = np.random.default_rng(seed)
    # One row at a time: a matrix of all resamples would be 2000 x prompts.
    resampled = np.empty(RESAMPLES)
    for number in range(RESAMPLES):
        drawn = rng.integers(len(size), size=len(size))
        resampled[number] = hits[drawn].sum() / size[drawn].sum()
    low, high = np.quantile(resampled, (0.025, 0.975))
    return {
        name: float(right.mean()),
        f"{name}_low": float(low),
        f"{name}_high": float(high),
    }
