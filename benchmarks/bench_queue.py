"""From pressing Launch to the trainer's first word, with the doorbell and without.

    python benchmarks/bench_queue.py [--quick] [--runs N]

Starts the queue and the agent as `manage.py start` does, on a fresh SQLite database (or
on the one that DATABASE_URL names, which must be empty), and launches runs one after
another, of the trainer that the tests fake. Then the same with the agent alone, which
looks every two seconds: that is what a lost doorbell costs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from conditions import ROOT, aim, conditions

WAIT_SECONDS = 120
MARKS = ("claimed", "trainer started", "accepted")


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--runs", type=int, default=20)
    options.add_argument("--quick", action="store_true", help="3 runs of each kind")
    given = options.parse_args()
    runs = 3 if given.quick else given.runs
    database = "PostgreSQL" if "DATABASE_URL" in os.environ else "SQLite"
    with conditions(database), tempfile.TemporaryDirectory() as name:
        environment = {
            **os.environ,
            "DATA_DIR": str(Path(name, "var")),
            "DJANGO_SETTINGS_MODULE": "tests.training.fake_settings",
            "PYTHONPATH": str(ROOT),
            "CUDA_VISIBLE_DEVICES": "",
        }
        subprocess.run(
            [sys.executable, "manage.py", "migrate", "--verbosity", "0"],
            cwd=ROOT,
            env=environment,
            check=True,
        )
        for parts in (("gpu", "queue"), ("gpu",)):
            with started(parts, environment):
                done = subprocess.run(
                    [sys.executable, __file__, "launch", str(runs)],
                    env=environment,
                    stdout=subprocess.PIPE,
                    check=True,
                )
            report(parts, json.loads(done.stdout.splitlines()[-1]))


def report(parts: tuple[str, ...], delays: list[dict[str, float]]) -> None:
    doorbell = "queue and agent" if "queue" in parts else "agent alone"
    print(f"\n{doorbell}, {len(delays)} runs: seconds from the launch to")
    for mark in MARKS:
        found = sorted(delay[mark] for delay in delays)
        p95 = found[min(len(found) - 1, round(0.95 * (len(found) - 1)))]
        print(f"  {mark:<16} p50 {statistics.median(found):6.2f}   p95 {p95:6.2f}")
    if "queue" in parts:
        claimed = statistics.median(delay["claimed"] for delay in delays)
        aim("half are claimed within a second", claimed <= 1)


@contextmanager
def started(parts: tuple[str, ...], environment: dict[str, str]) -> Iterator[None]:
    with tempfile.TemporaryFile() as log:
        processes = [
            subprocess.Popen(
                [sys.executable, "manage.py", "start", "--only", part],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=log,
            )
            for part in parts
        ]
        try:
            yield
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(timeout=WAIT_SECONDS)


# --- The process that launches --------------------------------------------------


def launch_all(n: int) -> None:
    from labelhub.models import Project
    from tests.builders import make_project
    from training.models import Worker

    until(lambda: Worker.objects.exclude(pid=0).exists())
    project = Project.objects.first() or make_project()
    launch(project)  # the first finds workers that are still starting
    print(json.dumps([launch(project) for _ in range(n)]))


def launch(project: Any) -> dict[str, float]:
    """Seconds from pressing Launch to each mark."""
    from training import runs
    from training.models import GpuSlot, Run

    config = {"algorithm": "dpo", "base_model": "org/tiny", "dataset_path": "org/pairs"}
    pressed = time.time()
    run = runs.launch(project, actor=None, name="seconds=0.1", config=config)
    until(lambda: Run.objects.filter(pk=run.pk, state__in=Run.FINAL).exists())
    run.refresh_from_db()
    if run.state != Run.State.SUCCEEDED:
        raise SystemExit(f"The run is {run.state}: {run.error}")
    attempt = run.attempts.get()
    first = json.loads(events_of(attempt).splitlines()[0])["time"]
    # The slot of the one before is free before the next is launched.
    until(lambda: not GpuSlot.objects.exclude(attempt=None).exists())
    return {
        "claimed": attempt.started_at.timestamp() - pressed,
        "trainer started": seconds(first) - pressed,
        "accepted": run.finished_at.timestamp() - pressed,
    }


def events_of(attempt: Any) -> str:
    from training import inputs

    return inputs.attempt_directory(attempt).events.read_text()


def seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()


def until(condition: Any) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("Nothing happened for two minutes.")
        time.sleep(0.05)


if __name__ == "__main__":
    if sys.argv[1:2] != ["launch"]:
        main()
    else:
        import django

        django.setup()
        launch_all(int(sys.argv[2]))
