"""Recount everything the counters, states and orders claim."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import IntegrityError

from labelhub import integrity
from labelhub.integrity import Problem


class Command(BaseCommand):
    help = (
        "Recount tasks, leases, judgments, people, imports, snapshots and runs;"
        " exit 1 if one is wrong. May run while people judge."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON array")
        parser.add_argument(
            "--repair", action="store_true", help="count wrong counters anew"
        )

    def handle(self, *, json: bool, repair: bool, **options: Any) -> None:
        if repair:
            self._repair(quiet=json)
        n_found = (self._say_json if json else self._say)(integrity.problems())
        if n_found:
            plural = "" if n_found == 1 else "s"
            raise CommandError(f"{n_found} problem{plural} found.")
        if not json:
            self.stdout.write("Everything agrees with what it speaks of.")

    def _repair(self, *, quiet: bool) -> None:
        # Read to the end first: nothing is written under an open cursor.
        found = {
            problem.subject: problem
            for question in integrity.COUNTERS
            for problem in question.problems()
        }
        for problem in found.values():
            try:
                integrity.repair(problem)
            except IntegrityError:
                continue  # Exactly N is broken itself, which is said below.
            if not quiet:
                self.stdout.write(f"{problem.subject}: counted anew.")

    def _say(self, problems: Iterator[Problem]) -> int:
        n_found = 0
        for problem in problems:
            self.stdout.write(str(problem))
            n_found += 1
        return n_found

    def _say_json(self, problems: Iterator[Problem]) -> int:
        """Written as it is found, so that a long list costs no memory."""
        n_found = 0
        for problem in problems:
            self.stdout.write("[" if not n_found else ",", ending="")
            self.stdout.write(json.dumps(problem._asdict()))
            n_found += 1
        self.stdout.write("]" if n_found else "[]")
        return n_found
