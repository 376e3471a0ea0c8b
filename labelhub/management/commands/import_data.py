"""Import files into a project."""

from __future__ import annotations

import gc
import json
import sys
import time
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Q

from labelhub.importing import (
    ImportOptions,
    ImportRefused,
    check_files,
    import_files,
    parse_map,
    run_batch,
)
from labelhub.importing.checking import Progress, Report, no_progress
from labelhub.importing.formats import NAMES
from labelhub.importing.items import Item
from labelhub.models import ImportBatch, Project


class Command(BaseCommand):
    help = (
        "Import prompts, responses and verdicts. Several files are one import and may"
        " refer to each other by id; the same import again changes nothing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("project", nargs="?", help="name or slug")
        parser.add_argument("files", nargs="*", type=Path)
        parser.add_argument(
            "--format", default="auto", help=f"auto, {', '.join(NAMES)}"
        )
        parser.add_argument(
            "--map",
            action="append",
            default=[],
            metavar="FROM=TO",
            help="rename a column, as question=prompt",
        )
        parser.add_argument("--judge", default="", help="who judged")
        parser.add_argument("--judge-kind", default="", metavar="human|model")
        parser.add_argument(
            "--pairs",
            default="",
            help="reviewed, all, adjacent, none or MODEL:MODEL; reviewed where the"
            " files hold verdicts, else all",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="say what would be made"
        )
        parser.add_argument("--json", action="store_true", help="print the counts")
        parser.add_argument(
            "--batch", type=int, help="import what was uploaded for this import"
        )

    def handle(self, *, project: str | None, **options: Any) -> None:
        # Rows hold no cycles; looking for them costs a tenth of the time.
        gc.set_threshold(100_000)
        progress = terminal_progress() if sys.stderr.isatty() else no_progress
        try:
            if options["batch"]:
                batch = run_batch(_batch(options["batch"]), progress)
            elif project is None:
                raise CommandError("Name a project and at least one file.")
            elif options["dry_run"]:
                return self._say_report(
                    self._checked(project, options, progress), options
                )
            else:
                batch = import_files(
                    find_project(project),
                    options["files"],
                    _options(options),
                    progress=progress,
                )
        except ImportRefused as exc:
            raise CommandError(str(exc)) from None
        except KeyboardInterrupt:
            raise CommandError(
                "Stopped by hand; the same command again goes on."
            ) from None
        self._say_batch(batch, as_json=options["json"])
        return None

    def _checked(
        self, project: str, options: dict[str, Any], progress: Progress
    ) -> Report:
        files, chosen = options["files"], _options(options)
        return check_files(find_project(project), files, chosen, progress)

    def _say_batch(self, batch: ImportBatch, *, as_json: bool) -> None:
        counts = batch.counts
        if as_json:
            said = {"batch": batch.pk, "rows": batch.n_rows, "repeat": batch.is_repeat}
            self.stdout.write(json.dumps(said | counts))
            return
        if batch.is_repeat:
            self.stdout.write(f"Already imported as batch {batch.pk}: nothing new.")
            return
        made = ", ".join(f"{counts[name]:,} {name}" for name in _MADE)
        self.stdout.write(
            f"Imported as batch {batch.pk}: {made}, of {batch.n_rows:,} rows."
        )
        self._say_rest(counts)

    def _say_rest(self, counts: dict[str, Any]) -> None:
        """What became of the rows that made nothing."""
        for name, n in counts.get("reused", {}).items():
            self.stdout.write(f"  {n:,} {name} were there from earlier imports")
        for name, n in counts.get("repeated", {}).items():
            self.stdout.write(f"  {n:,} {name} are in the files more than once")
        for name, sentence in _NOTES.items():
            if counts.get(name):
                self.stdout.write(f"  {counts[name]:,} {sentence}")
        for reason, n in counts.get("left_out", {}).items():
            self.stdout.write(f"  {n:,} rows left out: {reason}")

    def _say_report(self, report: Report, options: dict[str, Any]) -> None:
        report.refuse_problems()
        if options["json"]:
            said = {"rows": report.n_rows, "left_out": dict(report.left_out)}
            self.stdout.write(json.dumps(said | report.counts))
            return
        for source in report.sources:
            self.stdout.write(
                f"{source.name}: {source.n_rows:,} rows, {source.format.title}"
            )
            if source.unused:
                self.stdout.write(f"  columns not used: {', '.join(source.unused)}")
        made = ", ".join(f"{report.counts.get(name, 0):,} {name}" for name in _MADE)
        self.stdout.write(f"An empty project would get {made}.")
        self._say_rest(report.counts | {"left_out": report.left_out})
        for reason, places in report.left_out_places.items():
            self.stdout.write(f"  left out ({reason}), as {'; '.join(places)}")
        for n, item in enumerate(report.examples, start=1):
            self.stdout.write(f"\nExample {n}\n{_shown(item)}")


_MADE = ("prompts", "responses", "tasks", "judgments")
_NOTES = {
    "identical_pairs": "pairs are of identical responses and make no task",
    "empty_responses": "responses are empty",
}


def find_project(name: str) -> Project:
    found = Project.objects.filter(Q(slug=name) | Q(name=name)).first()
    if found is None:
        slugs = ", ".join(Project.objects.values_list("slug", flat=True)[:10])
        raise CommandError(
            f"There is no project {name!r}. There are: {slugs or 'none'}."
        )
    return found


def terminal_progress() -> Progress:
    """A line on stderr that is written over: rows, rate, time left."""
    started, last = time.monotonic(), 0.0

    def show(doing: str, done: int, total: int) -> None:
        nonlocal started, last
        now = time.monotonic()
        if now - last < 0.2 and done != total:
            return
        if last == 0 or done == 0:
            started = now
        last = now
        rate = done / max(now - started, 0.001)
        line = f"{doing} {done:,} rows"
        if total:
            line += f" of {total:,}, {(total - done) / max(rate, 1):,.0f} s left"
        sys.stderr.write(f"\r{line}, {rate:,.0f} rows/s\x1b[K" + "\n" * (done == total))
        sys.stderr.flush()

    return show


def _options(options: dict[str, Any]) -> ImportOptions:
    return ImportOptions(
        format=options["format"],
        map=parse_map(options["map"]),
        judge=options["judge"],
        judge_kind=options["judge_kind"],
        pairs=options["pairs"],
    )


def _batch(pk: int) -> ImportBatch:
    try:
        return ImportBatch.objects.get(pk=pk)
    except ImportBatch.DoesNotExist:
        raise CommandError(f"There is no import {pk}.") from None


def _shown(item: Item) -> str:
    lines = [f"  {turn['role']}: {turn['content'][:200]}" for turn in item.prompt or []]
    if item.prompt is None:
        lines = [f"  prompt {item.prompt_id}"]
    for answer in item.answers:
        who = answer.model or "response"
        lines.append(f"  -> {who}: {answer.text[:200]}")
    if item.verdict:
        lines.append(f"  verdict: {item.verdict}")
    return "\n".join(lines)
