"""Items with all that can be computed before the transaction that writes them.

SQLite has one write lock and annotators wait for it, so hashing and JSON come first.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from labelhub.importing.index import Answered
from labelhub.importing.items import Item, Row
from labelhub.models.prompt import content_hash

# json.dumps would make an encoder for every value.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def as_json(value: Row) -> str:
    return _encode(value) if value else "{}"


@dataclass(slots=True)
class Draft:
    item: Item
    judge_kind: str
    prompt_hash: str = ""
    prompt_json: str = ""
    hashes: list[str] = field(default_factory=list)
    prompt_pk: int = 0
    answered: list[Answered] = field(default_factory=list)


def drafts_of(items: Sequence[tuple[Item, str]]) -> list[Draft]:
    """Drafts of items, each with its kind of judge.

    Rows of one chunk often share their prompt, and a second judge's row its responses:
    what is said twice is hashed once.
    """
    texts, prompts = _Hashes(), dict[tuple[str, ...], tuple[str, str]]()
    drafts = []
    for item, judge_kind in items:
        draft = Draft(item, judge_kind)
        if item.prompt is not None:
            key = tuple([said for turn in item.prompt for said in turn.values()])
            if key not in prompts:
                prompts[key] = content_hash(item.prompt), _encode(item.prompt)
            draft.prompt_hash, draft.prompt_json = prompts[key]
        draft.hashes = [texts[answer.text] for answer in item.answers]
        drafts.append(draft)
    return drafts


class _Hashes(dict[str, str]):
    def __missing__(self, text: str) -> str:
        self[text] = digest = content_hash(text)
        return digest
