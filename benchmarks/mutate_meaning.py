"""Errors that leave every count right: does `make test` go red for each?

    python benchmarks/mutate_meaning.py [--only NAME]... [--list]

Makes the errors of benchmarks/mutations.py one at a time in a copy of the source, and
runs first the tests that are most likely to notice, then, as long as those are green,
every pytest command of `make test`, until one is red. Ends with 1 if an error survives.

Before any error is made, the likely tests must be green: a test that is always red
would notice nothing.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.mutation import ROOT, Mutation, mutated
from benchmarks.mutations import MUTATIONS

ENVIRONMENT = {
    "DATA_DIR": ".cache/test",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
LIKELY = "not browser and not gpu"
RED = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", re.MULTILINE)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", action="append", metavar="NAME", default=[])
    parser.add_argument("--list", action="store_true", help="name the errors, and end")
    options = parser.parse_args()
    known = {mutation.name: mutation for mutation in MUTATIONS}
    if unknown := [name for name in options.only if name not in known]:
        parser.error(f"{unknown[0]} is none of {', '.join(known)}.")
    chosen = [known[name] for name in options.only] or list(MUTATIONS)
    if options.list:
        for mutation in chosen:
            print(f"{mutation.name:34} {mutation.wrong}")
        return 0
    print_conditions()
    with tempfile.TemporaryDirectory() as folder:
        copy = copy_of_source(Path(folder))
        return judge(copy, chosen)


def print_conditions() -> None:
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    ).stdout.strip()
    load = os.getloadavg()[0]
    print(
        f"{os.cpu_count()} cores, load {load:.1f}, Python {platform.python_version()},"
        f" commit {commit}"
    )


def copy_of_source(folder: Path) -> Path:
    """Everything that git tracks or would; the environment and the data by link."""
    copy = folder / "source"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    for name in filter(None, listed.decode().split("\0")):
        source, target = ROOT / name, copy / name
        if source.is_file() and not source.is_symlink():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    (copy / ".venv").symlink_to((ROOT / ".venv").resolve())
    # The tests on real data find it beside the source.
    data = (ROOT / ".venv").resolve().parents[1] / "shared"
    if data.is_dir():
        (folder / "shared").symlink_to(data)
    return copy


def judge(copy: Path, mutations: Sequence[Mutation]) -> int:
    everything = commands_of_make_test(copy)
    started = time.monotonic()
    tests = sorted({test for mutation in mutations for test in mutation.tests})
    if red := first_red(likely(tests), copy):
        print(f"Without any error {red} is red already: nothing can be shown.")
        return 1
    print(f"without any error: green, {time.monotonic() - started:.0f} s\n")
    print(f"{'error':34} {'s':>4}  red")
    survivors = []
    for mutation in mutations:
        started = time.monotonic()
        with made(mutation, copy):
            commands = [likely(mutation.tests), *everything]
            red = next(filter(None, (first_red(c, copy) for c in commands)), "")
        seconds = time.monotonic() - started
        print(f"{mutation.name:34} {seconds:4.0f}  {red or 'SURVIVED'}", flush=True)
        if not red:
            survivors.append(mutation)
    print(f"\n{len(mutations) - len(survivors)} of {len(mutations)} were noticed")
    for mutation in survivors:
        print(f"not noticed: {mutation.name}: {mutation.wrong}")
    return bool(survivors)


def commands_of_make_test(copy: Path) -> list[str]:
    """The pytest commands of the Makefile, with every variable filled in."""
    printed = subprocess.run(
        ["make", "--dry-run", "test"], cwd=copy, capture_output=True, text=True
    )
    # The list of errors is itself tested, and goes red for each: that proves nothing.
    commands = [
        f"{line} --ignore=tests/test_mutations.py"
        for line in printed.stdout.splitlines()
        if "-m pytest " in line
    ]
    if not commands:
        raise SystemExit(f"make test runs no pytest: {printed.stdout}{printed.stderr}")
    return commands


def likely(tests: Sequence[str]) -> str:
    words = " ".join(f"{name}={value}" for name, value in ENVIRONMENT.items())
    return (
        f"env -u DATABASE_URL {words} .venv/bin/python -m pytest -q "
        f'-p no:randomly -m "{LIKELY}" {" ".join(tests)}'
    )


def first_red(command: str, copy: Path) -> str:
    """The test that fails first under the command; nothing where all are green."""
    done = subprocess.run(
        ["/bin/bash", "-c", f"{command} -x --tb=line -rfE"],
        cwd=copy,
        capture_output=True,
        text=True,
    )
    if done.returncode == 0:
        return ""
    found = RED.search(done.stdout)
    # Anything but a failed test is an accident, and proves nothing.
    if done.returncode != 1 or found is None:
        raise SystemExit(f"{command}\n{done.stdout}\n{done.stderr}")
    return found[1]


@contextmanager
def made(mutation: Mutation, copy: Path) -> Iterator[None]:
    """The error is in the source, and gone again afterwards."""
    texts = mutated(mutation, copy)
    kept = copy.with_name("kept")
    for path in texts:
        (kept / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(copy / path, kept / path)
    try:
        for path, text in texts.items():
            (copy / path).write_text(text, encoding="utf-8")
        yield
    finally:
        # With their old times: compiled code is told apart by time and size alone.
        shutil.copytree(kept, copy, dirs_exist_ok=True)
        shutil.rmtree(kept)


if __name__ == "__main__":
    sys.exit(main())
