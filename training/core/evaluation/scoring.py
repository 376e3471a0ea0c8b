"""Scores and log-probabilities of held-out rows, without the trainer in between."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from training.core.data.tokens import IGNORED
from training.core.evaluation.accuracy import Floats


@contextmanager
def measuring(model: Any) -> Iterator[None]:
    """Dropout off and no gradients; the model's mode is put back."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def reward_scores(
    model: Any, texts: Sequence[Sequence[int]], pad_id: int, batch_size: int
) -> Floats:
    """[n] the number a reward model gives to each text."""
    scores = np.empty(len(texts))
    with measuring(model):
        for places, ids, mask in _batches(texts, pad_id, batch_size, model.device):
            logits = model(input_ids=ids, attention_mask=mask).logits
            scores[places] = logits.squeeze(-1).float().cpu().numpy()
    return scores


def log_probabilities(
    model: Any,
    rows: Sequence[Mapping[str, Sequence[int]]],
    pad_id: int,
    batch_size: int,
) -> tuple[Floats, Floats]:
    """[n] summed log-probability of each row's learned tokens, and [n] their count.

    Args:
        rows: Each with input_ids and labels of the same length.
    """
    sums, counts = np.empty(len(rows)), np.empty(len(rows))
    texts = [row["input_ids"] for row in rows]
    with measuring(model):
        for places, ids, mask in _batches(texts, pad_id, batch_size, model.device):
            labels = torch.full_like(ids, IGNORED)
            for line, place in enumerate(places):
                known = torch.tensor(rows[place]["labels"], device=ids.device)
                labels[line, : len(known)] = known
            logits = model(input_ids=ids, attention_mask=mask).logits
            losses = torch.nn.functional.cross_entropy(
                logits[:, :-1].float().transpose(1, 2),
                labels[:, 1:],
                ignore_index=IGNORED,
                reduction="none",
            )
            sums[places] = -losses.sum(dim=1).double().cpu().numpy()
            counts[places] = (labels[:, 1:] != IGNORED).sum(dim=1).cpu().numpy()
    return sums, counts


def perplexity(sums: Floats, counts: Floats) -> float:
    """exp of the mean negative log-probability of a token, over all tokens."""
    return float(np.exp(-sums.sum() / counts.sum()))


def _batches(
    texts: Sequence[Sequence[int]], pad_id: int, batch_size: int, device: Any
) -> Iterator[tuple[list[int], torch.Tensor, torch.Tensor]]:
    """Places, [b, t] ids and [b, t] mask; texts of like length go together."""
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        width = max(len(texts[place]) for place in places)
        ids = torch.full((len(places), width), pad_id)
        mask = torch.zeros_like(ids)
        for line, place in enumerate(places):
            ids[line, : len(texts[place])] = torch.tensor(texts[place])
            mask[line, : len(texts[place])] = 1
        yield places, ids.to(device), mask.to(device)
