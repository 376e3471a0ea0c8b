"""manage.py start: the web server, the queue and the GPU agent of this machine."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Any, Protocol

from django.core.management.base import BaseCommand, CommandError, CommandParser

from training import starting
from training.hosts import Agent, AgentRuns
from training.queueing import QueueKeeper


class Stoppable(Protocol):
    def run(self) -> None: ...
    def stop(self, number: int, frame: FrameType | None) -> None: ...


class Command(BaseCommand):
    help = "Start web, queue and GPU agent. Ctrl-C lets running training save first."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--only", choices=starting.PARTS, help="one of the three")
        parser.add_argument("--host", default="127.0.0.1", help="address of the web")
        parser.add_argument("--port", type=int, default=8000)
        parser.add_argument(
            "--processes",
            type=int,
            default=starting.web_processes(),
            help="of the web server; 1 on SQLite, 2 on PostgreSQL",
        )
        parser.add_argument("--threads", type=int, default=2, help="of each of them")

    def handle(self, *args: Any, **options: Any) -> None:
        # The web keeps nothing to save, and granian was seen to hang at a SIGTERM once
        # its starter had died. The others have a goodbye to say.
        is_web = options["only"] == "web"
        starting.end_with_parent(signal.SIGKILL if is_web else signal.SIGTERM)
        web = starting.Web(
            options["host"], options["port"], options["processes"], options["threads"]
        )
        try:
            match options["only"]:
                case "web":
                    web.serve()
                case "queue":
                    self._run(QueueKeeper())
                case "gpu":
                    self._run(Agent())
                case _:
                    self._run_all(web)
        except (starting.CannotStart, AgentRuns) as error:
            raise CommandError(str(error)) from None

    def _run_all(self, web: starting.Web) -> None:
        starting.check_port(web.host, web.port)
        is_everywhere = web.host in ("0.0.0.0", "::")  # noqa: S104
        shown = "127.0.0.1" if is_everywhere else web.host
        self.stdout.write(
            f"LabelHub is on http://{shown}:{web.port}\n"
            "Ctrl-C stops it, and lets running training save first."
        )
        self._run(starting.Household(web.options(), sys.stdout))

    def _run(self, part: Stoppable) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, part.stop)
        part.run()
