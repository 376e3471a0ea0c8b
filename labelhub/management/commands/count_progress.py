"""manage.py count_progress PROJECT_ID: what the overview of a large project shows."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from labelhub import progress
from labelhub.models import Project


class Command(BaseCommand):
    help = "Count how far a project is, for its overview; started by the overview."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("project_id", type=int)

    def handle(self, *args: Any, **options: Any) -> None:
        # Gone meanwhile, perhaps: then there is nothing to count.
        for project in Project.objects.filter(pk=options["project_id"]):
            progress.store(project)
