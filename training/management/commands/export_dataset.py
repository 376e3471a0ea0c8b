"""manage.py export_dataset PROJECT --for dpo --out DIR: freeze, and write the files."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Q

from labelhub.models import Project
from training import exporting
from training.dataset_files import Format
from training.exporting import ExportError
from training.models import Snapshot
from training.recipes import SHAPES, Ledger, Recipe, RecipeError
from training.storage import StorageError


class Command(BaseCommand):
    help = "Freeze the judgments of a project and write the dataset to a folder."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("project", help="its slug or name")
        parser.add_argument(
            "--for",
            dest="algorithm",
            required=True,
            metavar="ALGORITHM",
            help=", ".join(SHAPES) + " (reward is reward_model)",
        )
        parser.add_argument("--out", required=True, type=Path, help="a new folder")
        parser.add_argument(
            "--judges",
            default="human,imported,feedback",
            help="who is heard: human, imported, feedback, model; comma separated",
        )
        parser.add_argument(
            "--ties", default="drop", help="drop, or both_good (kto only)"
        )
        parser.add_argument("--min-votes", type=int, default=1)
        parser.add_argument(
            "--min-strength",
            type=int,
            default=0,
            help="leave out preferences weaker than this, 1 to 3",
        )
        parser.add_argument(
            "--margins",
            default="none",
            help="none, or strength: a column margin for reward_model",
        )
        parser.add_argument("--eval-share", type=float, default=0.1)
        parser.add_argument("--seed", type=int, default=0)
        parser.add_argument(
            "--format", choices=[choice.value for choice in Format], default="parquet"
        )
        parser.add_argument("--json", action="store_true", help="print the facts only")

    def handle(self, *args: Any, **options: Any) -> None:
        # Rows hold no cycles; looking for them costs a tenth of the time.
        gc.set_threshold(100_000)
        out = options["out"].absolute()
        try:
            recipe = Recipe(
                algorithm=options["algorithm"],
                judges=tuple(_words(options["judges"])),
                ties=options["ties"],
                min_votes=options["min_votes"],
                min_strength=options["min_strength"],
                margins=options["margins"],
                eval_share=options["eval_share"],
                seed=options["seed"],
            )
            exporting.check_is_free(out)
            snapshot = exporting.freeze(
                _project(options["project"]), recipe, progress=self._show
            )
            exporting.export(snapshot, out, Format(options["format"]))
        except (RecipeError, ExportError, StorageError) as error:
            raise CommandError(str(error)) from error
        finally:
            self._show("", 0, 0)
        if options["json"]:
            self.stdout.write((out / "snapshot.json").read_text().rstrip())
        else:
            self._print(snapshot, out)

    def _show(self, phase: str, done: int, total: int) -> None:
        if not self.stderr.isatty():
            return
        count = f" {done:,} of {total:,}" if total else ""
        self.stderr.write(f"\r\033[K{phase}{count}", ending="")
        self.stderr.flush()

    def _print(self, snapshot: Snapshot, out: Path) -> None:
        ledger = Ledger.from_dict(snapshot.ledger)
        lines = [("judged tasks", ledger.judged)]
        lines += [(f"- {text}", n) for _, text, n in ledger.lines()]
        lines += [("= exported", ledger.exported)]
        width = max(len(text) for text, _ in lines)
        for text, n in lines:
            self.stdout.write(f"{text:<{width}}  {n:>9,}")
        beside = f", {ledger.demonstrations:,} of them demonstrations"
        self.stdout.write(
            f"\n{ledger.rows:,} rows{beside if ledger.demonstrations else ''}: "
            f"{snapshot.n_train:,} to train, {snapshot.n_eval:,} to evaluate"
            f"\nsha256 {snapshot.sha256}\nsnapshot {snapshot.pk} is in {out}"
        )


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _project(name: str) -> Project:
    project = Project.objects.filter(Q(slug=name) | Q(name=name)).first()
    if project is None:
        known = ", ".join(Project.objects.values_list("slug", flat=True)[:20])
        raise CommandError(f"There is no project {name!r}, only: {known or 'none'}.")
    return project
