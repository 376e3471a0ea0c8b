"""Pass 1: read everything, write nothing, say what is wrong and where."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from labelhub.importing.detect import Source, open_source, refuse_unknown_columns
from labelhub.importing.files import Place, Unreadable
from labelhub.importing.index import Answered, Index
from labelhub.importing.items import Item, LeftOut, Problem, mirrored
from labelhub.importing.options import ImportOptions, ImportRefused
from labelhub.importing.pairing import Policy, pairs_of, policy_of
from labelhub.models import Project, Prompt, Response
from labelhub.models.prompt import content_hash

PROBLEMS_SHOWN = 20
EXAMPLES_SHOWN = 3
_COUNTED = (
    "prompts",
    "responses",
    "tasks",
    "judgments",
    "identical_pairs",
    "empty_responses",
)
_LOOKED_UP_TOGETHER = 500

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many rows are done, of how many (0: unknown)."""


def no_progress(doing: str, done: int, total: int) -> None:
    pass


@dataclass
class Report:
    """What pass 1 found."""

    sources: list[Source]
    index: Index = field(default_factory=Index)
    policy: Policy = field(default_factory=lambda: Policy("reviewed"))
    n_rows: int = 0
    n_problems: int = 0
    problems: list[str] = field(default_factory=list)
    """The first of them, each with its file and line."""
    left_out: Counter[str] = field(default_factory=Counter)
    left_out_places: dict[str, list[str]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    """What would be made in an empty project; only `check_files` counts."""
    examples: list[Item] = field(default_factory=list)

    def in_order(self) -> list[Source]:
        """Prompts first, verdicts last: ids are known when they are referred to."""
        return sorted(self.sources, key=lambda source: source.format.stage)

    def add_problem(self, source: Source, place: Place, problem: object) -> None:
        self.n_problems += 1
        if len(self.problems) < PROBLEMS_SHOWN:
            where = f"{source.name}, {place}" if place else source.name
            self.problems.append(f"{where}: {problem}")

    def leave_out(self, source: Source, place: Place, reason: object) -> None:
        self.left_out[str(reason)] += 1
        places = self.left_out_places.setdefault(str(reason), [])
        if len(places) < EXAMPLES_SHOWN:
            places.append(f"{source.name}, {place}")

    def refuse_problems(self) -> None:
        if self.n_problems:
            more = self.n_problems - len(self.problems)
            tail = [f"… and {more:,} more"] if more else []
            plural = "" if self.n_problems == 1 else "s"
            raise ImportRefused(
                f"{self.n_problems:,} problem{plural}; nothing was imported.",
                [*self.problems, *tail],
            )


def check(
    project: Project,
    files: Sequence[tuple[Path, str]],
    options: ImportOptions,
    progress: Progress = no_progress,
    *,
    counting: bool = False,
) -> Report:
    """Read every row of every file (path, name). Only reads the database, and that
    only for ids which no file holds.
    """
    if not files:
        raise ImportRefused("There is no file to import.")
    sources = [open_source(path, name, options) for path, name in files]
    refuse_unknown_columns(sources, options)
    for source in sources:
        _refuse_wrong_kind(project, source)
        _refuse_unnamed_judge(source, options)
    report = Report(sources)
    pass_ = _Pass(project, report, counting=counting)
    for source in report.in_order():
        pass_.read(source, progress)
    report.policy = policy_of(
        "none" if not project.is_pairwise and not options.pairs else options.pairs,
        has_verdicts=project.is_pairwise and pass_.has_verdicts,
        models=_models(project, pass_.models) if ":" in options.pairs else set(),
    )
    if options.pairs not in ("", "none") and not project.is_pairwise:
        raise ImportRefused(
            f"--pairs {options.pairs}: “{project}” is binary and has no pairs."
        )
    if counting and report.policy.looks_for_pairs:
        pass_.count_pairs(report.policy)
    if counting:
        report.counts = {name: pass_.counts[name] for name in _COUNTED}
    return report


def _refuse_wrong_kind(project: Project, source: Source) -> None:
    title = source.format.title
    if project.is_pairwise and source.format.verdicts == "label":
        raise ImportRefused(
            f"{source.name} labels single responses ({title}), and “{project}” is"
            " pairwise. Import it into a project made with --kind binary."
        )
    if not project.is_pairwise and (
        source.format.verdicts == "pair" or source.format.is_pair
    ):
        raise ImportRefused(
            f"{source.name} compares two responses ({title}), and “{project}” is"
            " binary. Import it into a project made with --kind pairwise."
        )


def _refuse_unnamed_judge(source: Source, options: ImportOptions) -> None:
    if source.format.needs_judge and not options.judge:
        raise ImportRefused(
            f"{source.name} holds verdicts ({source.format.title}) that do not say who"
            " judged: name the judge with --judge NAME."
        )


def _models(project: Project, found: set[str]) -> set[str]:
    stored = Response.objects.filter(prompt__project=project)
    return found | set(stored.values_list("model_name", flat=True).distinct())


class _Candidate(NamedTuple):
    model: str
    hash: str


class _Pass:
    def __init__(self, project: Project, report: Report, *, counting: bool) -> None:
        self.project = project
        self.report = report
        self.index = report.index
        self.counting = counting
        self.counts: Counter[str] = Counter()
        self.has_verdicts = False
        self.models: set[str] = set()
        self.unresolved: list[tuple[Source, Place, Item]] = []

    def read(self, source: Source, progress: Progress) -> None:
        report = self.report
        try:
            for place, item in source.items(strict=True):
                source.n_rows += 1
                if source.n_rows % 1000 == 0:
                    progress("checking", report.n_rows + source.n_rows, 0)
                if isinstance(item, Problem):
                    report.add_problem(source, place, item)
                elif isinstance(item, LeftOut):
                    report.leave_out(source, place, item)
                else:
                    self._take(source, place, item)
        except Unreadable as exc:
            report.add_problem(source, "", exc)
        self._resolve()
        report.n_rows += source.n_rows

    def _take(self, source: Source, place: Place, item: Item) -> None:
        self.models.update(answer.model for answer in item.answers)
        if len(self.report.examples) < EXAMPLES_SHOWN and item.answers:
            self.report.examples.append(item)
        try:
            self._note_ids(source, item)
        except Problem as exc:
            self.report.add_problem(source, place, exc)
            return
        if self._is_known(item):
            self._finish(source, place, item)
        else:
            self.unresolved.append((source, place, item))
            if len(self.unresolved) == _LOOKED_UP_TOGETHER:
                self._resolve()

    def _note_ids(self, source: Source, item: Item) -> None:
        if item.prompt is not None and item.prompt_id:
            new = self.index.add_prompt(item.prompt_id)
            if not new and source.format.stage == 0:
                raise Problem(f"the id {item.prompt_id!r} is there twice")
        for answer in item.answers:
            if answer.external_id and not self.index.add_response(
                answer.external_id,
                _prompt_key(item),
                content_hash(answer.text) if self.counting else "",
            ):
                raise Problem(f"the id {answer.external_id!r} is there twice")

    def _is_known(self, item: Item) -> bool:
        if item.answer_ids:
            return all(
                self.index.find_response(name) is not None for name in item.answer_ids
            )
        return item.prompt is not None or self.index.has_prompt(item.prompt_id)

    def _resolve(self) -> None:
        """Look in the project for what no file holds."""
        waiting, self.unresolved = self.unresolved, []
        if not waiting:
            return
        self._find_prompts({i.prompt_id for _, _, i in waiting if not i.answer_ids})
        self._find_responses({name for _, _, i in waiting for name in i.answer_ids})
        for source, place, item in waiting:
            self._finish(source, place, item)

    def _find_prompts(self, names: Iterable[str]) -> None:
        stored = Prompt.objects.filter(
            project=self.project, external_id__in=[n for n in names if n]
        ).values_list("external_id", "pk")
        often = Counter(name for name, _ in stored)
        # An id that two prompts share names neither.
        self.index.put_prompts((name, pk) for name, pk in stored if often[name] == 1)

    def _find_responses(self, names: Iterable[str]) -> None:
        unknown = [n for n in names if self.index.find_response(n) is None]
        stored = Response.objects.filter(
            prompt__project=self.project, external_id__in=unknown
        ).values_list(
            "external_id", "pk", "prompt_id", "content_hash", "prompt__external_id"
        )
        often = Counter(name for name, *_ in stored)
        for name, pk, prompt_pk, digest, prompt_name in stored:
            if often[name] == 1:
                self.index.add_response(name, prompt_name, digest)
                self.index.put_responses([(name, Answered(pk, prompt_pk, digest))])

    def _finish(self, source: Source, place: Place, item: Item) -> None:
        try:
            self._check_references(item)
        except Problem as exc:
            self.report.add_problem(source, place, exc)
        except LeftOut as exc:
            self.report.leave_out(source, place, exc)
        else:
            self.has_verdicts |= bool(item.verdict)
            if self.counting:
                self._count(item)

    def _check_references(self, item: Item) -> None:
        if not item.answer_ids:
            if item.prompt is None and not self.index.has_prompt(item.prompt_id):
                raise Problem(
                    f"the prompt {item.prompt_id!r} is in none of the files,"
                    " nor in the project"
                )
            return
        prompts = []
        for name in item.answer_ids:
            found = self.index.find_response(name)
            if found is None and item.may_miss_answers:
                raise LeftOut("the response it judges is in none of the files")
            if found is None:
                raise Problem(
                    f"the response {name!r} is in none of the files, nor in the project"
                )
            prompts.append(found[0])
        if len(set(prompts)) > 1:
            raise Problem(
                f"the responses {' and '.join(map(repr, item.answer_ids))}"
                " answer different prompts"
            )
        if item.prompt_id and prompts[0] and prompts[0] != item.prompt_id:
            raise Problem(
                f"the response {item.answer_ids[0]!r} answers the prompt"
                f" {prompts[0]!r}, not {item.prompt_id!r}"
            )

    # --- counting, for a dry run --------------------------------------------

    def _count(self, item: Item) -> None:
        """What an empty project would get from this item."""
        prompt = _prompt_key(item)
        if item.prompt is not None and self.index.add_seen(
            f"prompt {content_hash(item.prompt)}"
        ):
            self.counts["prompts"] += 1
        digests = [content_hash(answer.text) for answer in item.answers]
        for answer, digest in zip(item.answers, digests, strict=True):
            n = self.counts["responses"]
            self.counts["empty_responses"] += not answer.text.strip()
            self.counts["responses"] += self.index.add_answer(
                prompt, answer.model, digest, n
            )
            if not self.project.is_pairwise:
                self.counts["tasks"] += self.index.add_seen(f"task {prompt} {digest}")
        for name in item.answer_ids:
            prompt, digest = self.index.find_response(name) or ("", "")
            digests.append(digest)
        if len(item.answer_ids) == 2 or item.is_pair:
            if digests[0] == digests[1]:
                self.counts["identical_pairs"] += 1
                return
            pair = " ".join(sorted(digests))
            self.counts["tasks"] += self.index.add_seen(f"pair {prompt} {pair}")
        if item.verdict:
            in_order = digests == sorted(digests)
            said = item.verdict if in_order else mirrored(item.verdict)
            task, name = " ".join(sorted(digests)), item.judgment_id or said
            self.counts["judgments"] += self.index.add_seen(
                f"verdict {prompt} {task} {item.judge} {name}"
            )

    def count_pairs(self, policy: Policy) -> None:
        for prompt, group in itertools.groupby(self.index.answers(), itemgetter(0)):
            candidates = [_Candidate(model, digest) for _, model, digest in group]
            for n, m in pairs_of(candidates, policy):
                one, other = sorted((candidates[n].hash, candidates[m].hash))
                if one == other:
                    self.counts["identical_pairs"] += 1
                else:
                    self.counts["tasks"] += self.index.add_seen(
                        f"pair {prompt} {one} {other}"
                    )


def _prompt_key(item: Item) -> str:
    return item.prompt_id or content_hash(item.prompt or [])
