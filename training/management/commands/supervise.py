"""manage.py supervise RUN FENCE: own one attempt. Started by the agent, not by hand."""

from __future__ import annotations

import signal
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from training.models import Attempt
from training.supervisor import Supervisor, persist


class Command(BaseCommand):
    help = "Own one attempt of a run until it ends. The agent of the host starts this."

    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("run", type=int)
        parser.add_argument("fence", type=int)

    def handle(self, *args: Any, **options: Any) -> None:
        found = Attempt.objects.select_related(
            "run__snapshot", "worker", "slot"
        ).filter(run=options["run"], fence=options["fence"])
        attempt = persist(found.first)
        if attempt is None:
            raise CommandError(
                f"Run {options['run']} has no attempt {options['fence']}."
            )
        supervisor = Supervisor(attempt)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, supervisor.go_down)
        supervisor.supervise()
