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
        parser.add_argument("--threads", type=int, default=4, help="of the web server")

    def handle(self, *args: Any, **options: Any) -> None:
        # The web keeps nothing to save, and granian was seen to hang at a SIGTERM once
        # its starter had died. The others have a goodbye to say.
        is_web = options["only"] == "web"
        starting.end_with_parent(signal.SIGKILL if is_web else signal.SIGTERM)
        host, port, threads = options["host"], options["port"], options["threads"]
        try:
            match options["only"]:
                case "web":
                    starting.serve_web(host, port, threads)
                case "queue":
                    self._run(QueueKeeper())
                case "gpu":
                    self._run(Agent())
                case _:
                    self._run_all(host, port, threads)
        except (starting.CannotStart, AgentRuns) as error:
            raise CommandError(str(error)) from None

    def _run_all(self, host: str, port: int, threads: int) -> None:
        starting.check_port(host, port)
        shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104
        self.stdout.write(
            f"LabelHub is on http://{shown}:{port}\n"
            "Ctrl-C stops it, and lets running training save first."
        )
        words = ["--host", host, "--port", str(port), "--threads", str(threads)]
        self._run(starting.Household(words, sys.stdout))

    def _run(self, part: Stoppable) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, part.stop)
        part.run()
