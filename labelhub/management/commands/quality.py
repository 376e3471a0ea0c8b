"""manage.py quality PROJECT: how far the judgments of a project can be trusted."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from labelhub import reports
from labelhub.management.projects import project_named
from labelhub.measuring import measure
from labelhub.quality.estimate import Estimate, as_json


class Command(BaseCommand):
    help = "Say how much judges agree, and what moves them besides quality."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("project", help="name or slug")
        parser.add_argument("--json", action="store_true", help="print the numbers")
        parser.add_argument(
            "--report", type=int, help="make this waiting report of the page, quietly"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        project = project_named(options["project"])
        if options["report"]:
            reports.make(project.quality_reports.get(pk=options["report"]))
            return
        found = measure(project, self._say)
        if options["json"]:
            said = json.dumps(as_json(found), indent=2, allow_nan=False)
            self.stdout.write(said)
            return
        if not found:
            self.stdout.write("Nothing has been judged yet.")
        for source, measured in found.items():
            self.stdout.write(f"{source} judgments")
            for line in _lines(measured):
                self.stdout.write(f"  {line}")

    def _say(self, doing: str) -> None:
        if sys.stderr.isatty():
            self.stderr.write(f"{doing} …")


def _lines(numbers: dict[str, Any]) -> Iterator[str]:
    for key, value in numbers.items():
        name = key.replace("_", " ")
        if isinstance(value, dict):
            if value:
                yield name
                yield from (f"  {line}" for line in _lines(value))
        elif isinstance(value, list):
            yield name
            yield from (f"  {line}" for part in value for line in _row_lines(part))
        elif isinstance(value, Estimate):
            yield f"{name:<18}{_told(value)}"
        else:
            yield f"{name:<18}{value}"


def _row_lines(part: Any) -> Iterator[str]:
    """A group of models, or how two of them did against each other."""
    if isinstance(part, list):
        yield "compared with each other"
        for row in part:
            ranks = f"rank {row['best']} to {row['worst']}"
            yield f"  {row['model']:<32}{_told(row['points'], 0)}  {ranks}"
    else:
        counts = f"{part['won']} won, {part['tied']} tied, {part['lost']} lost"
        yield f"{part['first']} – {part['second']}: {counts}"


def _told(estimate: Estimate, digits: int = 3) -> str:
    if estimate.value is None:
        return f"undefined: {estimate.because}"
    told = f"{estimate.value:.{digits}f}"
    if estimate.low is not None or estimate.high is not None:
        low, high = (
            "…" if end is None else f"{end:.{digits}f}"
            for end in (estimate.low, estimate.high)
        )
        told += f"  {low} to {high}"
    return f"{told}  n = {estimate.n:,}  {estimate.because}".rstrip()
