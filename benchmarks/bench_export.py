"""A million responses and judgments go out: rate, memory, and the judge's waiting.

    python benchmarks/bench_export.py [--rows 1000000] [--database sqlite|postgres]

`manage.py export_dataset` freezes ROWS judgments of ROWS responses in ROWS/2 tasks for
DPO, stores the files and writes them to a folder, from the start of the process to its
end, while somebody judges in the same project. The baseline reads the same columns:
every judgment with its task, its prompt and its two responses, 5,000 at a time by
keyset, with the database's own driver, and does nothing with them.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import bulk

COLUMNS = """
    j.id, j.source, j.verdict, j.surplus, j.judge_name, j.annotator_id, j.shown_left,
    t.id, t.status, t.repeat_of_id, p.id, p.content_hash, p.messages,
    a.id, a.content_hash, a.model_name, a.text,
    b.id, b.content_hash, b.model_name, b.text
"""


def main() -> None:
    options = bulk.arguments(__doc__ or "")
    for kind in options.database:
        measure(kind, options.rows)
    bulk.print_conditions("after")


def measure(kind: str, n_rows: int) -> None:
    bulk.print_conditions(f"export, {kind}")
    with bulk.database(kind) as environment:
        bulk.child(environment, __file__, "fill", n_rows // 2)
        bulk.prepare(environment)
        bare = bulk.child(environment, __file__, "read")
        out = Path(environment["DATA_DIR"], "out")
        found = bulk.watch(
            environment,
            ["export_dataset", "bench", "--for", "dpo", "--out", str(out)],
        )
        facts = json.loads((out / "snapshot.json").read_text())
    if facts["statistics"]["sources"]["imported"] != n_rows:
        sys.exit(f"{facts['statistics']} of {n_rows} judgments")
    print(
        f"{facts['n_judgments']:,} judgments, {sum(facts['rows'].values()):,} rows for"
        f" DPO, {sum(file['bytes'] for file in facts['files']) / 1e6:,.0f} MB"
    )
    bulk.print_watched(found, n_rows, bare)


def read() -> dict[str, float]:
    from django.db import connection

    mark = "?" if connection.vendor == "sqlite" else "%s"
    query = f"""
        SELECT {COLUMNS} FROM labelhub_judgment j
        JOIN labelhub_task t ON t.id = j.task_id
        JOIN labelhub_prompt p ON p.id = t.prompt_id
        JOIN labelhub_response a ON a.id = t.response_a_id
        LEFT JOIN labelhub_response b ON b.id = t.response_b_id
        WHERE j.project_id = 1 AND j.superseded_by_id IS NULL AND j.id > {mark}
        ORDER BY j.id LIMIT {bulk.PAGE}
    """
    n_rows, last, started = 0, 0, time.perf_counter()
    while rows := connection.connection.execute(query, (last,)).fetchall():
        n_rows += len(rows)
        last = rows[-1][0]
    return {"rows": n_rows, "seconds": time.perf_counter() - started}


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["fill", n_pairs]:
            bulk.set_up_django()
            print(json.dumps(bulk.write_bare(int(n_pairs))))
        case ["read"]:
            bulk.set_up_django()
            print(json.dumps(read()))
        case _:
            main()
