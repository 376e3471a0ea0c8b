"""How much one transaction writes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from django.db import connection

from labelhub.importing.items import Item

_FEWEST, _MOST = 200, 2_000
Chunk = TypeVar("Chunk")


@dataclass
class ChunkSize:
    rows: int
    characters: int
    seconds: float = math.inf
    """What a transaction may take; `rows` follows what the last ones took."""

    def adapt(self, took: float) -> None:
        """Nobody knows beforehand how fast a machine is, nor how busy."""
        if self.seconds < math.inf:
            factor = min(1.5, self.seconds / max(took, 0.001))
            self.rows = max(_FEWEST, min(_MOST, int(self.rows * factor)))


def chunk_size() -> ChunkSize:
    """What one transaction writes: on SQLite well under 200 ms of the write lock."""
    if connection.vendor == "sqlite":
        return ChunkSize(300, 1_000_000, seconds=0.1)
    return ChunkSize(_MOST, 16_000_000)


def in_chunks(
    items: Iterable[tuple[Item, str]], size: ChunkSize
) -> Iterator[list[tuple[Item, str]]]:
    """Groups of at most so many items and, but for a single one, characters."""
    chunk: list[tuple[Item, str]] = []
    characters = 0
    for item, judge_kind in items:
        weight = len(item.note)
        for answer in item.answers:
            weight += len(answer.text)
        for turn in item.prompt or ():
            weight += len(turn["content"])
        if chunk and (len(chunk) >= size.rows or characters + weight > size.characters):
            yield chunk
            chunk, characters = [], 0
        chunk.append((item, judge_kind))
        characters += weight
    if chunk:
        yield chunk


def ahead(chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """The same, each made while the server is busy with the one before.

    On SQLite the database is this very process: a thread that computes beside it
    would keep it from its work while it holds the write lock.
    """
    if connection.vendor == "sqlite":
        yield from chunks
        return
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, chunks, None)
        while (chunk := coming.result()) is not None:
            coming = pool.submit(next, chunks, None)
            yield chunk
