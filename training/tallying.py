"""The judgments of a project, read once and turned into rows to be.

All of it happens in a scratch SQLite file, which sorts on disk: memory stays flat
however many judgments there are. Rows are referred to by id and hash; their texts are
fetched only when the files are written.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import groupby, islice
from pathlib import Path
from typing import Any, TypeVar

from django.db import connection
from django.db.models import Case, CharField, F, Q, QuerySet, Value, When
from django.db.models.expressions import RawSQL
from django.db.models.functions import Cast, Concat, Length

from labelhub.models import Judgment, Project, Prompt, Response, Task
from training.recipes import (
    Ledger,
    Margins,
    Outcome,
    Recipe,
    Shape,
    decide,
    drafts,
)
from training.rows import Facts, Row, Votes

Item = TypeVar("Item")
Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and of how much."""

Columns = Mapping[str, Sequence[Any]]
"""A page of rows by column: by row they would cost several times as much."""

PAGE = 1000
ROW_GROUP = 500
"""Rows to write that are held in memory at a time; responses may be long."""
NARROW_ROW_GROUP = 20_000
"""Where rows hold no text."""

SCHEMA = """
CREATE TABLE judgment (
  prompt INTEGER, task INTEGER, id INTEGER, source TEXT, verdict TEXT,
  surplus INTEGER, strength INTEGER, judge TEXT, shown_left TEXT
);
CREATE TABLE demonstration (
  prompt INTEGER, prompt_hash TEXT, response INTEGER, hash TEXT
);
CREATE TABLE task (
  id INTEGER PRIMARY KEY, prompt INTEGER, reason TEXT, source TEXT, verdict TEXT,
  n_votes INTEGER, winner TEXT, loser TEXT, longer_won INTEGER
);
CREATE TABLE row (
  key BLOB, prompt INTEGER, first INTEGER, second INTEGER, label INTEGER,
  tasks TEXT, judgments TEXT,
  votes_for INTEGER, votes_against INTEGER, n_votes INTEGER, source TEXT,
  strength REAL
);
CREATE TABLE prompt (id INTEGER PRIMARY KEY, key BLOB, is_eval INTEGER DEFAULT 0);
"""


class Tally:
    """The scratch file of one freeze."""

    def __init__(self, path: Path, recipe: Recipe, progress: Progress) -> None:
        self.recipe = recipe
        self.progress = progress
        self.scratch = sqlite3.connect(path, isolation_level=None)
        # Nothing here outlives the process, so nothing is worth a journal.
        self.scratch.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-16000;"
        )
        self.scratch.executescript(SCHEMA)
        self.scratch.execute("BEGIN")
        # Decided and not yet in the scratch file.
        self.tasks_noted: list[tuple[Any, ...]] = []
        self.rows_made: list[tuple[Any, ...]] = []
        self.prompts_seen: dict[int, bytes] = {}
        # Millions of tasks are of a few kinds.
        self._decide = lru_cache(1000)(self._decided)

    def close(self) -> None:
        self.scratch.close()

    def read(self, project: Project) -> None:
        """Take note of every judgment that stands now.

        One statement, so one moment: judgments that arrive or are revised meanwhile
        are not seen. It takes no lock that a writer waits for, and it reads no text,
        so it is over soon.
        """
        # Said once: on SQLite nothing can be written while this statement is open.
        self.progress("Reading judgments", 0, 0)
        judgments = (
            Judgment.objects.standing()
            .filter(project=project)
            .exclude(task__status=Task.Status.LOADING)
            .order_by("id")
            .values_list(
                *("task__prompt_id", "task_id", "id", "source", "verdict", "surplus"),
                "strength",
                Case(
                    When(
                        annotator__isnull=False,
                        then=Concat(Value("person "), Cast("annotator", CharField())),
                    ),
                    default=F("judge_name"),
                ),
                "shown_left",
            )
        )
        self.scratch.executemany(
            "INSERT INTO judgment VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", raw(judgments)
        )
        if self.recipe.shape is Shape.COMPLETIONS:
            self.scratch.executemany(
                "INSERT INTO demonstration VALUES (?, ?, ?, ?)",
                raw(
                    Response.objects.filter(
                        Q(batch__isnull=True) | Q(batch__state="complete"),
                        prompt__project=project,
                        is_demonstration=True,
                    )
                    .order_by("id")
                    .values_list(
                        "prompt_id", "prompt__content_hash", "id", "content_hash"
                    )
                ),
            )

    def settle(self) -> None:
        """Decide every judged task, note the rows it makes, and split by prompt."""
        self.scratch.execute("CREATE INDEX said ON demonstration (prompt, hash)")
        by_prompt = groupby(self._judged_tasks(), key=lambda item: item[0].prompt)
        for _, judged in by_prompt:
            rows: dict[object, Row] = {}
            for votes, facts in judged:
                for row in self._settle_task(votes, facts):
                    # Nothing is to be imitated twice; a pair is judged only once.
                    is_merged = self.recipe.shape in (Shape.COMPLETIONS, Shape.PROMPTS)
                    key = row.first_hash if is_merged else len(rows)
                    rows[key] = rows[key].joined(row) if key in rows else row
            for row in rows.values():
                self._add(row)
                self._forget_demonstration(row.prompt, row.first_hash)
        self._add_demonstrations()
        self._flush()
        self._split()

    def ledger(self) -> Ledger:
        """Counted on both sides, from what was read and what will be written."""
        left_out = self.scratch.execute(
            "SELECT reason, COUNT(*) FROM task WHERE reason <> '' GROUP BY reason"
        )
        ledger = Ledger(
            judged=self.one("SELECT COUNT(DISTINCT task) FROM judgment"),
            exported=self.one(
                "SELECT COUNT(DISTINCT value) FROM row, json_each(row.tasks)"
            ),
            left_out=Counter(dict(left_out.fetchall())),
            rows=self.one("SELECT COUNT(*) FROM row"),
            demonstrations=self.one("SELECT COUNT(*) FROM row WHERE tasks = '[]'"),
        )
        ledger.check()
        return ledger

    def rows(self, split: str) -> Iterator[Columns]:
        """The rows of train or eval with their texts, in their final order."""
        done, total = 0, self.one("SELECT COUNT(*) FROM row")
        cursor = self.scratch.execute(
            "SELECT row.prompt, first, second, label, tasks, judgments, votes_for,"
            " votes_against, n_votes, source, strength"
            " FROM row JOIN prompt ON prompt.id = row.prompt"
            " WHERE prompt.is_eval = ? ORDER BY row.key, row.rowid",
            [split == "eval"],
        )
        for page in batched(cursor, ROW_GROUP):
            yield self._with_texts(page)
            done += len(page)
            self.progress(f"Writing rows to {split}", done, total)

    def judgments(self) -> Iterator[Columns]:
        """Every judgment that was read; `voted` says whether it is behind a row."""
        return self._narrow(
            ("judgment_id", "task_id", "source", "verdict", "voted"),
            "SELECT judgment.id, task.id, judgment.source, judgment.verdict,"
            " task.reason = '' AND task.source = judgment.source AND NOT surplus"
            " FROM judgment JOIN task ON task.id = judgment.task"
            " ORDER BY judgment.rowid",  # They were read in the order of their ids.
        )

    def left_out(self) -> Iterator[Columns]:
        """Every judged task that makes no row, and why."""
        return self._narrow(
            ("task_id", "prompt_id", "left_out"),
            "SELECT id, prompt, reason FROM task WHERE reason <> '' ORDER BY id",
        )

    def _narrow(self, names: Sequence[str], query: str) -> Iterator[Columns]:
        for page in batched(self.scratch.execute(query), NARROW_ROW_GROUP):
            yield dict(zip(names, zip(*page, strict=True), strict=True))

    def one(self, query: str) -> int:
        count: int = self.scratch.execute(query).fetchone()[0]
        return count

    def _judged_tasks(self) -> Iterator[tuple[Votes, Facts]]:
        """Every judged task with its votes; tasks of one prompt follow each other."""
        done, total = 0, self.one("SELECT COUNT(DISTINCT task) FROM judgment")
        votes = self.scratch.execute(
            "SELECT prompt, task,"
            " group_concat(source || ' ' || verdict"
            " || iif(strength, ' ' || strength, '')) FILTER (WHERE NOT surplus),"
            " group_concat(id) FILTER (WHERE NOT surplus)"
            " FROM judgment GROUP BY prompt, task ORDER BY prompt, task"
        )
        for page in batched(votes, PAGE):
            facts = facts_of(task for _, task, *_ in page)
            for prompt, task, said, ids in page:
                # Surplus ones do not vote: a verdict must not hang on who was late.
                yield Votes(prompt, task, said or "", ids or ""), facts[task]
            self._flush()
            done += len(page)
            self.progress("Counting votes", done, total)

    def _settle_task(self, votes: Votes, facts: Facts) -> Iterator[Row]:
        outcome = self._decide(
            votes.said,
            facts.status == Task.Status.RETIRED,
            facts.repeat_of is not None,
        )
        self._note(votes, facts, outcome)
        if outcome.reason:
            return
        responses = {"a": (facts.a, facts.a_hash), "b": (facts.b, facts.b_hash or "")}
        for draft in drafts(outcome.verdict, self.recipe):
            first, first_hash = responses.get(draft.first, (None, ""))
            second, second_hash = responses.get(draft.second, (None, ""))
            yield Row(
                prompt=votes.prompt,
                prompt_hash=facts.prompt_hash,
                first=first,
                first_hash=first_hash,
                second=second,
                second_hash=second_hash,
                label=draft.label,
                tasks=str(facts.task),
                judgments=_behind(votes, outcome),
                votes_for=outcome.votes_for,
                votes_against=outcome.votes_against,
                n_votes=outcome.n_votes,
                source=outcome.source,
                strength=outcome.strength,
            )

    def _decided(self, said: str, retired: bool, repeat: bool) -> Outcome:
        votes, strengths = tallies_of(said)
        return decide(votes, self.recipe, strengths, retired=retired, repeat=repeat)

    def _note(self, votes: Votes, facts: Facts, outcome: Outcome) -> None:
        winner = loser = longer_won = None
        if outcome.verdict in ("a", "b") and not outcome.reason:
            names = (facts.a_model, facts.b_model)
            lengths = (facts.a_length, facts.b_length or 0)
            won = "ab".index(outcome.verdict)
            winner, loser = names[won], names[1 - won]
            if lengths[0] != lengths[1]:
                longer_won = lengths[won] > lengths[1 - won]
        self.tasks_noted.append(
            (
                *(facts.task, votes.prompt, outcome.reason, outcome.source),
                *(outcome.verdict, outcome.n_votes, winner, loser, longer_won),
            )
        )
        if outcome.verdict in ("bad", "both_bad"):
            # A demonstration that was judged bad is no example any more.
            for said in (facts.a_hash, facts.b_hash):
                self._forget_demonstration(votes.prompt, said)

    def _add(self, row: Row) -> None:
        self.rows_made.append(
            (
                *(row.key(self.recipe.seed), row.prompt, row.first, row.second),
                *(row.label, f"[{row.tasks}]", f"[{row.judgments}]"),
                *(row.votes_for, row.votes_against, row.n_votes, row.source),
                row.strength,
            )
        )
        if row.prompt not in self.prompts_seen:
            split_key = f"{self.recipe.seed}:split:{row.prompt_hash}"
            key = hashlib.sha256(split_key.encode()).digest()
            self.prompts_seen[row.prompt] = key

    def _flush(self) -> None:
        """Write what was decided; a statement a row would take longer than deciding."""
        self.scratch.executemany(
            "INSERT INTO task VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", self.tasks_noted
        )
        self.scratch.executemany(
            "INSERT INTO row VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            self.rows_made,
        )
        self.scratch.executemany(
            "INSERT OR IGNORE INTO prompt (id, key) VALUES (?, ?)",
            self.prompts_seen.items(),
        )
        for written in (self.tasks_noted, self.rows_made, self.prompts_seen):
            written.clear()

    def _forget_demonstration(self, prompt: int, said: str | None) -> None:
        if self.recipe.shape is not Shape.COMPLETIONS:
            return
        self.scratch.execute(
            "DELETE FROM demonstration WHERE prompt = ? AND hash = ?", (prompt, said)
        )

    def _add_demonstrations(self) -> None:
        left = self.scratch.execute(
            "SELECT prompt, prompt_hash, MIN(response), hash FROM demonstration"
            " GROUP BY prompt, hash"
        )
        for prompt, prompt_hash, response, said in left:
            self._add(Row(prompt, prompt_hash, first=response, first_hash=said))

    def _split(self) -> None:
        n_eval = self.recipe.n_eval_prompts(self.one("SELECT COUNT(*) FROM prompt"))
        self.scratch.execute(
            "UPDATE prompt SET is_eval = 1"
            " WHERE id IN (SELECT id FROM prompt ORDER BY key, id LIMIT ?)",
            [n_eval],
        )

    def _with_texts(self, page: list[tuple[Any, ...]]) -> Columns:
        asked, first, second, labels, tasks, judgments, *votes, sources, strengths = (
            zip(*page, strict=True)
        )
        found = Prompt.objects.filter(pk__in=among(set(asked)))
        pks, messages = zip(*raw(found.values_list("pk", "messages")), strict=True)
        prompts = dict(zip(pks, _lists(messages), strict=True))
        answers = Response.objects.filter(pk__in=among({*first, *second} - {None}))
        texts = dict(raw(answers.values_list("pk", "text")))
        columns: dict[str, Sequence[Any]] = {"prompt": [prompts[pk] for pk in asked]}
        match self.recipe.shape:
            case Shape.PAIRS:
                columns["chosen"] = [texts[pk] for pk in first]
                columns["rejected"] = [texts[pk] for pk in second]
                columns["strength"] = strengths
                if self.recipe.margins is Margins.STRENGTH:
                    columns["margin"] = strengths
            case Shape.LABELS:
                columns["completion"] = [texts[pk] for pk in first]
                columns["label"] = [bool(label) for label in labels]
            case Shape.COMPLETIONS:
                columns["completion"] = [texts[pk] for pk in first]
        return columns | {
            "task_id": [min(behind, default=None) for behind in _lists(tasks)],
            "judgment_ids": [sorted(behind) for behind in _lists(judgments)],
            "prompt_id": asked,
            **dict(zip(("votes_for", "votes_against", "n_votes"), votes, strict=True)),
            "source": [source or "demonstration" for source in sources],
        }


def _behind(votes: Votes, outcome: Outcome) -> str:
    """The judgments of the source that decided."""
    if votes.said.count(",") + 1 == outcome.n_votes:
        return votes.ids
    said = zip(votes.said.split(","), votes.ids.split(","), strict=True)
    return ",".join(id for vote, id in said if vote.split()[0] == outcome.source)


def _lists(column: Sequence[str]) -> list[list[Any]]:
    """What a column of JSON says; one call costs half of one for every value."""
    lists: list[list[Any]] = json.loads(f"[{','.join(column)}]")
    return lists


def _listed(numbers: Iterable[int]) -> str:
    return f"[{','.join(map(str, numbers))}]"


def raw(rows: QuerySet[Any, tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """The rows as the database's driver gives them, a page in memory at a time.

    Django looks at every value; so `iterator` costs twice what reading does.
    """
    with connection.chunked_cursor() as cursor:
        cursor.execute(*rows.query.sql_with_params())
        while page := cursor.fetchmany(PAGE):
            yield from page


def among(pks: Iterable[int]) -> RawSQL:
    """Any number of ids as one parameter: Django spends longer on a thousand of them
    than the database.
    """
    if connection.vendor == "postgresql":
        return RawSQL("SELECT unnest(%s::bigint[])", [list(pks)])
    return RawSQL("SELECT value FROM json_each(%s)", [_listed(pks)])


def facts_of(tasks: Iterable[int]) -> dict[int, Facts]:
    rows = Task.objects.filter(pk__in=among(tasks)).values_list(
        *("id", "status", "repeat_of_id", "prompt__content_hash"),
        *("response_a_id", "response_b_id"),
        *("response_a__content_hash", "response_b__content_hash"),
        *("response_a__model_name", "response_b__model_name"),
        *(Length("response_a__text"), Length("response_b__text")),
    )
    return {row[0]: Facts(*row) for row in raw(rows)}


def tallies_of(said: str) -> tuple[dict[str, Counter[str]], dict[str, Counter[str]]]:
    """How often each source gave each verdict, and the sum of the strengths.

    >>> votes, strengths = tallies_of("human a 2,human b,human a 1")
    >>> votes["human"], strengths["human"]["a"]
    (Counter({'a': 2, 'b': 1}), 3)
    """
    votes: dict[str, Counter[str]] = {}
    strengths: dict[str, Counter[str]] = {}
    for vote in filter(None, said.split(",")):
        source, verdict, *strength = vote.split()
        votes.setdefault(source, Counter())[verdict] += 1
        if strength:
            strengths.setdefault(source, Counter())[verdict] += int(strength[0])
    return votes, strengths


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of that many items; itertools has this from Python 3.12 on."""
    iterator = iter(items)
    while page := list(islice(iterator, size)):
        yield page
