"""Pass 2: short transactions that may be cut off anywhere and run again.

Everything is found by its content before it is made, so a second run of the same
import makes only what is missing.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, NamedTuple

from django.db import IntegrityError, OperationalError, connection, transaction
from django.db.models import F
from django.db.models.functions import Now

from labelhub.importing.bulk import insert, take_ids
from labelhub.importing.chunks import chunk_size
from labelhub.importing.drafting import Draft, as_json
from labelhub.importing.index import Answered, Index
from labelhub.importing.items import Answer, mirrored
from labelhub.importing.options import ImportOptions
from labelhub.importing.pairing import Policy, pairs_of
from labelhub.models import ImportBatch, Judgment, Project, Prompt, Response, Task

_TRIES = 3


class TakenOver(Exception):
    """Another process has taken the batch up; this one must write nothing more."""


class _Pair(NamedTuple):
    """A task to have, and what was said of it."""

    a: Answered
    b: Answered | None
    verdict: str = ""
    draft: Draft | None = None


class Writer:
    def __init__(
        self,
        project: Project,
        batch: ImportBatch,
        options: ImportOptions,
        policy: Policy,
        index: Index,
    ) -> None:
        self.project = project
        self.batch = batch
        self.options = options
        self.policy = policy
        self.index = index
        self.size = chunk_size()
        self.named: Counter[str] = Counter()
        """Prompts, responses, tasks and judgments that the rows spoke of."""
        self.reused: Counter[str] = Counter()
        """Those of them that an earlier import had made."""
        self.notes: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        self.built_on: Counter[int] = Counter()
        """Rows used of other imports, by the import: they cannot be removed now."""

    # --- rows ---------------------------------------------------------------

    def write(self, drafts: list[Draft], n_rows: int) -> None:
        """One chunk in one transaction."""
        self._look_up_references(drafts)
        for attempt in range(1, _TRIES + 1):
            tally = _Tally()
            try:
                with self._transaction(n_rows):
                    self._write_prompts(drafts, tally)
                    self._write_responses(drafts, tally)
                    adopted = self._write_tasks(self._pairs(drafts, tally), tally)
            except (IntegrityError, OperationalError):
                # Somebody else wrote the same prompt meanwhile, or a deadlock was
                # broken at our cost: what was not there is there now.
                if attempt == _TRIES or not connection.is_usable():
                    raise
            else:
                break
        self._keep(tally)
        self._note_written(drafts, adopted)

    @contextmanager
    def _transaction(self, n_rows: int = 0) -> Iterator[None]:
        """A transaction of the batch, as long as ours may be; the next one adapts."""
        with transaction.atomic():
            started = time.monotonic()  # On SQLite the lock was waited for before.
            self._beat(n_rows)
            yield
        self.size.adapt(time.monotonic() - started)

    def _beat(self, n_rows: int = 0) -> None:
        """Prove that the batch is still ours, and keep other imports of the project
        out until the transaction ends.
        """
        Project.objects.select_for_update(no_key=True).get(pk=self.project.pk)
        ours = ImportBatch.objects.filter(pk=self.batch.pk, fence=self.batch.fence)
        if not ours.update(n_read=F("n_read") + n_rows, beat_at=Now()):
            raise TakenOver(f"another process has taken import {self.batch.pk} over")

    def _look_up_references(self, drafts: list[Draft]) -> None:
        names = {d.item.prompt_id for d in drafts if d.item.prompt is None}
        prompts = self.index.prompts(sorted(names))
        ids = {name for draft in drafts for name in draft.item.answer_ids}
        responses = self.index.responses(sorted(ids))
        for draft in drafts:
            item = draft.item
            if item.answer_ids:
                found = [responses[n] for n in item.answer_ids if n in responses]
                draft.answered = found
            elif item.prompt is None:
                draft.prompt_pk = prompts[item.prompt_id]

    def _write_prompts(self, drafts: list[Draft], tally: _Tally) -> None:
        wanted = {d.prompt_hash: d for d in drafts if d.prompt_hash}
        tally.named["prompts"] += sum(bool(d.prompt_hash) for d in drafts)
        found = {
            digest: (pk, batch)
            for pk, digest, batch in Prompt.objects.filter(
                project=self.project, content_hash__in=list(wanted)
            ).values_list("pk", "content_hash", "batch_id")
        }
        new = [draft for digest, draft in wanted.items() if digest not in found]
        pks = dict(
            zip((d.prompt_hash for d in new), take_ids(Prompt, len(new)), strict=True)
        )
        insert(
            Prompt,
            ("id", "project", "messages", "external_id", "content_hash", "metadata",
             "batch"),
            [
                (pks[d.prompt_hash], self.project.pk, d.prompt_json, d.item.prompt_id,
                 d.prompt_hash, as_json(d.item.metadata), self.batch.pk)
                for d in new
            ],
        )  # fmt: skip
        for draft in drafts:
            if draft.prompt_hash in found:
                draft.prompt_pk, batch = found[draft.prompt_hash]
                self._count_reuse(tally, "prompts", batch)
            elif draft.prompt_hash:
                draft.prompt_pk = pks[draft.prompt_hash]
        tally.new_prompts = set(pks.values())

    def _write_responses(self, drafts: list[Draft], tally: _Tally) -> None:
        wanted: dict[tuple[int, str, str], Answer] = {}
        for draft in drafts:
            answers = list(zip(draft.hashes, draft.item.answers, strict=True))
            tally.named["responses"] += len(answers)
            if draft.item.is_pair:
                # In a pair the lower id becomes response_a. By hash, so that a says
                # nothing about which of them was chosen.
                answers.sort(key=itemgetter(0))
            for digest, answer in answers:
                if not answer.text.strip():
                    tally.notes["empty_responses"] += 1
                wanted.setdefault((draft.prompt_pk, answer.model, digest), answer)
        found = self._stored_responses(wanted, tally)
        new = [key for key in wanted if key not in found]
        pks = dict(zip(new, take_ids(Response, len(new)), strict=True))
        insert(
            Response,
            ("id", "prompt", "text", "model_name", "sampling", "external_id",
             "content_hash", "is_demonstration", "batch"),
            [
                (pk, key[0], wanted[key].text, key[1], as_json(wanted[key].sampling),
                 wanted[key].external_id, key[2], wanted[key].demonstration,
                 self.batch.pk)
                for key, pk in pks.items()
            ],
        )  # fmt: skip
        for draft in drafts:
            if draft.item.answer_ids:
                continue
            draft.answered = []
            for digest, answer in zip(draft.hashes, draft.item.answers, strict=True):
                key = (draft.prompt_pk, answer.model, digest)
                if key in found:
                    self._count_reuse(tally, "responses", found[key][1])
                pk = found[key][0] if key in found else pks[key]
                draft.answered.append(Answered(pk, draft.prompt_pk, digest))
        tally.new_responses = set(pks.values())

    def _stored_responses(
        self, wanted: dict[tuple[int, str, str], Answer], tally: _Tally
    ) -> dict[tuple[int, str, str], tuple[int, int | None]]:
        """Those there already: {key: (pk, batch)}. A new prompt cannot have any."""
        old = {key for key in wanted if key[0] not in tally.new_prompts}
        if not old:
            return {}
        stored = Response.objects.filter(
            prompt_id__in={key[0] for key in old},
            content_hash__in={key[2] for key in old},
        ).values_list(
            "pk", "prompt_id", "model_name", "content_hash", "batch_id",
            "is_demonstration",
        )  # fmt: skip
        found: dict[tuple[int, str, str], tuple[int, int | None]] = {}
        to_imitate = []
        for pk, prompt, model, digest, batch, is_demonstration in stored:
            key = (prompt, model, digest)
            if key in wanted:
                found[key] = (pk, batch)
                if wanted[key].demonstration and not is_demonstration:
                    to_imitate.append(pk)
        if to_imitate:
            Response.objects.filter(pk__in=to_imitate).update(is_demonstration=True)
        return found

    def _pairs(self, drafts: list[Draft], tally: _Tally) -> list[_Pair]:
        """The tasks these rows ask for."""
        pairs = []
        for draft in drafts:
            answered, item = draft.answered, draft.item
            if item.answer_ids and len(answered) < len(item.answer_ids):
                tally.left_out["the response it judges is in none of the files"] += 1
            elif len({one.prompt_pk for one in answered}) > 1:
                tally.left_out["the responses it judges answer different prompts"] += 1
            elif not self.project.is_pairwise:
                pairs += [_Pair(one, None, item.verdict, draft) for one in answered]
            elif item.is_pair or item.answer_ids:
                one, other = answered
                if one.hash == other.hash:
                    tally.notes["identical_pairs"] += 1
                else:
                    pairs.append(_ordered(one, other, item.verdict, draft))
        return pairs

    # --- tasks and judgments ------------------------------------------------

    def _write_tasks(self, pairs: list[_Pair], tally: _Tally) -> list[int]:
        """Make what is missing; return tasks that another unfinished import made."""
        wanted = {(p.a.pk, p.b.pk if p.b else None): p for p in pairs}
        tally.named["tasks"] += len(pairs)
        found, adopted = {}, []
        old = {a for a, b in wanted if a not in tally.new_responses}
        for pk, a, b, batch, status in Task.objects.filter(
            response_a__in=old, repeat_of__isnull=True
        ).values_list("pk", "response_a_id", "response_b_id", "batch_id", "status"):
            if (a, b) not in wanted:
                continue
            found[a, b] = (pk, batch)
            if status == Task.Status.LOADING and batch != self.batch.pk:
                adopted.append(pk)
        new = [key for key in wanted if key not in found]
        pks = dict(zip(new, take_ids(Task, len(new)), strict=True))
        in_order = self.project.order == Project.Order.IMPORTED
        insert(
            Task,
            ("id", "project", "prompt", "response_a", "response_b", "shuffle_key",
             "n_required", "status", "batch"),
            [
                (pk, self.project.pk, wanted[key].a.prompt_pk, *key,
                 float(pk) if in_order else _shuffle_key(wanted[key]),
                 self.project.judgments_per_task, Task.Status.LOADING.value,
                 self.batch.pk)
                for key, pk in pks.items()
            ],
        )  # fmt: skip
        for pair in pairs:
            key = (pair.a.pk, pair.b.pk if pair.b else None)
            if key in found:
                self._count_reuse(tally, "tasks", found[key][1])
        known = {key: pk for key, (pk, _) in found.items()}
        self._write_judgments(pairs, known | pks, set(known.values()), tally)
        return adopted

    def _write_judgments(
        self,
        pairs: list[_Pair],
        tasks: dict[tuple[int, int | None], int],
        old_tasks: set[int],
        tally: _Tally,
    ) -> None:
        wanted: dict[tuple[int, str, str, str], tuple[Any, ...]] = {}
        for pair in pairs:
            if not pair.verdict or pair.draft is None:
                continue
            item = pair.draft.item
            tally.named["judgments"] += 1
            task = tasks[pair.a.pk, pair.b.pk if pair.b else None]
            kind = self.options.judge_kind or pair.draft.judge_kind
            source = "model" if kind == "model" else "imported"
            judge = item.judge or self.options.judge
            # A verdict without an id of its own counts once per task, judge and
            # verdict: overlapping files add nothing, contradictions stay.
            name = item.judgment_id or pair.verdict
            wanted.setdefault((task, source, judge, name), (pair.verdict, item.note))
        found = {
            tuple(key): batch
            for *key, batch in Judgment.objects.filter(
                task_id__in=old_tasks & {key[0] for key in wanted},
                assignment__isnull=True,
            ).values_list("task_id", "source", "judge_name", "external_id", "batch_id")
        }
        for key in wanted:
            if key in found:
                self._count_reuse(tally, "judgments", found[key])
        new = [key for key in wanted if key not in found]
        insert(
            Judgment,
            ("id", "project", "task", "source", "judge_name", "external_id",
             "verdict", "note", "batch"),
            [
                (pk, self.project.pk, *key, *wanted[key], self.batch.pk)
                for pk, key in zip(take_ids(Judgment, len(new)), new, strict=True)
            ],
        )  # fmt: skip

    # --- pairs that no row names --------------------------------------------

    def write_pairs(self) -> None:
        """Pair, as --pairs says, the responses of this import with all that the
        project holds to the same prompts.
        """
        by_prompt = itertools.groupby(self.index.paired(), key=lambda row: row[0])
        ours = ((prompt, {pk for _, pk in group}) for prompt, group in by_prompt)
        while chunk := dict(itertools.islice(ours, 200)):
            pairs = self._found_pairs(chunk)
            while some := list(itertools.islice(pairs, self.size.rows)):
                tally = _Tally()
                with self._transaction():
                    adopted = self._write_tasks(some, tally)
                self._keep(tally)
                self.index.adopt(adopted)

    def _found_pairs(self, ours: dict[int, set[int]]) -> Iterator[_Pair]:
        stored = (
            Response.objects.filter(prompt_id__in=list(ours), is_demonstration=False)
            .order_by("prompt_id", "pk")
            .values_list("pk", "prompt_id", "content_hash", "model_name")
        )
        for prompt, group in itertools.groupby(stored, key=lambda row: row[1]):
            candidates = [_Candidate(Answered(*row[:3]), row[3]) for row in group]
            for n, m in pairs_of(candidates, self.policy):
                one, other = candidates[n].answered, candidates[m].answered
                if not {one.pk, other.pk} & ours[prompt]:
                    continue
                if one.hash == other.hash:
                    self.notes["identical_pairs"] += 1
                else:
                    yield _ordered(one, other)

    # --- the end ------------------------------------------------------------

    def open_tasks(self) -> None:
        """Let the queue have the batch's tasks, and those of others that it needs."""
        mine = Task.objects.filter(batch=self.batch, status=Task.Status.LOADING)
        in_order, last = mine.order_by("pk").values_list("pk", flat=True), 0
        # From the last on, or every transaction would walk past all that is open.
        while pks := list(in_order.filter(pk__gt=last)[: self.size.rows]):
            self._open(pks)
            last = pks[-1]
        adopted = self.index.adopted()
        while pks := list(itertools.islice(adopted, self.size.rows)):
            self._open(pks)

    def _open(self, pks: list[int]) -> None:
        with self._transaction():
            n_opened = Task.objects.filter(
                pk__in=pks, status=Task.Status.LOADING
            ).update(status=Task.Status.OPEN)
            Project.objects.filter(pk=self.project.pk).update(
                n_tasks=F("n_tasks") + n_opened
            )

    def counts(self) -> dict[str, Any]:
        """What became of the rows, whichever process wrote them."""
        made = {
            name: model.objects.filter(batch=self.batch).count()  # type: ignore[attr-defined]
            for name, model in _MODELS.items()
        }
        repeated = {
            name: self.named[name] - self.reused[name] - made[name] for name in _MODELS
        }
        return {
            **made,
            "reused": {name: n for name, n in self.reused.items() if n},
            "repeated": {name: n for name, n in repeated.items() if n > 0},
            **{
                name: self.notes[name]
                for name in ("identical_pairs", "empty_responses")
            },
            "left_out": dict(self.left_out),
            "built_on": {str(batch): n for batch, n in self.built_on.items()},
        }

    # --- bookkeeping --------------------------------------------------------

    def _count_reuse(self, tally: _Tally, what: str, batch: int | None) -> None:
        if batch != self.batch.pk:
            tally.reused[what] += 1
            if batch is not None:
                tally.built_on[batch] += 1

    def _keep(self, tally: _Tally) -> None:
        self.named += tally.named
        self.reused += tally.reused
        self.notes += tally.notes
        self.left_out += tally.left_out
        self.built_on += tally.built_on

    def _note_written(self, drafts: list[Draft], adopted: list[int]) -> None:
        self.index.adopt(adopted)
        self.index.put_prompts(
            (d.item.prompt_id, d.prompt_pk)
            for d in drafts
            if d.prompt_hash and d.item.prompt_id
        )
        self.index.put_responses(
            (answer.external_id, answered)
            for d in drafts
            for answer, answered in zip(d.item.answers, d.answered, strict=False)
            if answer.external_id
        )
        if self.project.is_pairwise and self.policy.looks_for_pairs:
            self.index.put_paired(
                answered
                for d in drafts
                for answer, answered in zip(d.item.answers, d.answered, strict=False)
                if not answer.demonstration
            )


_MODELS = {
    "prompts": Prompt,
    "responses": Response,
    "tasks": Task,
    "judgments": Judgment,
}


@dataclass
class _Tally:
    """What one transaction counted; kept only if it was committed."""

    named: Counter[str] = field(default_factory=Counter)
    reused: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    built_on: Counter[int] = field(default_factory=Counter)
    new_prompts: set[int] = field(default_factory=set)
    new_responses: set[int] = field(default_factory=set)


class _Candidate(NamedTuple):
    answered: Answered
    model: str

    @property
    def hash(self) -> str:
        return self.answered.hash


def _ordered(
    one: Answered, other: Answered, verdict: str = "", draft: Draft | None = None
) -> _Pair:
    """a is the lower id, as the database demands; the verdict follows it."""
    if one.pk < other.pk:
        return _Pair(one, other, verdict, draft)
    return _Pair(other, one, mirrored(verdict), draft)


def _shuffle_key(pair: _Pair) -> float:
    """Uniform in [0, 1) and the same at every import of the same pair."""
    hashes = sorted((pair.a.hash, pair.b.hash if pair.b else ""))
    digest = hashlib.sha256(f"{pair.a.prompt_pk} {hashes}".encode()).digest()
    return (int.from_bytes(digest[:8]) >> 11) / 2**53
