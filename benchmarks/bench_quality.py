"""Agreement over three million judgments: time, CPU and memory, in the background.

    python benchmarks/bench_quality.py [--judgments 3000000] [--database KIND...]

Sixty people judge pairs of six models, three a task, five tasks a prompt. `agreement`
is reading all columns and every coefficient with its interval; `report` is all that
`manage.py quality` says: people, reliability, bias and the leaderboard with its
bootstrap. The baseline streams the same judgments as tuples, in the order of tasks, and
counts raw agreement alone. The aim is agreement under 10 s in PostgreSQL.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from itertools import groupby
from typing import Any

import bulk
from conditions import aim, conditions

MOST_SECONDS = 10.0
A_TASK = 3


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--judgments", type=int, default=3_000_000)
    parser.add_argument(
        "--database", nargs="+", default=["postgres", "sqlite"], metavar="KIND"
    )
    options = parser.parse_args()
    met = True
    for kind in options.database:
        with conditions(kind), bulk.database(kind) as environment:
            bulk.child(environment, __file__, "fill", options.judgments // A_TASK)
            found = {}
            for what in ("baseline", "agreement", "report"):
                cost = found[what] = bulk.child(environment, __file__, what)
                print(
                    f"{what:<10} {cost['seconds']:6.1f} s, {cost['cpu']:6.1f} s of CPU,"
                    f" {cost['mb']:5.0f} MB, {cost['n']:,} judgments",
                    flush=True,
                )
            ratio = found["baseline"]["seconds"] / found["agreement"]["seconds"]
            print(f"the baseline takes {ratio:.1f} times as long as agreement")
            if kind == "postgres":
                is_met = found["agreement"]["seconds"] < MOST_SECONDS
                aim(f"agreement under {MOST_SECONDS:.0f} s", is_met)
                met &= is_met
    return 0 if met else 1


def fill(n_tasks: int) -> dict[str, Any]:
    from django.db import connection

    from labelhub.models import Project

    Project.objects.create(pk=1, name="Bench", slug="bench", kind="pairwise")
    is_postgres = connection.vendor == "postgresql"

    def numbers(n: int) -> str:
        if is_postgres:
            return f"generate_series(1::bigint, {n}) AS s(k)"
        return (
            "(WITH RECURSIVE s(k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM s"
            f" WHERE k < {n}) SELECT k FROM s) AS s"
        )

    false = "false" if is_postgres else "0"
    model = "((k + (k / 6) % 5 * {side} + {side}) % 6)"
    a, b = model.format(side=0), model.format(side=1)
    dice = "((k * 2654435761 / 65536 + j * 40503) % 100)"
    text = "substr('" + "word " * 80 + "', 1, CAST(40 + ({k}) * 37 % 360 AS integer))"
    statements = [
        f"INSERT INTO labelhub_prompt (id, project_id, messages, external_id,"
        f" content_hash, metadata) SELECT k, 1, '[]', '', CAST(k AS varchar(64)),"
        f" '{{}}' FROM {numbers(n_tasks // 5 + 1)}",
        *(
            f"INSERT INTO labelhub_response (id, prompt_id, text, model_name, sampling,"
            f" external_id, content_hash, is_demonstration) SELECT 2 * k - 1 + {side},"
            f" k / 5 + 1, {text.format(k=f'k + {side}')}, 'model ' || {which},"
            f" '{{}}', '', CAST(2 * k + {side} AS varchar(64)), {false}"
            f" FROM {numbers(n_tasks)}"
            for side, which in ((0, a), (1, b))
        ),
        f"INSERT INTO labelhub_task (id, project_id, prompt_id, response_a_id,"
        f" response_b_id, priority, shuffle_key, n_required, n_done, n_leased, status)"
        f" SELECT k, 1, k / 5 + 1, 2 * k - 1, 2 * k, 0, 0.5, 3, 0, 0, 'open'"
        f" FROM {numbers(n_tasks)}",
        f"INSERT INTO labelhub_judgment (project_id, task_id, source, verdict,"
        f" judge_name, external_id, revision, surplus, shown_left, note, seconds)"
        f" SELECT 1, k, 'imported', CASE WHEN {dice} < 12 THEN 'tie' WHEN {dice} <"
        f" 56 + 6 * ({b} - {a}) THEN 'a' ELSE 'b' END, 'person ' ||"
        f" ((k * 31 + j * 17) % 60), '', 1, {false}, CASE WHEN (k + j) % 2 = 0 THEN 'a'"
        f" ELSE 'b' END, '', 20 + {dice} FROM {numbers(n_tasks)},"
        f" (SELECT 0 AS j UNION SELECT 1 UNION SELECT 2) AS judges",
        "ANALYZE",
    ]
    with connection.cursor() as cursor:
        if is_postgres:
            # Keys are right by the way they are made; checking each takes minutes.
            cursor.execute("SET session_replication_role = replica")
        for statement in statements:
            cursor.execute(statement)
    return {}


def baseline() -> int:
    from labelhub.models import Judgment
    from labelhub.quality.agreement import agreement

    n = 0

    def units() -> Any:
        nonlocal n
        rows = (
            Judgment.objects.standing()
            .filter(project=1)
            .order_by("task_id")
            .values_list("task__prompt_id", "task_id", "judge_name", "verdict")
        )
        for (prompt, _), judged in groupby(rows.iterator(), key=lambda row: row[:2]):
            said = [verdict for *_, verdict in judged]
            n += len(said)
            yield prompt, said

    agreement(units())
    return n


def agreement_of_all() -> int:
    import numpy as np

    from labelhub.columns import read_judgments
    from labelhub.models import Project
    from labelhub.quality.arrays import Judged
    from labelhub.quality.coefficients import coefficients

    read = read_judgments(Project.objects.get(pk=1))
    columns = ("prompt", "task", "judge", "verdict")
    judged = Judged.of(*(np.asarray(read.rows[name]) for name in columns))
    coefficients(judged, len(read.judges))
    return len(judged)


def report() -> int:
    from labelhub.measuring import measure
    from labelhub.models import Project

    found = measure(Project.objects.get(pk=1))
    return int(found["imported"]["n_judgments"])


def timed(work: Any) -> dict[str, float]:
    started, cpu = time.perf_counter(), time.process_time()
    n = work()
    return {
        "n": n,
        "seconds": time.perf_counter() - started,
        "cpu": time.process_time() - cpu,
        "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["fill", n_tasks]:
            bulk.set_up_django()
            print(json.dumps(fill(int(n_tasks))))
        case ["baseline"]:
            bulk.set_up_django()
            print(json.dumps(timed(baseline)))
        case ["agreement"]:
            bulk.set_up_django()
            print(json.dumps(timed(agreement_of_all)))
        case ["report"]:
            bulk.set_up_django()
            print(json.dumps(timed(report)))
        case _:
            sys.exit(main())
