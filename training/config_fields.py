"""Form fields from the configuration's own description, so that no setting is missing.

Names are dotted as in the configuration: `peft.r`. A field that is left empty is left
out, and the configuration decides; its default is shown in the empty field.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from django import forms
from django.core.exceptions import ValidationError
from pydantic import BaseModel, TypeAdapter
from pydantic import ValidationError as PydanticError
from pydantic.fields import FieldInfo

from training.core.config import RLHFConfig

# Decided elsewhere on the page, or of no use with a frozen dataset.
_NOT_ASKED = frozenset(
    {
        "version",
        "job_name",
        "algorithm",
        "base_model",
        "dataset_path",
        "output_dir",
        "reward_model",
        "train_split",
        "eval_split",
        "eval_dataset_path",
        "eval_share",
        "columns",
        "peft.method",
        "peft.task_type",
        "peft.quantization_bits",
        "logging.tracker",
        "bf16",
        "fp16",
    }
)
_LABELS = {
    "lr_scheduler": "LR scheduler",
    "cpu_threads": "CPU threads",
    "peft.r": "LoRA rank (r)",
    "peft.alpha": "LoRA alpha",
    "peft.dropout": "LoRA dropout",
}
"""Where the name alone says little."""
_YES_NO = [("true", "Yes"), ("false", "No")]


def settings_of(
    part: type[BaseModel] = RLHFConfig, prefix: str = ""
) -> Iterator[tuple[str, FieldInfo]]:
    """Every setting that a launch form asks for, with its dotted name."""
    for name, info in part.model_fields.items():
        dotted = prefix + name
        inner = next((kind for kind in _kinds(info) if _is_part(kind)), None)
        if inner is not None:
            yield from settings_of(inner, f"{dotted}.")
        elif dotted not in _NOT_ASKED:
            yield dotted, info


def form_field(name: str, info: FieldInfo) -> forms.Field:
    """The form field of one setting; it refuses what the configuration would refuse."""
    told: dict[str, Any] = {
        "label": _LABELS.get(name) or _words(name),
        "help_text": info.description or "",
        "required": False,
        "validators": [_Accepts(info)],
    }
    default = _shown(info.default)
    if choices := _choices(info):
        others = [choice for choice in choices if choice[1] != default]
        shown = [("", f"{default} (default)" if default else "Default"), *others]
        return forms.ChoiceField(choices=shown, **told)
    kinds = _kinds(info)
    kind = next((_FIELDS[kind] for kind in kinds if kind in _FIELDS), _WordsField)
    # As text: a browser's number field hides what it does not understand.
    widget = forms.TextInput({"placeholder": default, "autocomplete": "off"})
    return kind(widget=widget, **told)


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted names as the parts of a configuration, empty ones left out.

    >>> nested({"seed": 1, "peft.r": 8, "peft.bias": ""})
    {'seed': 1, 'peft': {'r': 8}}
    """
    config: dict[str, Any] = {}
    for name, value in values.items():
        if value in (None, "", []):
            continue
        part, _, last = name.rpartition(".")
        (config.setdefault(part, {}) if part else config)[last] = value
    return config


def typed(name: str, config: Mapping[str, Any]) -> Any:
    """What the field of this name holds for a configuration; '' for a default."""
    part, _, last = name.rpartition(".")
    values = (config.get(part) or {}) if part else config
    info = dict(settings_of())[name]
    value = values.get(last)
    if value is None or value == info.default:
        return ""
    if isinstance(value, list):
        return ", ".join(value)
    return str(value).lower() if isinstance(value, bool) else value


class _WordsField(forms.CharField):
    """Words between commas."""

    def to_python(self, value: Any) -> Any:
        words = (word.strip() for word in (super().to_python(value) or "").split(","))
        return [word for word in words if word]


_FIELDS: dict[Any, type[forms.Field]] = {
    int: forms.IntegerField,
    float: forms.FloatField,
}


class _Accepts:
    """A validator that asks the configuration, so that ranges are written once."""

    def __init__(self, info: FieldInfo) -> None:
        rule: Any = info.annotation
        if info.metadata:
            rule = Annotated[rule, *info.metadata]
        self.adapter: TypeAdapter[Any] = TypeAdapter(rule)

    def __call__(self, value: Any) -> None:
        try:
            self.adapter.validate_python(value)
        except PydanticError as error:
            message = error.errors()[0]["msg"].replace("Input should", "This must", 1)
            raise ValidationError(f"{message}, not {value!r}.") from None


def _choices(info: FieldInfo) -> list[tuple[str, str]]:
    for kind in _kinds(info):
        if isinstance(kind, type) and issubclass(kind, Enum):
            return [(str(word.value), str(word.value)) for word in kind]
        if get_origin(kind) is Literal:
            return [(str(word), str(word)) for word in get_args(kind)]
        if kind is bool:
            return _YES_NO
    return []


def _kinds(info: FieldInfo) -> list[Any]:
    """The types a setting may have, None left out."""
    found: list[Any] = []
    waiting: list[Any] = [info.annotation]
    while waiting:
        kind = waiting.pop(0)
        if get_origin(kind) in (Union, UnionType):
            waiting += get_args(kind)
        elif get_origin(kind) is Annotated:
            waiting.append(get_args(kind)[0])
        elif kind is not type(None):
            found.append(kind)
    return found


def _words(name: str) -> str:
    return name.rpartition(".")[2].replace("_", " ").capitalize()


def _is_part(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _shown(default: Any) -> str:
    """A default as it stands in an empty field."""
    if default is None:
        return ""
    if isinstance(default, bool):
        return "Yes" if default else "No"
    return str(default.value if isinstance(default, Enum) else default)
