"""How long `check_integrity` takes and how much memory, at two sizes of a project.

    python benchmarks/bench_integrity.py [--database postgres] [--tasks 1000000]

Every task was judged once. Aim: a minute for a million tasks, and at ten times the size
at most 1.5 times the memory.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import time

import psutil
from big_site import DATABASES, ROOT, Site, conditions, fresh_site


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--database", choices=DATABASES, default="sqlite")
    parser.add_argument("--tasks", type=int, default=1_000_000)
    options = parser.parse_args()
    print(conditions(options.database))
    figures = []
    for tasks in (options.tasks // 10, options.tasks):
        with fresh_site(options.database) as site:
            site.seed(tasks=tasks, annotators=20, judged=tasks // 20)
            seconds, megabytes = measured(site)
        print(f"{tasks:,} tasks: {seconds:.1f} s, {megabytes:.0f} MB")
        figures.append((seconds, megabytes))
    print(conditions(options.database))
    ratio = figures[1][1] / figures[0][1]
    is_met = ratio <= 1.5 and figures[1][0] * 1_000_000 / options.tasks <= 60
    print(f"Memory: ratio {ratio:.2f}. The aim is {'' if is_met else 'not '}met.")
    return not is_met


def measured(site: Site) -> tuple[float, float]:
    """Seconds, and the peak of private memory: what SQLite maps is the file itself.

    Seconds of CPU on SQLite. PostgreSQL's own end unread with the backend that spent
    them, so there it is the clock, which a busy machine makes longer.
    """
    started, peak, seconds = time.monotonic(), 0, 0.0
    child = subprocess.Popen(
        [sys.executable, "manage.py", "check_integrity"],
        cwd=ROOT,
        env=site.environment,
    )
    process = psutil.Process(child.pid)
    while child.poll() is None:
        with contextlib.suppress(psutil.Error):
            peak = max(peak, process.memory_full_info().uss)
            seconds = sum(process.cpu_times()[:2])
        time.sleep(0.05)
    if child.returncode:
        sys.exit("check_integrity found something.")
    if site.database == "postgres":
        seconds = time.monotonic() - started
    return seconds, peak / 2**20


if __name__ == "__main__":
    sys.exit(main())
