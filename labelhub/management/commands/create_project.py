"""Make a project."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction
from django.forms import model_to_dict

from labelhub.forms import ProjectForm
from labelhub.models import Project


class Command(BaseCommand):
    help = "Make a project; data comes into it with import_data."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--kind", required=True, choices=Project.Kind.values)
        parser.add_argument("--judgments-per-task", type=int, default=1, metavar="N")
        parser.add_argument("--guidelines", type=Path, metavar="FILE")
        parser.add_argument("--json", action=argparse.BooleanOptionalAction)

    def handle(
        self,
        *,
        name: str,
        kind: str,
        judgments_per_task: int,
        guidelines: Path | None,
        json: bool | None,
        **options: Any,
    ) -> None:
        form = ProjectForm(
            model_to_dict(Project())
            | {
                "name": name,
                "kind": kind,
                "judgments_per_task": judgments_per_task,
                "guidelines": _read(guidelines) if guidelines else "",
            }
        )
        if not form.is_valid():
            sentences = [
                f"{field.replace('_', '-')}: {' '.join(map(str, errors))}"
                for field, errors in form.errors.items()
            ]
            raise CommandError("; ".join(sentences))
        with transaction.atomic():
            project = form.save()
            if form.cleaned_data["guidelines"]:
                project.write_guideline(form.cleaned_data["guidelines"], None)
        self.stdout.write(
            _as_json(project) if json else f"Made the project {project.slug}."
        )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as exc:
        raise CommandError(f"{path} cannot be read: {exc.strerror}.") from None
    except UnicodeDecodeError:
        raise CommandError(f"{path} is not UTF-8.") from None


def _as_json(project: Project) -> str:
    return json.dumps({"id": project.pk, "slug": project.slug, "kind": project.kind})
