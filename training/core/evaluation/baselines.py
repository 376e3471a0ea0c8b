"""What a model must beat to have learned more than length and vocabulary."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch

from training.core.data.lint import Preference
from training.core.data.text import plain_text
from training.core.evaluation.accuracy import Floats, pairwise_accuracy

_WORD = re.compile(r"\w+|[^\w\s]")

VOCABULARY = 20_000


def baseline_metrics(
    train: Sequence[Preference], held_out: Sequence[Preference], seed: int
) -> dict[str, float]:
    """Accuracies on the held-out pairs of three rules that read no meaning.

    baseline_random is one half by construction: which side is better is not shown.
    """
    groups = [pair.group for pair in held_out]
    longer = pairwise_accuracy(
        length_margins(held_out), groups, seed=seed, name="baseline_longer_wins"
    )
    words = pairwise_accuracy(
        word_margins(train, held_out), groups, seed=seed, name="baseline_bag_of_words"
    )
    return {"baseline_random": 0.5, **longer, **words}


def length_margins(pairs: Sequence[Preference]) -> Floats:
    """[n] characters of chosen minus characters of rejected."""
    return np.array(
        [len(plain_text(p.chosen)) - len(plain_text(p.rejected)) for p in pairs],
        dtype=np.float64,
    )


def word_margins(
    train: Sequence[Preference], held_out: Sequence[Preference], penalty: float = 1.0
) -> Floats:
    """[n] margins of a Bradley-Terry model whose score is a sum of word weights.

    A logistic regression without intercept on the differences of word counts, which is
    log-transformed so that a repeated word does not count in full. `penalty` is that of
    the squared weights, as 1 / C in scikit-learn.
    """
    counts: Counter[str] = Counter()
    for pair in train:
        counts.update(set(_words(pair.chosen)) | set(_words(pair.rejected)))
    vocabulary = {
        word: place for place, (word, _) in enumerate(counts.most_common(VOCABULARY))
    }
    weights = fit_logistic(_differences(train, vocabulary), penalty)
    margins = torch.mv(_differences(held_out, vocabulary), weights)
    return margins.numpy().astype(np.float64)


def fit_logistic(features: torch.Tensor, penalty: float) -> torch.Tensor:
    """[d] weights that maximise the likelihood of every margin being positive.

    Args:
        features: [n, d] sparse; what chosen has more than rejected.
        penalty: Half of it times the squared weights is added to the summed loss.
    """
    weights = torch.zeros(features.shape[1], dtype=features.dtype, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weights], max_iter=200, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        margins = torch.mv(features, weights)
        loss = torch.nn.functional.softplus(-margins).sum()
        loss = loss + penalty / 2 * weights.square().sum()
        loss.backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call] # as above
    return weights.detach()


def _differences(
    pairs: Sequence[Preference], vocabulary: dict[str, int]
) -> torch.Tensor:
    """[n, d] sparse: log(1 + count) of each word in chosen, minus that in rejected."""
    rows, columns, values = [], [], []
    for row, pair in enumerate(pairs):
        for side, sign in ((pair.chosen, 1.0), (pair.rejected, -1.0)):
            for word, count in Counter(_words(side)).items():
                if word in vocabulary:
                    rows.append(row)
                    columns.append(vocabulary[word])
                    values.append(sign * np.log1p(count))
    return torch.sparse_coo_tensor(
        torch.tensor([rows, columns], dtype=torch.long),
        torch.tensor(values, dtype=torch.float64),
        (len(pairs), len(vocabulary)),
        check_invariants=False,
    ).coalesce()


def _words(text: object) -> list[str]:
    return _WORD.findall(plain_text(text).lower())  # type: ignore[arg-type]
