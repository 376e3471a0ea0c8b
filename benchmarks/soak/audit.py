"""What must hold after the soak, read without the code that is tested."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.soak.site import Site, Sqlite

FINAL = {"succeeded", "stopped", "canceled", "failed"}
ACCEPTED = {"succeeded", "stopped"}
DRAFT = re.compile(r"\.part$|^freezing-|^\..+\.[0-9a-f]{32}$")


@dataclass
class Finding:
    """What the audit has counted, and what it holds against the site."""

    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    states: dict[int, str] = field(default_factory=dict)
    """What became of each run."""


def audit(site: Site, killed: set[str], disk_was_full: bool) -> Finding:
    """`killed`: the attempts whose trainers the soak itself has killed."""
    found = Finding()
    with rows_of(site) as read:
        run_rows = read("SELECT id, state, fence, uri, error FROM training_run")
        attempts = read(
            "SELECT a.run_id, a.fence, a.state, w.host FROM training_attempt a"
            " JOIN training_worker w ON w.id = a.worker_id ORDER BY a.run_id, a.fence"
        )
        events = read("SELECT run_id, kind FROM training_runevent ORDER BY id")
        taken = read("SELECT id FROM training_gpuslot WHERE attempt_id IS NOT NULL")
    found.counts["runs"] = len(run_rows)
    found.counts["attempts"] = len(attempts)
    found.problems += [f"slot {slot} is still taken" for (slot,) in taken]
    of_run: dict[int, list[Any]] = defaultdict(list)
    kinds: dict[int, Counter[str]] = defaultdict(Counter)
    for run, *attempt in attempts:
        of_run[run].append(attempt)
    for run, kind in events:
        kinds[run][kind] += 1
    for run, state, fence, uri, error in run_rows:
        found.states[run] = state
        found.counts[f"runs {state}"] += 1
        problems = [
            *look_at_run(state, fence, of_run[run], kinds[run]),
            *look_at_artefacts(site, run, state, fence, uri),
        ]
        if state == "failed":
            told = json.loads(error) if isinstance(error, str) else error
            found.counts[f"failed: {(told or {}).get('class')}"] += 1
            problems += look_at_failure(
                told or {}, run, of_run[run], kinds[run], killed, disk_was_full
            )
        found.problems += [f"run {run} ({state}): {problem}" for problem in problems]
    look_at_journal(site, found)
    look_for_drafts(site, found)
    return found


def look_at_run(
    state: str, fence: int, attempts: list[Any], kinds: Counter[str]
) -> Iterator[str]:
    states = Counter(attempt_state for _, attempt_state, _ in attempts)
    accepted = kinds["succeeded"] + kinds["stopped"]
    if state not in FINAL:
        yield "it has not ended"
    if accepted != (state in ACCEPTED):
        yield f"accepted {accepted} times"
    if states["succeeded"] + states["stopped"] != accepted:
        yield f"its attempts say {dict(states)}"
    if [number for number, _, _ in attempts] != list(range(1, fence + 1)):
        yield f"fence {fence}, but attempts {attempts}"
    if states["running"]:
        yield "an attempt runs for ever"


def look_at_failure(
    error: dict[str, Any],
    run: int,
    attempts: list[Any],
    kinds: Counter[str],
    killed: set[str],
    disk_was_full: bool,
) -> Iterator[str]:
    message, name = error.get("message") or "", error.get("class")
    if not re.fullmatch(r"\w.{10,}\.", message, re.DOTALL):
        yield f"no sentence: {message!r}"
    _, _, host = attempts[-1] if attempts else (0, "", "")
    last = f"{host}/runs/{run}/attempt-{len(attempts)}"
    lost = sum(attempt_state == "lost" for _, attempt_state, _ in attempts)
    explained = {
        "Killed": last in killed,
        "Lost": lost >= 3 or kinds["stop_asked"] > 0,
        "DiskFull": disk_was_full,
    }
    if not explained.get(str(name), False):
        yield f"nobody did that: {error}"


def look_at_artefacts(
    site: Site, run: int, state: str, fence: int, uri: str
) -> Iterator[str]:
    """The accepted tree is whole, and no other tree of the run is left."""
    folder = site.folder / "store" / "runs" / str(run)
    others = {path.name for path in folder.glob("*")}
    if state == "succeeded":
        expected = f"attempt-{fence}"
        if uri != f"store:runs/{run}/{expected}":
            yield f"its address is {uri!r}"
            return
        yield from torn(folder / expected)
        others.discard(expected)
    elif uri:
        yield from torn(folder / uri.rpartition("/")[2])
        others.discard(uri.rpartition("/")[2])
    if others:
        yield f"left in the store: {sorted(others)}"


def torn(tree: Path) -> Iterator[str]:
    try:
        files = json.loads((tree / "manifest.json").read_text())["files"]
        for name, wanted in files.items():
            raw = (tree / name).read_bytes()
            if hashlib.sha256(raw).hexdigest() != wanted["sha256"]:
                yield f"{name} is not what its manifest says"
        if not files:
            yield "its artefacts are empty"
    except (OSError, ValueError, KeyError) as error:
        yield f"its artefacts are torn: {error}"


def look_at_journal(site: Site, found: Finding) -> None:
    begun: Counter[str] = Counter()
    for raw in (site.folder / "journal.jsonl").read_text().splitlines():
        line = json.loads(raw)
        found.counts["trainers started"] += 1
        begun[line["attempt"]] += 1
        if not line["slot_was_free"]:
            found.problems.append(f"two trainers on one slot: {raw}")
        if not line["run_was_free"]:
            found.counts["computed twice at once, on two hosts"] += 1
    found.problems += [f"{a} was started {n} times" for a, n in begun.items() if n > 1]


def look_for_drafts(site: Site, found: Finding) -> None:
    folders = [
        site.folder / "store",
        *(Path(h.environment["DATA_DIR"]) for h in site.hosts),
    ]
    for folder in folders:
        for path in folder.rglob("*"):
            if DRAFT.search(path.name):
                found.problems.append(f"a draft is left: {path}")


@contextlib.contextmanager
def rows_of(site: Site) -> Iterator[Any]:
    database = site.database
    connection: Any = (
        sqlite3.connect(database.path)
        if isinstance(database, Sqlite)
        else psycopg.connect(database.url)
    )
    try:
        yield lambda query: connection.execute(query).fetchall()
    finally:
        connection.close()
