"""Run a command with DATABASE_URL set to a PostgreSQL that is really there.

    python tests/with_postgres.py COMMAND...

Uses TEST_DATABASE_URL; else a server on localhost that lets us in; else one started
for the occasion from installed binaries; else, as root on Debian, installs them
first. Fails rather than skips: a green run means that PostgreSQL was tested.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

LOCAL_URL = "postgres://postgres@127.0.0.1:5432/postgres"


def main(command: list[str]) -> int:
    with reachable_url() as url:
        print(f"PostgreSQL {server_version(url)}", flush=True)
        return subprocess.run(
            command, env={**os.environ, "DATABASE_URL": url}
        ).returncode


@contextmanager
def reachable_url() -> Iterator[str]:
    if given := os.environ.get("TEST_DATABASE_URL"):
        yield given
    elif server_version(LOCAL_URL):
        yield LOCAL_URL
    else:
        with own_server() as url:
            yield url


def server_version(url: str) -> str:
    """'' if nobody answers there or lets us in."""
    try:
        with psycopg.connect(url, connect_timeout=3) as connection:
            return f"{connection.info.server_version // 10_000}"
    except psycopg.OperationalError:
        return ""


@contextmanager
def own_server() -> Iterator[str]:
    binaries = find_binaries() or install_binaries()
    # The server refuses to run as root.
    user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    with tempfile.TemporaryDirectory() as folder:
        shutil.chown(folder, user)
        data, port = f"{folder}/data", "54329"

        def run(program: str, *arguments: str) -> None:
            subprocess.run(
                [binaries / program, *arguments],
                check=True,
                stdout=subprocess.DEVNULL,
                user=user if os.geteuid() == 0 else None,
                cwd=folder,
            )

        run("initdb", "-D", data, "-U", "postgres", "--auth", "trust", "--no-sync")
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        run("pg_ctl", "-D", data, "-w", "-l", f"{folder}/log", "-o", options, "start")
        try:
            yield f"postgres://postgres@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")


def find_binaries() -> Path | None:
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


def install_binaries() -> Path:
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        sys.exit(
            "No PostgreSQL to test with: set TEST_DATABASE_URL, start one on "
            "127.0.0.1:5432, or install its server package."
        )
    subprocess.run(["apt-get", "update", "-qq"], check=True)
    subprocess.run(["apt-get", "install", "-y", "-qq", "postgresql"], check=True)
    binaries = find_binaries()
    if binaries is None:
        sys.exit("PostgreSQL was installed, but its initdb was not found.")
    return binaries


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
