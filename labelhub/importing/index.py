"""What the files of one import name, kept on disk while it runs.

A million ids do not fit into flat memory, so they lie in a SQLite database of its own:
a temporary one, unlinked as it is opened, so that nothing is left behind whatever ends
the process.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

_SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA cache_size = -16000;
CREATE TABLE prompt (id TEXT PRIMARY KEY, pk INTEGER) WITHOUT ROWID;
CREATE TABLE response (
    id TEXT PRIMARY KEY, prompt TEXT, pk INTEGER, prompt_pk INTEGER, hash TEXT
) WITHOUT ROWID;
CREATE TABLE paired (
    prompt_pk INTEGER, pk INTEGER, PRIMARY KEY (prompt_pk, pk)
) WITHOUT ROWID;
CREATE TABLE adopted (task INTEGER PRIMARY KEY);
CREATE TABLE seen (hash TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE answer (
    prompt TEXT, model TEXT, hash TEXT, n INTEGER, PRIMARY KEY (prompt, model, hash)
) WITHOUT ROWID;
"""


class Answered(NamedTuple):
    """A response that was written."""

    pk: int
    prompt_pk: int
    hash: str


class Index:
    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._db.executescript(_SCHEMA)

    # --- pass 1: what is named, and whether it is there ---------------------

    def add_prompt(self, name: str) -> bool:
        """Note a prompt's id; False if it was there."""
        return self._add("INSERT OR IGNORE INTO prompt (id) VALUES (?)", (name,))

    def add_response(self, name: str, prompt: str, digest: str = "") -> bool:
        return self._add(
            "INSERT OR IGNORE INTO response (id, prompt, hash) VALUES (?, ?, ?)",
            (name, prompt, digest or None),
        )

    def has_prompt(self, name: str) -> bool:
        return self._one("SELECT 1 FROM prompt WHERE id = ?", name) is not None

    def find_response(self, name: str) -> tuple[str, str] | None:
        """The id of the prompt it answers ('' if that has none) and its hash."""
        found = self._one("SELECT prompt, hash FROM response WHERE id = ?", name)
        return None if found is None else (str(found[0]), str(found[1] or ""))

    def add_seen(self, key: str) -> bool:
        return self._add("INSERT OR IGNORE INTO seen VALUES (?)", (key,))

    def add_answer(self, prompt: str, model: str, digest: str, n: int) -> bool:
        return self._add(
            "INSERT OR IGNORE INTO answer VALUES (?, ?, ?, ?)",
            (prompt, model, digest, n),
        )

    def answers(self) -> Iterator[tuple[str, str, str]]:
        """(prompt, model, hash) of every response seen, by prompt, as they came."""
        return self._db.execute("SELECT prompt, model, hash FROM answer ORDER BY 1, n")

    # --- pass 2: where it was written ---------------------------------------

    def put_prompts(self, written: Iterable[tuple[str, int]]) -> None:
        self._db.executemany(
            "INSERT INTO prompt (id, pk) VALUES (?, ?)"
            " ON CONFLICT (id) DO UPDATE SET pk = coalesce(pk, excluded.pk)",
            written,
        )

    def put_responses(self, written: Iterable[tuple[str, Answered]]) -> None:
        self._db.executemany(
            "INSERT INTO response (id, pk, prompt_pk, hash) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET pk = coalesce(pk, excluded.pk),"
            " prompt_pk = coalesce(prompt_pk, excluded.prompt_pk),"
            " hash = coalesce(hash, excluded.hash)",
            ((name, *answered) for name, answered in written),
        )

    def prompts(self, names: Sequence[str]) -> dict[str, int]:
        return dict(
            self._db.execute(
                f"SELECT id, pk FROM prompt WHERE id IN ({_marks(names)})",  # noqa: S608
                names,
            )
        )

    def responses(self, names: Sequence[str]) -> dict[str, Answered]:
        rows = self._db.execute(
            "SELECT id, pk, prompt_pk, hash FROM response"  # noqa: S608
            f" WHERE pk IS NOT NULL AND id IN ({_marks(names)})",
            names,
        )
        return {name: Answered(*rest) for name, *rest in rows}

    def put_paired(self, written: Iterable[Answered]) -> None:
        """Note responses that --pairs may pair."""
        self._db.executemany(
            "INSERT OR IGNORE INTO paired VALUES (?, ?)",
            ((answered.prompt_pk, answered.pk) for answered in written),
        )

    def paired(self) -> Iterator[tuple[int, int]]:
        """(prompt, response), by prompt."""
        return self._db.execute("SELECT prompt_pk, pk FROM paired ORDER BY 1, 2")

    def adopt(self, tasks: Iterable[int]) -> None:
        """Note tasks of an unfinished import that this one needs as well."""
        self._db.executemany(
            "INSERT OR IGNORE INTO adopted VALUES (?)", ((task,) for task in tasks)
        )

    def adopted(self) -> Iterator[int]:
        return (task for (task,) in self._db.execute("SELECT task FROM adopted"))

    def _add(self, statement: str, values: tuple[object, ...]) -> bool:
        return self._db.execute(statement, values).rowcount == 1

    def _one(self, statement: str, value: str) -> tuple[object, ...] | None:
        found: tuple[object, ...] | None = self._db.execute(
            statement, (value,)
        ).fetchone()
        return found


def _marks(names: Sequence[str]) -> str:
    return ", ".join("?" * len(names))
