"""manage.py make_starter_model PROJECT --out DIR: a small model to begin with."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from labelhub.management.projects import project_named
from labelhub.models import Project, Prompt
from training import foreground

PAGE = 500


class Command(BaseCommand):
    help = "Make a small language model from the texts of a project, on any machine."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("project", help="its slug or name")
        parser.add_argument("--out", required=True, type=Path, help="a new folder")
        parser.add_argument("--size", choices=["tiny", "small"], default="small")
        parser.add_argument("--json", action="store_true", help="print the report")

    def handle(self, *args: Any, **options: Any) -> None:
        project, out = project_named(options["project"]), options["out"].absolute()
        if out.exists():
            raise CommandError(f"{out} is there already: name a new folder.")
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            spec = Path(folder) / "spec.json"
            data = [str(path) for path in write_texts(project, Path(folder))]
            spec.write_text(
                json.dumps({"data": data, "out_dir": str(out), "size": options["size"]})
            )
            report = self._make(spec)
        if options["json"]:
            self.stdout.write(json.dumps(report))
            return
        self.stdout.write(
            f"{out}: {report['parameters']:,} parameters, taught with "
            f"{report['texts']:,} texts in {report['seconds']:.0f} s.\n"
            f"Perplexity of {report['held_out_texts']:,} held-out texts: "
            f"{report['perplexity_before']:.1f} before, "
            f"{report['perplexity_after']:.1f} after."
        )

    def _make(self, spec: Path) -> dict[str, Any]:
        bar = foreground.ProgressBar(self.stderr)
        last: dict[str, Any] = {}
        for last in foreground.make_starter_model(spec):
            bar.show(last)
        bar.clear()
        if last.get("kind") == "completed":
            report: dict[str, Any] = last["report"]
            return report
        raise CommandError(
            last["message"]
            if last.get("kind") == "failed"
            else "The model was not finished; what went wrong is above."
        )


def write_texts(project: Project, folder: Path) -> list[Path]:
    """The project's conversations, and its prompts that nobody has answered."""
    conversations, prompts = folder / "conversations.jsonl", folder / "prompts.jsonl"
    with conversations.open("w") as answered, prompts.open("w") as alone:
        for prompt in _prompts(project):
            answers = [response.text for response in prompt.responses.all()]
            for text in answers:
                turn = {"role": "assistant", "content": text}
                row = {"messages": [*prompt.messages, turn]}
                answered.write(json.dumps(row) + "\n")
            if not answers:
                alone.write(json.dumps({"text": prompt.last_user_turn}) + "\n")
    return [path for path in (conversations, prompts) if path.stat().st_size]


def _prompts(project: Project) -> Iterator[Prompt]:
    """Page by page by key: memory stays flat, and no read is open for long."""
    last = 0
    page = Prompt.objects.filter(project=project).prefetch_related("responses")
    while found := list(page.filter(pk__gt=last).order_by("pk")[:PAGE]):
        yield from found
        last = found[-1].pk
