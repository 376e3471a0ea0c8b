"""Take an import out of a project again."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from labelhub.importing import ImportRefused, remove_import
from labelhub.management.commands.import_data import find_project


class Command(BaseCommand):
    help = "Delete what an import made; refused if people have judged its tasks."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("project", help="name or slug")
        parser.add_argument("batch", type=int, help="the number of the import")

    def handle(self, *, project: str, batch: int, **options: Any) -> None:
        found = find_project(project)
        rows = found.imports.filter(pk=batch).first()
        if rows is None:
            known = ", ".join(map(str, found.imports.values_list("pk", flat=True)[:20]))
            raise CommandError(
                f"“{found}” has no import {batch}. It has: {known or 'none'}."
            )
        try:
            remove_import(rows)
        except ImportRefused as exc:
            raise CommandError(str(exc)) from None
        self.stdout.write(f"Removed import {batch}.")
