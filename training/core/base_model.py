"""The model a job starts from, made first where there is none to load.

Two kinds need work: `starter:small`, which is taught from the job's own training text,
and an adapter, which is merged into the model it was trained on. Both come to stand
under inputs/ in the run directory.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
import transformers

from training.core import models
from training.core.choices import RLHFAlgorithm, starter_size
from training.core.config import RLHFConfig
from training.core.data.columns import detect_columns
from training.core.data.ledger import Ledger
from training.core.data.lint import demonstrations, hold_out, preferences
from training.core.data.loaders import Row, load_source
from training.core.data.starter_model import make_starter_model, texts_of
from training.core.run_directory import RunDirectory

Tell = Callable[..., None]


def ready_base_model(config: RLHFConfig, run: RunDirectory, tell: Tell) -> Path:
    """The folder of a whole model.

    Raises:
        RLHFModelError: RLHF030, RLHF013 or RLHF031, as `models.fetch_model` does.
        RLHFDatasetError: RLHF023, where there is too little text for a starter model.
    """
    if size := starter_size(config.base_model):
        return _make_starter(config, size, run.starter, tell)
    folder = models.fetch_model(config.base_model)
    return _whole(folder, run.inputs / "merged", tell)


def _make_starter(config: RLHFConfig, size: str, folder: Path, tell: Tell) -> Path:
    """Taught from the rows to train on: what is held out must stay unseen."""
    if folder.is_dir():
        return folder
    detail = f"a {size} starter, from the training text"
    tell("phase", "making the base model", detail=detail)
    # Both threads of a small machine wait for each other more than they work.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder.parent.mkdir(parents=True, exist_ok=True)
    report = make_starter_model(
        texts_of(_training_rows(config)),
        folder,
        size=size,
        seed=config.seed,
        tell=tell,
    )
    torch.set_num_threads(threads)
    tell(
        "base_model_ready",
        f"{report['parameters']:,} parameters; held-out perplexity "
        f"{report['perplexity_before']:.0f} before, {report['perplexity_after']:.1f} "
        "after",
        report=report,
    )
    return folder


def _training_rows(config: RLHFConfig) -> list[Row]:
    """The rows without the prompts that the job will hold out."""
    source = load_source(config)
    if source.eval is not None or not config.eval_share:
        return source.train
    available = list(dict.fromkeys(name for row in source.train for name in row))
    columns = detect_columns(available, config.columns, config.algorithm)
    ledger = Ledger(len(source.train))
    if config.algorithm is RLHFAlgorithm.SFT:
        texts = demonstrations(source.train, columns, ledger, has_template=True)
        kept, _ = hold_out(texts, config.eval_share, config.seed)
        return [source.train[text.number] for text in kept]
    pairs = preferences(source.train, columns, ledger, has_template=True)
    taught, _ = hold_out(pairs, config.eval_share, config.seed)
    return [source.train[pair.number] for pair in taught]


def _whole(folder: Path, merged: Path, tell: Tell) -> Path:
    """The folder itself, or where it is an adapter, its merger with its base."""
    settings = folder / "adapter_config.json"
    if not settings.is_file():
        return folder
    if merged.is_dir():
        return merged
    from peft import PeftModel

    adapter = json.loads(settings.read_text(encoding="utf-8"))
    base = _whole(_base_of(folder, adapter), merged.with_name("merged-base"), tell)
    tell("phase", "merging the adapter", detail="into the model it was trained on")
    task: models.Task = "score" if adapter["task_type"] == "SEQ_CLS" else "causal"
    dtype = transformers.AutoConfig.from_pretrained(base, trust_remote_code=False).dtype
    model = models.load_model(base, task, dtype or torch.float32)
    partial = merged.with_name(f".{merged.name}.partial")
    PeftModel.from_pretrained(model, folder).merge_and_unload().save_pretrained(partial)
    models.load_tokenizer(folder).save_pretrained(partial)
    partial.rename(merged)
    return merged


def _base_of(folder: Path, adapter: dict[str, str | None]) -> Path:
    """The model an adapter was trained on: beside it as `base`, else as it says."""
    beside = folder / "base"
    if beside.exists():
        return models.fetch_model(str(beside))
    name, revision = adapter["base_model_name_or_path"], adapter.get("revision")
    return models.fetch_model(f"{name}@{revision}" if revision else str(name))
