"""manage.py quality PROJECT: how far the judgments of a project can be trusted."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from labelhub.management.projects import project_named
from labelhub.measuring import measure
from labelhub.quality.estimate import Estimate, as_json


class Command(BaseCommand):
    help = "Say how much judges agree, and what moves them besides quality."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("project", help="name or slug")
        parser.add_argument("--json", action="store_true", help="print the numbers")

    def handle(self, *args: Any, **options: Any) -> None:
        found = measure(project_named(options["project"]), self._say)
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
        elif isinstance(value, Estimate):
            yield f"{name:<18}{_told(value)}"
        else:
            yield f"{name:<18}{value:,}"


def _told(estimate: Estimate) -> str:
    if estimate.value is None:
        return f"undefined: {estimate.because}"
    told = f"{estimate.value:.3f}"
    if estimate.low is not None:
        told += f"  {estimate.low:.3f} to {estimate.high:.3f}"
    return f"{told}  n = {estimate.n:,}  {estimate.because}".rstrip()
