"""Which curves are drawn together, and what each chart means in one line."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Panel:
    """One chart. A metric's evaluation, `eval_` before its name, is drawn with it."""

    title: str
    help: str
    names: tuple[str, ...]
    is_share: bool = False
    """Values are shares of one; people's agreement is drawn beside them."""
    log: bool = False
    folded: bool = False


_LOSS = Panel(
    "Loss",
    "What training makes smaller. Held-out loss rising while it falls means that rows "
    "are learned by heart.",
    ("loss",),
)
_GRADIENT = Panel(
    "Gradient norm",
    "The size of each update before clipping. Spikes come before a run breaks.",
    ("grad_norm",),
    log=True,
)
_LEARNING_RATE = Panel(
    "Learning rate", "What the schedule allowed at each step.", ("learning_rate",)
)
_ACCURACY = Panel(
    "Accuracy",
    "Share of pairs where the chosen response gets the higher reward. Before the first "
    "step both are equal, which counts as wrong: it starts at 0.",
    ("rewards/accuracies",),
    is_share=True,
)
_MARGINS = Panel(
    "Rewards",
    "How much likelier each response has become than under the reference, times beta. "
    "Chosen falling while the margin grows is likelihood displacement: raise beta or "
    "lower the learning rate.",
    ("rewards/chosen", "rewards/rejected", "rewards/margins"),
)
_LOGPS = Panel(
    "Log-probabilities",
    "Of whole responses. Both falling far means that the model drifts from its start.",
    ("logps/chosen", "logps/rejected"),
)

_PANELS: dict[str, tuple[Panel, ...]] = {
    "sft": (
        _LOSS,
        Panel(
            "Token accuracy",
            "Share of tokens guessed right. Under 5 % and flat points to the template.",
            ("mean_token_accuracy",),
        ),
        Panel(
            "Entropy", "How undecided the model is about the next token.", ("entropy",)
        ),
        _GRADIENT,
        _LEARNING_RATE,
    ),
    "reward_model": (
        Panel(
            "Accuracy",
            "Share of pairs where the chosen response scores higher. Training far "
            "above held-out means that it learns by heart: one pass is usual.",
            ("accuracy",),
            is_share=True,
        ),
        Panel(
            "Margin",
            "Score of the chosen response less that of the other.",
            ("margin",),
        ),
        _LOSS,
        Panel(
            "Scores",
            "Least, mean and greatest score of a batch. A drifting mean is harmless to "
            "the ranking, and a nuisance for PPO.",
            ("min_reward", "mean_reward", "max_reward"),
        ),
        _GRADIENT,
        _LEARNING_RATE,
    ),
    "dpo": (_MARGINS, _ACCURACY, _LOSS, _LOGPS, _GRADIENT, _LEARNING_RATE),
    "ipo": (
        _MARGINS,
        _ACCURACY,
        Panel(
            "Loss",
            "Starts at (1 / 2 beta)², 25 for a beta of 0.1: not comparable with DPO's.",
            ("loss",),
        ),
        _LOGPS,
        _GRADIENT,
        _LEARNING_RATE,
    ),
}


def panels_for(algorithm: str, names: Collection[str]) -> list[Panel]:
    """The charts of a run, first those that its algorithm is known by.

    Every other metric among `names` gets a folded chart of its own, however late it
    appears, so that nothing that was reported goes unseen.
    """
    panels = list(_PANELS.get(algorithm, (_LOSS, _GRADIENT, _LEARNING_RATE)))
    drawn = {name for panel in panels for name in panel.names}
    others = {name.removeprefix("eval_") for name in names} - drawn
    panels += [Panel(name, "", (name,), folded=True) for name in sorted(others)]
    return panels
