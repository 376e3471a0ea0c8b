"""Texts to token ids, exactly as TRL 1.16 would make them, with nothing lost.

TRL drops and cuts rows without a word (longer than max_length, or a prompt that fills
it). Here the same rules are applied first, and each row they touch is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from training.core.data.ledger import Ledger
from training.core.data.lint import Demonstration, Preference
from training.core.data.text import Text
from training.core.errors import RLHFModelError

IGNORED = -100
"""The label of tokens that are read but not learned."""


class Encoder:
    """Turns texts into ids with one tokenizer.

    Raises:
        RLHFModelError: RLHF033, where the tokenizer has no end-of-text token.
    """

    def __init__(self, tokenizer: Any) -> None:
        if tokenizer.eos_token_id is None:
            raise RLHFModelError(
                "The tokenizer has no end-of-text token, so the model could not learn "
                "to stop: set eos_token in its tokenizer_config.json.",
                code="RLHF033",
            )
        self.tokenizer = tokenizer
        self.eos: int = tokenizer.eos_token_id
        self.marks_assistant = "{% generation %}" in (tokenizer.chat_template or "")

    def ids(self, text: Text, *, ask: bool = False) -> list[int]:
        """The ids of a text; with `ask`, of a prompt that waits for its answer."""
        if isinstance(text, str):
            encoded: list[int] = self.tokenizer(text=text)["input_ids"]
            return encoded
        rendered = self.tokenizer.apply_chat_template(
            text, tokenize=True, return_dict=True, add_generation_prompt=ask
        )
        ids: list[int] = rendered["input_ids"]
        return ids

    def pair(self, prompt: Text, completion: Text) -> tuple[list[int], list[int]]:
        """The ids of prompt and completion together, and of the prompt alone."""
        return self.ids(_joined(prompt, completion, self.tokenizer)), self.ids(
            prompt, ask=True
        )

    def assistant_labels(self, messages: Text) -> tuple[list[int], list[int]]:
        """The ids of a conversation, and labels where the assistant speaks.

        Templates of most published models do not mark the assistant's turns; there, a
        turn is what the conversation gains with it.
        """
        if self.marks_assistant:
            rendered = self.tokenizer.apply_chat_template(
                messages,
                tokenize=True,
                return_dict=True,
                return_assistant_tokens_mask=True,
            )
            ids, mask = rendered["input_ids"], rendered["assistant_masks"]
            return ids, [i if m else IGNORED for i, m in zip(ids, mask, strict=True)]
        ids = self.ids(messages)
        labels = [IGNORED] * len(ids)
        for place, message in enumerate(messages):
            if isinstance(message, dict) and message["role"] == "assistant":
                start = _shared(self.ids(messages[:place], ask=True), ids)
                end = _shared(self.ids(messages[: place + 1]), ids)
                labels[start:end] = ids[start:end]
        return ids, labels


def encode_demonstrations(
    rows: Sequence[Demonstration], encoder: Encoder, max_length: int, ledger: Ledger
) -> list[dict[str, list[int]]]:
    """Rows with input_ids and labels, each at most `max_length` long."""
    encoded = []
    for row in rows:
        ids, labels = _demonstration(row, encoder)
        if len(ids) > max_length:
            ids, labels = ids[:max_length], labels[:max_length]
            if all(label == IGNORED for label in labels):
                ledger.drop("nothing_to_learn", row.number)
                continue
            ledger.note("cut")
        elif all(label == IGNORED for label in labels):
            ledger.drop("nothing_to_learn", row.number)
            continue
        elif encoder.eos not in labels:
            ledger.note("no_end_of_text")
        encoded.append({"input_ids": ids, "labels": labels})
    return encoded


def _demonstration(row: Demonstration, encoder: Encoder) -> tuple[list[int], list[int]]:
    if row.prompt is not None:
        ids, prompt = encoder.pair(row.prompt, row.completion)
        start = _shared(prompt, ids)
        return ids, [IGNORED] * start + ids[start:]
    if isinstance(row.completion, list):
        return encoder.assistant_labels(row.completion)
    ids = encoder.ids(_ended(row.completion, encoder.tokenizer))
    return ids, ids


def encode_scored_pairs(
    rows: Sequence[Preference], encoder: Encoder, max_length: int, ledger: Ledger
) -> tuple[list[Preference], list[dict[str, Any]]]:
    """Pairs for a reward model, with the rows that they come from.

    A pair longer than `max_length` is left out and not cut: the score is read at the
    last token, which would be another one.
    """
    kept, encoded = [], []
    with_margin = any(row.margin is not None for row in rows)
    for row in rows:
        chosen, _ = encoder.pair(row.prompt, row.chosen)
        rejected, _ = encoder.pair(row.prompt, row.rejected)
        if max(len(chosen), len(rejected)) > max_length:
            ledger.drop("too_long", row.number)
            continue
        pair: dict[str, Any] = {"chosen_ids": chosen, "rejected_ids": rejected}
        if with_margin:
            pair["margin"] = row.margin or 0.0
        kept.append(row)
        encoded.append(pair)
    return kept, encoded


def encode_pairs(
    rows: Sequence[Preference], encoder: Encoder, max_length: int, ledger: Ledger
) -> tuple[list[Preference], list[dict[str, list[int]]]]:
    """Pairs for losses on the policy itself, with the rows that they come from.

    Each has prompt_ids, chosen_ids and rejected_ids; prompt and one side together are
    at most `max_length` long.
    """
    kept, encoded = [], []
    for row in rows:
        chosen, prompt = encoder.pair(row.prompt, row.chosen)
        rejected, _ = encoder.pair(row.prompt, row.rejected)
        # The completion begins where the three part: templates may render the end of
        # the prompt otherwise when an answer follows.
        start = min(_shared(prompt, chosen), _shared(prompt, rejected))
        if start >= max_length:
            ledger.drop("prompt_too_long", row.number)
            continue
        if chosen[:max_length] == rejected[:max_length]:
            ledger.drop("equal_after_cut", row.number)
            continue
        if max(len(chosen), len(rejected)) > max_length:
            ledger.note("cut")
        elif encoder.eos not in chosen[start:]:
            ledger.note("no_end_of_text")
        kept.append(row)
        encoded.append(
            {
                "prompt_ids": chosen[:start],
                "chosen_ids": chosen[start:max_length],
                "rejected_ids": rejected[start:max_length],
            }
        )
    return kept, encoded


def _joined(prompt: Text, completion: Text, tokenizer: Any) -> Text:
    if isinstance(prompt, list) and isinstance(completion, list):
        return prompt + completion
    return f"{prompt}{_ended(str(completion), tokenizer)}"


def _ended(text: str, tokenizer: Any) -> str:
    """A plain text with its end marked; chat templates mark theirs themselves."""
    eos: str = tokenizer.eos_token
    return text if text.endswith(eos) else text + eos


def _shared(ids: Sequence[int], others: Sequence[int]) -> int:
    """How many ids two sequences have in common from the start."""
    count = 0
    for one, other in zip(ids, others, strict=False):
        if one != other:
            break
        count += 1
    return count
