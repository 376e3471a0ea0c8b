"""Which tasks hold some words: in their prompt, or in one of their responses.

A text holds a word whole, or from its beginning where the word ends in a star. On
PostgreSQL that is a GIN index over what `labelhub_words` makes of a text. On SQLite it
is two tables of FTS5 that keep no text, filled up by id: triggers would slow every
import, and a migration that rebuilds a table drops its triggers without a word. Texts
never change, and their ids only rise, so what is new is what lies above the newest id.

Both read the first 100,000 characters of a text, and break words at punctuation.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import Q

from labelhub.models import Project

MOST = 2_000
"""Texts, and tasks, that one search finds at most."""
CHUNK = 2_000
"""Texts that are read into the index in one go: the write lock is held for each."""

_WORD = re.compile(r"[^\W_]+\*?")

# Written as one statement, so that two who index at once do not read the same texts.
_NEWEST = """
    COALESCE((SELECT rowid FROM labelhub_{}_words ORDER BY rowid DESC LIMIT 1), 0)
"""
_IS_NEW = {
    kind: f"""
        SELECT EXISTS (SELECT 1 FROM labelhub_{kind} WHERE id > {_NEWEST.format(kind)})
    """  # noqa: S608 (constants of this module)
    for kind in ("prompt", "response")
}
_INDEX = {
    "prompt": f"""
        INSERT INTO labelhub_prompt_words (rowid, project, text)
        SELECT p.id, p.project_id, substr((
            SELECT group_concat(json_extract(turn.value, '$.content'), ' ')
            FROM json_each(p.messages) turn
        ), 1, 100000)
        FROM labelhub_prompt p WHERE p.id > {_NEWEST.format("prompt")}
        ORDER BY p.id LIMIT {CHUNK}
    """,  # noqa: S608
    "response": f"""
        INSERT INTO labelhub_response_words (rowid, project, text)
        SELECT r.id, p.project_id, substr(r.text, 1, 100000)
        FROM labelhub_response r JOIN labelhub_prompt p ON p.id = r.prompt_id
        WHERE r.id > {_NEWEST.format("response")} ORDER BY r.id LIMIT {CHUNK}
    """,  # noqa: S608
}
_MATCHES = {
    "postgresql": {
        "prompt": """
            SELECT id FROM labelhub_prompt WHERE project_id = %(project)s
            AND labelhub_words(labelhub_said(messages))
                @@ to_tsquery('simple', %(words)s)
            LIMIT %(most)s
        """,
        "response": """
            SELECT r.id FROM labelhub_response r
            JOIN labelhub_prompt p ON p.id = r.prompt_id
            WHERE p.project_id = %(project)s
            AND labelhub_words(r.text) @@ to_tsquery('simple', %(words)s)
            LIMIT %(most)s
        """,
    },
    "sqlite": {
        kind: f"""
            SELECT rowid FROM labelhub_{kind}_words
            WHERE labelhub_{kind}_words MATCH %(words)s
            ORDER BY rowid DESC LIMIT %(most)s
        """  # noqa: S608 (constants of this module)
        for kind in ("prompt", "response")
    },
}


class Found(NamedTuple):
    task_ids: list[int]
    is_cut: bool = False
    """There are more than `MOST`: these are some of them."""


def words_of(text: str) -> list[str]:
    """What is looked for.

    >>> words_of("Grüße, foo_bar* -- 3.14")
    ['Grüße', 'foo', 'bar*', '3', '14']
    """
    return _WORD.findall(unicodedata.normalize("NFC", text))


def tasks_holding(project: Project, text: str) -> Found:
    """The tasks of which one text holds all of these words."""
    words = words_of(text)
    if not words:
        return Found([])
    index_new(most=CHUNK)
    prompts = _texts("prompt", project, words)
    responses = _texts("response", project, words)
    tasks = project.tasks.filter(
        Q(prompt__in=prompts)
        | Q(response_a__in=responses)
        | Q(response_b__in=responses)
    ).order_by("-pk")
    ids = list(tasks.values_list("pk", flat=True)[: MOST + 1])
    is_cut = max(len(prompts), len(responses), len(ids)) > MOST
    return Found(ids[:MOST], is_cut)


def _texts(kind: str, project: Project, words: list[str]) -> list[int]:
    asked: dict[str, Any] = {"project": project.pk, "most": MOST + 1}
    if connection.vendor == "sqlite":
        quoted = " AND ".join(
            f'"{word.removesuffix("*")}"{"*" if word.endswith("*") else ""}'
            for word in words
        )
        asked["words"] = f'project : "{project.pk}" AND text : ({quoted})'
    else:
        asked["words"] = " & ".join(word.replace("*", ":*") for word in words)
    with connection.cursor() as cursor:
        cursor.execute(_MATCHES[connection.vendor][kind], asked)
        return [pk for (pk,) in cursor.fetchall()]


def index_new(most: int | None = None) -> None:
    """Read into the index what has come since; nothing to do on PostgreSQL."""
    if connection.vendor != "sqlite":
        return
    for kind in _INDEX:
        n_read = 0
        # Asked first: a question takes no lock, and most searches find nothing new.
        while (most is None or n_read < most) and _run(_IS_NEW[kind])[0]:
            n_read += _run(_INDEX[kind])[1]


def _run(sql: str) -> tuple[Any, int]:
    """The first value it gives, if any, and how many rows it wrote."""
    with connection.cursor() as cursor:
        cursor.execute(sql)
        row = cursor.fetchone() if cursor.description else None
        return (row[0] if row else None), cursor.rowcount
