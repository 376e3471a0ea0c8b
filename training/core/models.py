"""Finding, checking and loading models: by path, safetensors only, no remote code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from training.core.errors import RLHFModelError
from training.core.locations import hub_id, local_path

Task = Literal["causal", "score"]
"""What the model is used for: to speak, or to score a text with one number."""

_DESCRIPTIONS = ("config.json", "adapter_config.json")
_HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"]


def fetch_model(name: str) -> Path:
    """The folder of a model: the one named, or the hub's files in the local cache.

    It may hold an adapter without its base.

    Raises:
        RLHFModelError: RLHF030 where there is no such model, RLHF013 where its weights
            are not safetensors.
    """
    folder = local_path(name) or _download(name)
    if not folder.is_dir():
        raise RLHFModelError(f"There is no model folder {folder}.", code="RLHF030")
    if not any((folder / file).is_file() for file in _DESCRIPTIONS):
        raise RLHFModelError(
            f"{name} is no model folder: it has no {' and no '.join(_DESCRIPTIONS)}.",
            code="RLHF030",
        )
    if not any(folder.glob("*.safetensors")):
        raise RLHFModelError(
            f"{name} has no weights as .safetensors, and other formats can run code "
            "when loaded: convert it first.",
            code="RLHF013",
        )
    return folder


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    repository, revision = hub_id(name)
    try:
        folder = snapshot_download(
            repository, revision=revision, allow_patterns=_HUB_FILES
        )
    # Every error of the hub client is one of these two.
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise RLHFModelError(
            f"{name} is neither a folder here nor a model that the hub hands out: "
            f"{reason}",
            code="RLHF030",
        ) from error
    return Path(folder)


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model, with a padding token.

    Raises:
        RLHFModelError: RLHF033, where it cannot be read.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise RLHFModelError(
            f"The tokenizer in {folder} cannot be read: {reason}", code="RLHF033"
        ) from error
    # Padding is masked everywhere, so that the end-of-text token can serve.
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return tokenizer


def load_model(folder: Path, task: Task, dtype: torch.dtype) -> Any:
    """The model to train, on the CPU. A score head that is new is drawn with torch's
    global seed.

    Raises:
        RLHFModelError: RLHF013 where its files cannot be read, RLHF031 where it cannot
            do the task.
    """
    architecture = _architecture(folder)
    if task == "causal" and not architecture.endswith(("ForCausalLM", "LMHeadModel")):
        raise RLHFModelError(
            f"{architecture} does not write text: choose a causal language model.",
            code="RLHF031",
        )
    kinds = {
        "causal": AutoModelForCausalLM,
        "score": AutoModelForSequenceClassification,
    }
    extra = {"num_labels": 1} if task == "score" else {}
    try:
        return kinds[task].from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            **extra,
        )
    except ValueError as error:
        reason = str(error).partition("\n")[0]
        raise RLHFModelError(
            f"{architecture} cannot be used here: {reason}", code="RLHF031"
        ) from error
    except Exception as error:
        # safetensors and the model classes raise what they like at damaged files.
        if isinstance(error, torch.OutOfMemoryError | MemoryError):
            raise
        reason = str(error).partition("\n")[0]
        raise RLHFModelError(
            f"The model in {folder} cannot be loaded: {reason}", code="RLHF013"
        ) from error


def load_trained(folder: Path, base: Path, task: Task, dtype: torch.dtype) -> Any:
    """What a run saved under final/: a whole model, or an adapter on its base.

    The weights of an adapter stay apart from the base, as they were in training.
    """
    if not (folder / "adapter_config.json").is_file():
        return load_model(folder, task, dtype)
    from peft import PeftModel

    return PeftModel.from_pretrained(load_model(base, task, dtype), folder)


def check_vocabulary(model: Any, tokenizer: Any) -> None:
    """Refuse a tokenizer that knows ids which the model has no embedding for.

    Raises:
        RLHFModelError: RLHF033, with both sizes.
    """
    rows = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        raise RLHFModelError(
            f"The tokenizer has {len(tokenizer)} tokens and the model only {rows} "
            "embeddings: they do not belong together.",
            code="RLHF033",
        )


def position_limit(folder: Path) -> int | None:
    """The longest text that the model has positions for, if it says."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    limit = config.get("max_position_embeddings", config.get("n_positions"))
    return limit if isinstance(limit, int) else None


def _architecture(folder: Path) -> str:
    try:
        config = transformers.AutoConfig.from_pretrained(
            folder, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).partition("\n")[0]
        raise RLHFModelError(
            f"The model in {folder} is of a kind that is not known: {reason}",
            code="RLHF031",
        ) from error
    names = config.architectures or [type(config).__name__]
    return str(names[0])
