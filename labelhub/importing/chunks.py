"""How much one transaction writes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from django.db import connection

from labelhub.importing.items import Item


class ChunkSize(NamedTuple):
    rows: int
    characters: int


def chunk_size() -> ChunkSize:
    """What one transaction writes: on SQLite well under 200 ms of the write lock."""
    if connection.vendor == "sqlite":
        return ChunkSize(300, 1_000_000)
    return ChunkSize(2_000, 16_000_000)


def in_chunks(
    items: Iterable[tuple[Item, str]], size: ChunkSize
) -> Iterator[list[tuple[Item, str]]]:
    """Groups of at most so many items and, but for a single one, characters."""
    chunk: list[tuple[Item, str]] = []
    characters = 0
    for item, judge_kind in items:
        weight = sum(len(answer.text) for answer in item.answers) + len(item.note)
        weight += sum(len(turn["content"]) for turn in item.prompt or [])
        if chunk and (len(chunk) == size.rows or characters + weight > size.characters):
            yield chunk
            chunk, characters = [], 0
        chunk.append((item, judge_kind))
        characters += weight
    if chunk:
        yield chunk
