"""What managers choose to freeze a dataset and to launch a run."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from django import forms
from django.conf import settings
from django.db.models import QuerySet
from django.forms import BoundField

from labelhub.models import Project
from labelhub.models.project import WITHOUT_STRENGTH
from training.config_fields import form_field, nested, settings_of, typed
from training.core.choices import STARTER_PREFIX, starter_size
from training.core.config import (
    PEFTMethod,
    RLHFAlgorithm,
    RLHFConfig,
    usual_learning_rate,
)
from training.core.errors import RLHFConfigurationError
from training.models import Run, Snapshot
from training.recipes import (
    PRECEDENCE,
    SHAPES,
    Margins,
    Recipe,
    RecipeError,
    usual_algorithm,
)

ALGORITHMS = {
    RLHFAlgorithm.SFT: ("SFT", "Imitates good responses. Where most start."),
    RLHFAlgorithm.REWARD_MODEL: ("Reward model", "Learns to score responses."),
    RLHFAlgorithm.DPO: ("DPO", "Learns from pairs directly. The usual next step."),
    RLHFAlgorithm.IPO: ("IPO", "Like DPO, calmer where labels are noisy."),
}
METHODS = [
    (PEFTMethod.LORA.value, "LoRA: a small adapter beside the model"),
    (PEFTMethod.FULL.value, "Full: every weight"),
]
BASIC = (
    "learning_rate",
    "num_epochs",
    "max_steps",
    "per_device_batch_size",
    "gradient_accumulation_steps",
    "max_length",
    "dpo_config.beta",
    "peft.r",
)
STARTER = f"{STARTER_PREFIX}small"
FEW_ROWS = 20
"""Fewer held-out rows than this say nothing about a model."""

FROZEN_FOR = [
    (RLHFAlgorithm.DPO, "DPO: pairs of a chosen and a rejected response"),
    (RLHFAlgorithm.REWARD_MODEL, "Reward model: the same pairs"),
    (RLHFAlgorithm.IPO, "IPO: the same pairs"),
    (RLHFAlgorithm.ORPO, "ORPO: the same pairs"),
    (RLHFAlgorithm.KTO, "KTO: responses marked good or bad"),
    (RLHFAlgorithm.SFT, "SFT: responses to imitate"),
    (RLHFAlgorithm.PPO, "PPO: prompts to answer"),
]


class SnapshotForm(forms.Form):
    algorithm = forms.ChoiceField(label="For", choices=FROZEN_FOR)
    judges = forms.MultipleChoiceField(
        label="Judged by",
        choices=[(source.value, source.label) for source in PRECEDENCE],
        initial=[source.value for source in PRECEDENCE[:-1]],
        widget=forms.CheckboxSelectMultiple,
        help_text="A task takes its verdict from the first of these that judged it.",
    )
    ties = forms.ChoiceField(
        choices=[
            ("drop", "Leave out"),
            ("both_good", "Both responses are good (KTO only)"),
        ],
    )
    min_votes = forms.IntegerField(
        label="Votes at least",
        min_value=1,
        max_value=1000,
        initial=1,
        help_text="Tasks with fewer are left out. More than half decide.",
    )
    min_strength = forms.TypedChoiceField(
        label="Preferences at least",
        choices=[(0, "Any"), (1, "1: slight"), (2, "2"), (3, "3: the strongest of 7")],
        coerce=int,
        empty_value=None,
        required=False,
        help_text="On average over those who share it. Weaker ones are left out.",
    )
    margins = forms.ChoiceField(
        choices=[("none", "None"), ("strength", "The strength of the preference")],
        required=False,
        help_text="How far apart a reward model should score a pair.",
    )
    eval_percent = forms.FloatField(
        label="Held out, in percent of prompts",
        min_value=0,
        max_value=90,
        initial=10,
        help_text="For evaluation; no prompt is on both sides.",
    )
    seed = forms.IntegerField(
        min_value=0,
        max_value=2**31 - 1,
        initial=0,
        help_text="Decides the order of the rows, and which prompts are held out.",
    )

    def __init__(self, *args: Any, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.project = project
        self.recipe: Recipe | None = None
        self.initial.setdefault("algorithm", usual_algorithm(project.kind))
        if project.strength_points == WITHOUT_STRENGTH:
            for name in ("min_strength", "margins"):
                del self.fields[name]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if self.errors:
            return cleaned
        try:
            recipe = Recipe(
                algorithm=cleaned["algorithm"],
                judges=tuple(cleaned["judges"]),
                ties=cleaned["ties"],
                min_votes=cleaned["min_votes"],
                min_strength=cleaned.get("min_strength") or 0,
                margins=Margins(cleaned.get("margins") or "none"),
                eval_share=cleaned["eval_percent"] / 100,
                seed=cleaned["seed"],
            )
            recipe.check_fits(self.project.kind)
        except RecipeError as error:
            raise forms.ValidationError(str(error)) from None
        self.recipe = recipe
        return cleaned


class LaunchForm(forms.Form):
    name = forms.CharField(max_length=120, label="Name of the run")
    snapshot = forms.ModelChoiceField(Snapshot.objects.none(), label="Dataset")
    algorithm = forms.ChoiceField(
        choices=[(key.value, title) for key, (title, _) in ALGORITHMS.items()],
        widget=forms.RadioSelect,
    )
    base_model = forms.CharField(
        max_length=300,
        help_text="A run of this project as run:ID, a folder of the models, a hub "
        "name with its revision, or starter:small, made from the dataset’s own text.",
        widget=forms.TextInput({"list": "base-models", "autocomplete": "off"}),
    )
    method = forms.ChoiceField(
        label="What is trained",
        choices=METHODS,
        widget=forms.RadioSelect,
        initial=PEFTMethod.LORA.value,
    )
    request_id = forms.UUIDField(widget=forms.HiddenInput)
    clone = forms.ModelChoiceField(
        Run.objects.none(), required=False, widget=forms.HiddenInput
    )

    def __init__(self, project: Project, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.project = project
        ready = Snapshot.objects.filter(project=project, state=Snapshot.State.READY)
        self.fields["snapshot"] = _SnapshotField(ready.order_by("-pk"), label="Dataset")
        self.fields["clone"].queryset = Run.objects.filter(project=project)  # type: ignore[attr-defined]
        for name, info in settings_of():
            self.fields[name] = form_field(name, info)

    def basic(self) -> Iterator[BoundField]:
        return (self[name] for name in BASIC)

    def advanced(self) -> Iterator[BoundField]:
        return (self[name] for name, _ in settings_of() if name not in BASIC)

    def algorithms(self) -> Iterator[tuple[Any, str]]:
        """Each choice with the sentence about it."""
        texts = [text for _, text in ALGORITHMS.values()]
        return zip(self["algorithm"], texts, strict=True)

    def has_advanced_errors(self) -> bool:
        return any(field.errors for field in self.advanced())

    def base_models(self) -> list[tuple[str, str]]:
        """What can be started from here: value, and what it is."""
        found = [(f"run:{run.pk}", run.name) for run in _writers(self.project)[:50]]
        found += [(name, "a folder of the models") for name in _model_folders()]
        return [*found, (STARTER, "made from the dataset’s own text; trained in full")]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        snapshot, algorithm = cleaned.get("snapshot"), cleaned.get("algorithm")
        if snapshot and algorithm and not _fits(algorithm, snapshot):
            self.add_error("algorithm", _misfit(algorithm, snapshot))
        if not self.errors:
            try:
                RLHFConfig.from_dict(
                    {**self.config(), "job_name": cleaned["name"], "output_dir": "."}
                ).resolved()
            except RLHFConfigurationError as error:
                self.refuse(error.message)
        return cleaned

    def config(self) -> dict[str, Any]:
        """What was typed, as a configuration; empty fields are left to it."""
        cleaned = self.cleaned_data
        names = [name for name, _ in settings_of()]
        config = nested({name: cleaned.get(name) for name in names})
        config["peft"] = {"method": cleaned.get("method"), **config.get("peft", {})}
        for name in ("algorithm", "base_model"):
            config[name] = cleaned.get(name)
        snapshot = cleaned.get("snapshot")
        config["dataset_path"] = f"snapshot:{snapshot.pk}" if snapshot else None
        return config

    def refuse(self, sentence: str) -> None:
        """Show what was refused at the field it begins with, else above the form."""
        first = sentence.split(maxsplit=1)[0].rstrip(":")
        match = (name for name in self.fields if first in (name, name.split(".")[-1]))
        self.add_error(next(match, None), sentence)


@dataclass(frozen=True)
class Summary:
    """What a run will take, from what has been typed so far."""

    n_train: int
    n_eval: int
    batch: int
    steps: int | None
    arithmetic: str
    learning_rate: float | None
    warnings: list[str]
    as_yaml: str


def summary_of(form: LaunchForm) -> Summary | None:
    """The summary of a form that has been validated, however far it is filled in."""
    snapshot = form.cleaned_data.get("snapshot")
    if snapshot is None:
        return None
    values = {**form.config(), "job_name": form.cleaned_data.get("name") or "unnamed"}
    values["base_model"] = values["base_model"] or "base_model"
    values["algorithm"] = values["algorithm"] or snapshot.recipe["for"]
    try:
        config = RLHFConfig.from_dict({**values, "output_dir": "."}).resolved()
    except RLHFConfigurationError:
        # Said at the fields.
        return None
    rows = min(snapshot.n_train, config.max_samples or snapshot.n_train)
    batch = config.per_device_batch_size * config.gradient_accumulation_steps
    steps, arithmetic = config.max_steps, "as asked"
    if steps is None:
        epochs = config.num_epochs or 1.0
        # As training.core plans it: a last batch may be small, none is left out.
        batches = math.ceil(rows / config.per_device_batch_size)
        an_epoch = math.ceil(batches / config.gradient_accumulation_steps)
        steps = math.ceil(epochs * an_epoch)
        arithmetic = f"{rows:,} ÷ {batch:,} × {epochs:g}"
    return Summary(
        n_train=snapshot.n_train,
        n_eval=snapshot.n_eval,
        batch=batch,
        steps=steps,
        arithmetic=arithmetic,
        learning_rate=config.learning_rate,
        warnings=list(_warnings(snapshot, config, steps)),
        as_yaml=yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True),
    )


def usual_start(project: Project, algorithm: str) -> dict[str, Any]:
    """Where most would start: SFT from a model of the house, the others from the newest
    run that writes; from a starter model where there is neither."""
    newest = None if algorithm == RLHFAlgorithm.SFT else _writers(project).first()
    if newest is None:
        folder = next(iter(_model_folders()), None)
        lora = {"base_model": folder, "method": PEFTMethod.LORA.value}
        full = {"base_model": STARTER, "method": PEFTMethod.FULL.value}
        return lora if folder else full
    start: dict[str, Any] = {
        "base_model": f"run:{newest.pk}",
        "method": PEFTMethod.LORA.value,
    }
    if starter_size(_first_ancestor(newest).config.get("base_model", "")):
        start["learning_rate"] = usual_learning_rate(
            RLHFAlgorithm(algorithm), PEFTMethod.LORA, from_starter=True
        )
    return start


def _writers(project: Project) -> QuerySet[Run]:
    """Runs whose model writes text, and can be started from; newest first."""
    writing = [a for a in ALGORITHMS if a != RLHFAlgorithm.REWARD_MODEL]
    ended = [Run.State.SUCCEEDED, Run.State.STOPPED]
    runs = Run.objects.filter(project=project, state__in=ended, algorithm__in=writing)
    return runs.exclude(uri="").order_by("-pk")


def _first_ancestor(run: Run) -> Run:
    while run.base_run is not None:
        run = run.base_run
    return run


def initial_of(run: Run) -> dict[str, Any]:
    """The form filled in as for this run, to be edited."""
    config = run.config
    initial = {name: typed(name, config) for name, _ in settings_of()}
    return initial | {
        "name": run.name,
        "snapshot": run.snapshot_id,
        "algorithm": run.algorithm,
        "base_model": config.get("base_model", ""),
        "method": (config.get("peft") or {}).get("method", PEFTMethod.FULL.value),
        "request_id": uuid.uuid4(),
        "clone": run.pk,
    }


class _SnapshotField(forms.ModelChoiceField):  # type: ignore[type-arg]
    def label_from_instance(self, obj: Snapshot) -> str:
        return (
            f"#{obj.pk} for {obj.recipe['for']}: {obj.n_train:,} + {obj.n_eval:,} "
            "held out"
        )


def _fits(algorithm: str, snapshot: Snapshot) -> bool:
    return SHAPES[RLHFAlgorithm(algorithm)] is _shape_of(snapshot)


def _shape_of(snapshot: Snapshot) -> Any:
    return SHAPES[RLHFAlgorithm(snapshot.recipe["for"])]


def _misfit(algorithm: str, snapshot: Snapshot) -> str:
    right = [title for key, (title, _) in ALGORITHMS.items() if _fits(key, snapshot)]
    way_out = f"choose {' or '.join(right)}" if right else "freeze another dataset"
    return (
        f"{algorithm} learns from {SHAPES[RLHFAlgorithm(algorithm)]}, and dataset "
        f"#{snapshot.pk} holds {_shape_of(snapshot)}: {way_out}."
    )


def _warnings(snapshot: Snapshot, config: RLHFConfig, steps: int) -> Iterator[str]:
    if snapshot.n_eval == 0:
        yield "No row is held out: nothing will tell whether the model learned."
    elif snapshot.n_eval < FEW_ROWS:
        yield (
            f"Only {snapshot.n_eval} rows are held out: the accuracy will be a guess."
        )
    if steps < 10:
        yield f"{steps} steps are too few to learn from: lower the batch size."
    longer = (snapshot.statistics.get("length_bias") or {}).get("value")
    if longer is not None and longer > 0.6:
        yield (
            f"The longer response won {100 * longer:.0f}% of the pairs: the model may "
            "learn length."
        )
    if config.base_model.count("/") == 1 and "@" not in config.base_model:
        yield (
            "The base model has no @revision: the same name may be another model "
            "tomorrow."
        )


def _model_folders() -> Iterator[str]:
    """Folders below MODEL_ROOTS that hold a model, by the name a run uses."""
    for root in settings.MODEL_ROOTS:
        if root.is_dir():
            for config in sorted(root.glob("*/config.json")):
                yield config.parent.name
