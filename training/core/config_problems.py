"""How pydantic's complaints about a configuration become one error of ours."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Iterator
from typing import get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from training.core.errors import RLHFConfigurationError

# Keys that people bring from elsewhere, and why they are not taken.
_REFUSED_KEYS = {
    "wandb_api_key": "a secret does not belong in a file: set WANDB_API_KEY in the "
    "environment of the training host",
    "hub_token": "a secret does not belong in a file: set HF_TOKEN in the environment "
    "of the training host",
    "hf_token": "a secret does not belong in a file: set HF_TOKEN in the environment "
    "of the training host",
    "trust_remote_code": "code from a model repository is never run",
    "ppo_config": "PPO is not built yet",
    "orpo_config": "ORPO is not built yet",
    "kto_config": "KTO is not built yet",
    "safety": "safety filters are not built yet",
    "deepspeed_config": "training over several devices is not built yet",
    "push_to_hub": "publishing is not part of a training run yet",
    "hub_model_id": "publishing is not part of a training run yet",
    "mlflow_tracking_uri": "trackers are not built yet",
    "reference_free": "TRL 1.16 trains DPO against a reference model only",
    "use_gradient_checkpointing": "set gradient_checkpointing at the top level",
}


def configuration_error(
    model: type[BaseModel], error: ValidationError
) -> RLHFConfigurationError:
    """One error of ours from all of pydantic's; its code is the lowest among them."""
    problems = [_problem(model, detail) for detail in error.errors()]
    return RLHFConfigurationError(
        " ".join(sentence for _, sentence in problems), code=min(problems)[0]
    )


def _problem(model: type[BaseModel], detail: ErrorDetails) -> tuple[str, str]:
    """Code and sentence of one of pydantic's complaints."""
    path = [str(part) for part in detail["loc"]]
    key = ".".join(path)
    if detail["type"] == "conflict":
        return "RLHF004", detail["msg"]
    if detail["type"] == "missing":
        return "RLHF001", f"{key} is missing."
    if detail["type"] == "extra_forbidden":
        return "RLHF003", _unknown_key(model, path)
    rule = detail["msg"].replace("Input should be", "must be", 1)
    rule = rule[0].lower() + rule[1:]
    code = "RLHF002" if path in (["algorithm"], ["peft", "method"]) else "RLHF003"
    value = textwrap.shorten(repr(detail["input"]), 80)
    return code, f"{key} {rule}, not {value}."


def _unknown_key(model: type[BaseModel], path: list[str]) -> str:
    name, key = path[-1], ".".join(path)
    if name in _REFUSED_KEYS:
        return f"{key} is not accepted: {_REFUSED_KEYS[name]}."
    # The same part first, then everywhere: a right word is often on the wrong level.
    here = [field for field in _keys(model) if field.split(".")[:-1] == path[:-1]]
    for candidates in (here, list(_keys(model))):
        words = {field.rpartition(".")[2]: field for field in candidates}
        if nearest := difflib.get_close_matches(name, words, n=1):
            return f"{key} is not a known key: did you mean {words[nearest[0]]}?"
    return f"{key} is not a known key. Known here: {', '.join(here)}."


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every key of a part and of the parts in it, dotted."""
    for name, field in model.model_fields.items():
        yield prefix + name
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _keys(kind, f"{prefix}{name}.")
