"""manage.py freeze_snapshot ID: make a snapshot that the page asked for."""

from __future__ import annotations

import gc
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from training import exporting
from training.exporting import ExportError
from training.models import Snapshot
from training.storage import StorageError


class Command(BaseCommand):
    help = "Make a snapshot that is waiting to be frozen. The queue starts this."

    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("snapshot", type=int)

    def handle(self, *args: Any, **options: Any) -> None:
        # Rows hold no cycles; looking for them costs a tenth of the time.
        gc.set_threshold(100_000)
        snapshot = Snapshot.objects.filter(pk=options["snapshot"]).first()
        if snapshot is None or snapshot.state != Snapshot.State.FREEZING:
            return
        try:
            exporting.complete(snapshot)
        except (ExportError, StorageError) as error:
            exporting.fail(snapshot, str(error))
            raise CommandError(str(error)) from error
        except Exception as error:
            # The person who waits for it should not wait for ever.
            exporting.fail(snapshot, f"{type(error).__name__}: {error}")
            raise
