"""Freezing ten times as many judgments takes hardly more memory.

    python benchmarks/bench_export.py [JUDGMENTS]

Fills an SQLite database with JUDGMENTS (1,000,000) and with a tenth of that, freezes
each for DPO in a process of its own, and prints the peak of private memory and their
ratio. Pages of the database file that SQLite maps (up to 128 MB) are not counted: the
kernel takes them back when it wants.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOW = "'2026-01-01 00:00:00'"


def main() -> None:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    small, large = measure(n // 10), measure(n)
    for found in (small, large):
        print(
            f"{found['judgments']:>9,} judgments, {found['rows']:,} rows: "
            f"{found['seconds']:.1f} s, peak {found['peak_mb']:.0f} MB"
        )
    print(f"memory ratio {large['peak_mb'] / small['peak_mb']:.2f}")


def measure(judgments: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "DATA_DIR": folder}
        environment.pop("DATABASE_URL", None)
        command = [sys.executable, __file__]
        subprocess.run([*command, "fill", str(judgments)], env=environment, check=True)
        done = subprocess.run(
            [*command, "freeze"], env=environment, check=True, stdout=subprocess.PIPE
        )
        return {"judgments": judgments, **json.loads(done.stdout)}


def fill(judgments: int) -> None:
    """Two votes a task, ten tasks a prompt, answers of about 300 characters."""
    from django.core.management import call_command
    from django.db import connection

    call_command("migrate", verbosity=0)
    tasks = judgments // 2
    prompts = max(1, tasks // 10)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO labelhub_project (id, name, slug, description, kind, status,"
            " judgments_per_task, lease_seconds, 'order', allow_tie, allow_both_bad,"
            " n_tasks, created_at) VALUES (1, 'P', 'p', '', 'pairwise', 'open', 2, 60,"
            f" 'random', 1, 1, 0, {NOW})"
        )
        for n, statement in (
            (
                prompts,
                "INSERT INTO labelhub_prompt (id, project_id, messages, external_id,"
                " content_hash, metadata, created_at) SELECT value, 1,"
                " json_array(json_object('role', 'user', 'content', 'What is ' ||"
                f" value)), '', printf('%064x', value), '{{}}', {NOW}",
            ),
            (
                2 * tasks,
                "INSERT INTO labelhub_response (id, prompt_id, text, model_name,"
                " sampling, external_id, content_hash, is_demonstration, created_at)"
                f" SELECT value, (value - 1) / 20 % {prompts} + 1,"
                " substr(hex(randomblob(150)), 1, 250 + value % 50),"
                " 'm' || (value % 4),"
                f" '{{}}', '', printf('%064x', value), 0, {NOW}",
            ),
            (
                tasks,
                "INSERT INTO labelhub_task (id, project_id, prompt_id, response_a_id,"
                " response_b_id, priority, shuffle_key, n_required, n_done, n_leased,"
                " status, created_at) SELECT value, 1,"
                f" (value - 1) / 10 % {prompts} + 1, 2 * value - 1, 2 * value,"
                f" 0, 0.5, 2, 2, 0, 'done', {NOW}",
            ),
            (
                2 * tasks,
                "INSERT INTO labelhub_judgment (id, project_id, task_id, source,"
                " verdict, judge_name, external_id, revision, surplus, shown_left,"
                " note, created_at) SELECT value, 1, (value + 1) / 2, 'imported',"
                " CASE value * 7 % 9 WHEN 0 THEN 'b' WHEN 1 THEN 'tie' ELSE 'a' END,"
                f" 'judge' || (value % 2), '', 1, 0, 'a', '', {NOW}",
            ),
        ):
            cursor.execute(
                "WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL"
                f" SELECT value + 1 FROM n WHERE value < {n}) {statement} FROM n"
            )


def freeze() -> None:
    from labelhub.models import Project
    from training import exporting
    from training.recipes import Recipe

    peak = 0.0

    def watch(phase: str, done: int, total: int) -> None:
        nonlocal peak
        peak = max(peak, private_mb())

    started = time.perf_counter()
    snapshot = exporting.freeze(
        Project.objects.get(), Recipe(algorithm="dpo"), progress=watch
    )
    facts = {
        "seconds": time.perf_counter() - started,
        "peak_mb": peak,
        "rows": snapshot.n_train + snapshot.n_eval,
    }
    print(json.dumps(facts))


def private_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    if sys.argv[1:2] not in (["fill"], ["freeze"]):
        main()
    else:
        sys.path.insert(0, str(ROOT))
        os.environ["DJANGO_SETTINGS_MODULE"] = "labelhub.settings"
        import django

        django.setup()
        freeze() if sys.argv[1] == "freeze" else fill(int(sys.argv[2]))
