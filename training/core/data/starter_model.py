"""A small language model made from the text at hand, where none can be downloaded.

    python -m training.core.data.starter_model SPEC.json

SPEC.json holds data (a list of files with messages, prompt and completion, pairs, or
text), out_dir, and perhaps size (tiny or small) and seed. Progress goes to standard
output as JSON lines with kind and message; the last has kind completed or failed. The
model learns to write simple sentences in chat turns, no more; it is a start from which
every algorithm can be tried on any machine.
"""

from __future__ import annotations

import json
import math
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from training.core.config import RLHFAlgorithm
from training.core.data.columns import Kind, detect_columns
from training.core.data.ledger import Ledger
from training.core.data.lint import demonstrations, preferences
from training.core.data.loaders import Row, read_rows
from training.core.data.text import Message, plain_text
from training.core.data.tokens import IGNORED
from training.core.errors import (
    RLHFConfigurationError,
    RLHFDatasetError,
    RLHFError,
    RLHFStorageError,
)
from training.core.evaluation.scoring import log_probabilities, perplexity
from training.core.process import die_with_parent, prepare_environment
from training.core.run_directory import write_json

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}"
    "{{ '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""ChatML, with the assistant's turns marked as what is to be learned."""

MIN_TEXTS = 20
HELD_OUT_SHARE = 0.05
REPORT = "starter.json"


@dataclass(frozen=True)
class Size:
    """A shape of Llama, and how long it is taught."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    positions: int
    steps: int
    batch_tokens: int = 1024
    learning_rate: float = 3e-3


SIZES = {
    "tiny": Size(
        vocabulary=1024, width=64, layers=2, heads=4, positions=1024, steps=400
    ),
    "small": Size(
        vocabulary=2048, width=128, layers=4, heads=4, positions=2048, steps=700
    ),
}

Tell = Callable[..., None]


def make_starter_model(
    texts: Sequence[list[Message]],
    out_dir: Path,
    *,
    size: str = "small",
    seed: int = 0,
    tell: Tell = lambda kind, message, **details: None,
) -> dict[str, Any]:
    """Make a tokenizer and a model from conversations, and teach it to write them.

    The same texts, size and seed give the same model on the same machine.

    Args:
        texts: Conversations; plain texts are conversations of one assistant message.
        out_dir: A folder that is not there yet; it appears whole.
        tell: Called with kind, message and details as the work goes on.

    Returns:
        The report that is also written to starter.json: sizes, seconds, and the
        perplexity of held-out texts before and after.

    Raises:
        RLHFConfigurationError: RLHF003 for an unknown size.
        RLHFDatasetError: RLHF023 for fewer than 20 texts.
        RLHFStorageError: RLHF051 where out_dir is there already.
    """
    if size not in SIZES:
        raise RLHFConfigurationError(
            f"size must be {' or '.join(SIZES)}, not {size!r}.", code="RLHF003"
        )
    if len(texts) < MIN_TEXTS:
        raise RLHFDatasetError(
            f"A model cannot learn to write from {len(texts)} texts: give at least "
            f"{MIN_TEXTS}.",
            code="RLHF023",
        )
    if out_dir.exists():
        raise RLHFStorageError(f"{out_dir} is there already.", code="RLHF051")
    started = time.monotonic()
    shape = SIZES[size]
    shuffled = list(texts)
    random.Random(seed).shuffle(shuffled)  # noqa: S311 # no secret
    torch.manual_seed(seed)

    tell("phase", "making the tokenizer")
    tokenizer = train_tokenizer(shuffled, shape.vocabulary)
    rows = [_encode(text, tokenizer, shape.positions) for text in shuffled]
    held_out = rows[: max(8, math.ceil(HELD_OUT_SHARE * len(rows)))]
    taught = rows[len(held_out) :]

    model = LlamaForCausalLM(_config(shape, tokenizer))
    before = _perplexity(model, held_out, tokenizer)
    tell("phase", "teaching the model", max_steps=shape.steps)
    _teach(model, taught, shape, seed, tokenizer.pad_token_id, tell)
    after = _perplexity(model, held_out, tokenizer)

    tell("phase", "saving")
    report = {
        "size": size,
        "seed": seed,
        **asdict(shape),
        "vocabulary": len(tokenizer),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "texts": len(taught),
        "tokens": sum(len(row["input_ids"]) for row in taught),
        "held_out_texts": len(held_out),
        "perplexity_before": before,
        "perplexity_after": after,
        "seconds": round(time.monotonic() - started, 1),
    }
    _save(model, tokenizer, out_dir, report)
    return report


def read_texts(paths: Sequence[Path]) -> list[list[Message]]:
    """Every conversation in some files; of pairs, both.

    Raises:
        RLHFDatasetError: RLHF020, RLHF021, RLHF022 or RLHF024, as for training.
    """
    return [text for path in paths for text in texts_of(read_rows(path))]


def texts_of(rows: Sequence[Row]) -> list[list[Message]]:
    """Every conversation in some rows; of pairs, both.

    Raises:
        RLHFDatasetError: RLHF022, where the columns are of no known kind.
    """
    texts: list[list[Message]] = []
    available = list(dict.fromkeys(name for row in rows for name in row))
    ledger = Ledger(len(rows))
    if {"chosen", "rejected"} <= set(available):
        columns = detect_columns(available, {}, RLHFAlgorithm.DPO)
        for pair in preferences(rows, columns, ledger, has_template=True):
            texts.append(_conversation(pair.prompt, pair.chosen))
            texts.append(_conversation(pair.prompt, pair.rejected))
    else:
        columns = detect_columns(available, {}, RLHFAlgorithm.SFT)
        if columns.kind is not Kind.TEXT and "label" in columns.names:
            # What people did not like is still language.
            names = {k: v for k, v in columns.names.items() if k != "label"}
            columns = type(columns)(columns.kind, names)
        for row in demonstrations(rows, columns, ledger, has_template=True):
            texts.append(_conversation(row.prompt or [], row.completion))
    return texts


def train_tokenizer(texts: Sequence[list[Message]], vocabulary: int) -> Any:
    """A byte-level BPE tokenizer, so that no text is unknown to it.

    The end-of-text token is not the padding token: a model whose padding is masked
    would otherwise never learn to stop.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<|pad|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    roles = ["system\n", "user\n", "assistant\n"]
    tokenizer.train_from_iterator([*roles, *map(plain_text, texts)], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",  # noqa: S106 # a token, not a password
        pad_token="<|pad|>",  # noqa: S106
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def _config(shape: Size, tokenizer: Any) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.width,
        intermediate_size=shape.width * 3,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=shape.positions,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        # Half of the weights of a model this small would be two such tables.
        tie_word_embeddings=True,
    )


def _encode(text: list[Message], tokenizer: Any, limit: int) -> dict[str, list[int]]:
    rendered = tokenizer.apply_chat_template(text, tokenize=True, return_dict=True)
    ids = rendered["input_ids"][:limit]
    return {"input_ids": ids, "labels": ids}


def _teach(
    model: Any,
    rows: Sequence[dict[str, list[int]]],
    shape: Size,
    seed: int,
    pad_id: int,
    tell: Tell,
) -> None:
    """Next-token prediction on whole conversations, with a cosine schedule."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=shape.learning_rate, betas=(0.9, 0.95), weight_decay=0.1
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: _rate(step, shape.steps)
    )
    batches = _batches(rows, shape.batch_tokens, seed, pad_id)
    told = time.monotonic()
    model.train()
    for step in range(1, shape.steps + 1):
        ids, mask, labels = next(batches)
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step == shape.steps or time.monotonic() - told >= 1:
            told = time.monotonic()
            tell(
                "progress",
                f"step {step} of {shape.steps}, loss {loss.item():.3f}",
                step=step,
                max_steps=shape.steps,
                loss=loss.item(),
            )
    model.eval()


def _rate(step: int, steps: int) -> float:
    """The share of the peak learning rate: 5 % warm-up, then half a cosine to 5 %."""
    warmup = max(1, steps // 20)
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress))


def _batches(
    rows: Sequence[dict[str, list[int]]], batch_tokens: int, seed: int, pad_id: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """[b, t] ids, mask and labels without end; texts of like length go together."""
    rng = random.Random(seed)  # noqa: S311 # no secret
    while True:
        # Noise in the order of lengths, so that batches differ from pass to pass.
        order = sorted(rows, key=lambda row: len(row["input_ids"]) + rng.random() * 16)
        batches: list[list[list[int]]] = [[]]
        for row in order:
            ids = row["input_ids"]
            if batches[-1] and (len(batches[-1]) + 1) * len(ids) > batch_tokens:
                batches.append([])
            batches[-1].append(ids)
        rng.shuffle(batches)
        for batch in batches:
            width = max(map(len, batch))
            inputs = torch.full((len(batch), width), pad_id)
            mask = torch.zeros_like(inputs)
            for line, text in enumerate(batch):
                inputs[line, : len(text)] = torch.tensor(text)
                mask[line, : len(text)] = 1
            yield inputs, mask, inputs.masked_fill(mask == 0, IGNORED)


def _perplexity(model: Any, rows: list[dict[str, list[int]]], tokenizer: Any) -> float:
    sums, counts = log_probabilities(model, rows, tokenizer.pad_token_id, 8)
    return perplexity(sums, counts)


def _save(model: Any, tokenizer: Any, out_dir: Path, report: dict[str, Any]) -> None:
    partial = out_dir.with_name(f".{out_dir.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        write_json(partial / REPORT, report)
        partial.rename(out_dir)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise RLHFStorageError(
            f"{out_dir} cannot be written: {error.strerror or error}.", code="RLHF051"
        ) from error


def _conversation(prompt: Any, completion: Any) -> list[Message]:
    parts = [
        [{"role": role, "content": part}] if isinstance(part, str) else part
        for role, part in (("user", prompt), ("assistant", completion))
    ]
    return [*parts[0], *parts[1]]


def main(arguments: list[str]) -> int:
    """Make the model that a spec file describes; return the exit status."""
    die_with_parent()
    prepare_environment()
    # Matrices this small gain nothing from a second thread, and on a busy machine two
    # threads that wait for each other take ten times longer.
    torch.set_num_threads(1)
    spec = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    try:
        texts = read_texts([Path(path) for path in spec["data"]])
        report = make_starter_model(
            texts,
            Path(spec["out_dir"]),
            size=spec.get("size", "small"),
            seed=spec.get("seed", 0),
            tell=_tell,
        )
    except RLHFError as error:
        _tell("failed", error.message, code=error.code)
        return 1
    _tell("completed", f"{spec['out_dir']} is ready", report=report)
    return 0


def _tell(kind: str, message: str, **details: Any) -> None:
    line = {"kind": kind, "message": message, **details}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
