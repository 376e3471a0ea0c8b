"""A million responses and judgments come in: rate, memory, and the judge's waiting.

    python benchmarks/bench_import.py [--rows 1000000] [--database sqlite|postgres]

`manage.py import_data` reads a JSONL file of ROWS preferences (ROWS judgments of ROWS
responses in ROWS/2 tasks on ROWS/10 prompts), from the start of the process to its end,
while somebody judges in the same project. The baseline writes the same columns of as
many rows into another migrated database with executemany or COPY, 5,000 pairs a
transaction, timing nothing but that; nobody judges meanwhile. Beside it stands what a
bare loader takes, which also decodes every line once and hashes its three texts.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import bulk


def main() -> None:
    options = bulk.arguments(__doc__ or "")
    n_pairs = options.rows // 2
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "preferences.jsonl")
        bulk.write_file(path, n_pairs)
        print(f"{options.rows:,} rows, {path.stat().st_size / 1e6:,.0f} MB")
        for kind in options.database:
            measure(kind, path, n_pairs)
    bulk.print_conditions("after")


def measure(kind: str, path: Path, n_pairs: int) -> None:
    bulk.print_conditions(f"import, {kind}")
    with bulk.database(kind) as environment:
        bare = bulk.child(environment, __file__, "bare", n_pairs)
    with bulk.database(kind) as environment:
        bulk.manage(
            environment,
            *("create_project", "bench", "--kind", "pairwise"),
            *("--judgments-per-task", "3"),
        )
        bulk.prepare(environment)
        found = bulk.watch(environment, ["import_data", "bench", str(path)])
        made = bulk.child(environment, __file__, "count")
        decoded = bulk.child(environment, __file__, "decode", path)
    expected = [bare["rows"], 2 * n_pairs]
    if [made["rows"], made["judgments"]] != expected:
        sys.exit(f"{made} were made, and {expected} expected")
    bulk.print_watched(found, made["rows"], bare)
    loader = bare["seconds"] + decoded["seconds"]
    print(f"  beside  {loader / found.seconds:.2f} of the rate of a bare loader")


def count() -> dict[str, int]:
    from labelhub.models import ImportBatch

    counts = ImportBatch.objects.order_by("-pk")[0].counts
    names = ("prompts", "responses", "tasks", "judgments")
    return {
        "rows": sum(counts[name] for name in names),
        **{n: counts[n] for n in names},
    }


def decode(path: Path) -> dict[str, float]:
    started = time.perf_counter()
    with path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            for column in ("prompt", "chosen", "rejected"):
                bulk.digest(row[column])
    return {"seconds": time.perf_counter() - started}


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["bare", n_pairs]:
            bulk.set_up_django()
            print(json.dumps(bulk.write_bare(int(n_pairs))))
        case ["count"]:
            bulk.set_up_django()
            print(json.dumps(count()))
        case ["decode", path]:
            print(json.dumps(decode(Path(path))))
        case _:
            main()
