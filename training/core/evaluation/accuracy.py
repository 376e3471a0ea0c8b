"""Share of pairs that are ordered as people ordered them, with its uncertainty."""

from __future__ import annotations

import math
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

    The interval of 95 % is the wider of two. A percentile bootstrap draws prompts and
    not pairs: pairs of one prompt are alike, and drawing them one by one would make it
    too narrow. Wilson's interval for as many trials as there are prompts holds where
    the bootstrap cannot know better: 20 of 20 right is no certainty.

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
    share = float(right.mean())
    wilson_low, wilson_high = _wilson(share, len(size))
    return {
        name: share,
        f"{name}_low": min(float(low), wilson_low),
        f"{name}_high": max(float(high), wilson_high),
    }


def _wilson(share: float, trials: int) -> tuple[float, float]:
    """Wilson's score interval of 95 % (E. B. Wilson, JASA 22, 1927)."""
    z = 1.959964
    middle = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + (z / (2 * trials)) ** 2)
    scale = 1 + z * z / trials
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)
