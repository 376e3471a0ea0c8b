"""What the web process costs: time to the first answer, memory, growth, imports.

    python benchmarks/bench_web_process.py [--quick]

Starts `manage.py start --only web` on a fresh SQLite database with the sample project,
and in turn a Django project of one view and no middleware under the same granian.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from conditions import ROOT, aim, conditions

ML = {"torch", "transformers", "trl", "datasets", "peft", "accelerate"}
NUMBERS = {"pyarrow", "numpy", "pandas", "scipy", "sklearn", "IPython"}
REQUESTS = 1000
PAGES = ("", "imports/", "members/", "judge/history/", "snapshots/", "runs/")
IMPORTS = "import labelhub.wsgi, labelhub.urls"
BARE = """
from django.conf import settings
settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"], ROOT_URLCONF="bare", SECRET_KEY="bare", MIDDLEWARE=[]
)
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

urlpatterns = [path("healthz", lambda request: HttpResponse("ok"))]
application = get_wsgi_application()
"""


@dataclass
class Started:
    """A server that has just answered for the first time."""

    pid: int
    seconds: float
    cpu: float
    megabytes: float


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--quick", action="store_true", help="2 starts, 100 requests")
    quick = options.parse_args().quick
    starts, requests = (2, 100) if quick else (7, REQUESTS)
    with conditions("SQLite"), tempfile.TemporaryDirectory() as name:
        world = Path(name)
        (world / "bare.py").write_text(BARE)
        environment = site_environment(world)
        manage(environment, "migrate", "--verbosity", "0")
        manage(environment, "create_sample_project")
        session = manage(
            environment, "shell", "--verbosity", "0", "-c", LOG_IN
        ).splitlines()[-1]
        compare_starts(world, environment, starts)
        memory_of_requests(environment, session, requests)
        imports(environment)


# --- Starting -----------------------------------------------------------------


def compare_starts(world: Path, environment: dict[str, str], starts: int) -> None:
    ours, bare = [], []
    for _ in range(starts):
        with serving(site_command(), ROOT, environment) as (_, started):
            ours.append(started)
        with serving(bare_command(), world, dict(os.environ)) as (_, started):
            bare.append(started)
    print(f"\n{'median of ' + str(starts) + ' starts':<34} {'ours':>8} {'bare':>8}")
    for name, label in (
        ("seconds", "seconds to the first answer"),
        ("cpu", "CPU seconds to the first answer"),
        ("megabytes", "private memory then, MB"),
    ):
        mine = statistics.median(getattr(one, name) for one in ours)
        theirs = statistics.median(getattr(one, name) for one in bare)
        print(f"{label:<34} {mine:>8.2f} {theirs:>8.2f}   ratio {mine / theirs:.2f}")


def site_command() -> list[str]:
    return [sys.executable, "manage.py", "start", "--only", "web"]


def bare_command() -> list[str]:
    # The options of training.starting.Web.
    return [
        *(sys.executable, "-m", "granian", "--interface", "wsgi"),
        *("--host", "127.0.0.1", "--workers", "1", "--blocking-threads", "2"),
        *("--log-level", "warning", "--no-ws", "bare:application"),
    ]


@contextmanager
def serving(
    command: list[str], folder: Path, environment: dict[str, str]
) -> Iterator[tuple[int, Started]]:
    """The port of a server that answers, and what it took to come so far."""
    port, began = free_port(), time.perf_counter()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            wait_for_answer(process, port)
            seconds = time.perf_counter() - began
            found = family(process.pid)
            cpu = sum(sum(one.cpu_times()[:2]) for one in found)
            yield port, Started(process.pid, seconds, cpu, private_mb(process.pid))
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for_answer(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            if get(port, "/healthz") == 200:
                return
        except OSError:
            time.sleep(0.01)
    raise SystemExit("The server does not answer.")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def family(pid: int) -> list[psutil.Process]:
    first = psutil.Process(pid)
    return [first, *first.children(recursive=True)]


def private_mb(pid: int) -> float:
    """Memory that no other process shares, of a server and its workers."""
    return sum(one.memory_full_info().uss for one in family(pid)) / 1e6


# --- Serving ------------------------------------------------------------------


def memory_of_requests(
    environment: dict[str, str], session: str, requests: int
) -> None:
    with serving(site_command(), ROOT, environment) as (port, started):
        measured = [started.megabytes]
        for _ in range(3):
            for number in range(requests):
                page = f"/projects/sample/{PAGES[number % len(PAGES)]}"
                status = get(port, page, session)
                if status != 200:
                    raise SystemExit(f"{page} answered {status}.")
            measured.append(private_mb(started.pid))
        mapped = "".join(
            Path(f"/proc/{one.pid}/maps").read_text() for one in family(started.pid)
        )
    told = ", ".join(f"{megabytes:.1f}" for megabytes in measured)
    print(
        f"\nprivate MB after 0, {requests}, {2 * requests}, {3 * requests} requests to"
    )
    print(f"{len(PAGES)} pages: {told}")
    growth = measured[-1] - measured[-2]
    aim(f"the last {requests} add at most 2 MB ({growth:+.1f})", growth <= 2)
    loaded = {name for name in ML | NUMBERS if f"/{name}/" in mapped}
    aim(f"none of {', '.join(sorted(ML))} is loaded", not loaded & ML)


def get(port: int, page: str, session: str = "") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", page, headers={"Cookie": f"sessionid={session}"})
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


# --- Importing ----------------------------------------------------------------


def imports(environment: dict[str, str]) -> None:
    """The dearest packages, and that none is there that the web does not need."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", f"{IMPORTS}; {NAME_MODULES}"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    modules = set(json.loads(done.stdout))
    packages: Counter[str] = Counter()
    for own, name in re.findall(r"import time: +(\d+) \| +\d+ \| +(\S+)", done.stderr):
        packages[name.partition(".")[0]] += int(own)
    print(
        f"\n{len(modules)} modules; the ten dearest packages, their own milliseconds:"
    )
    print(", ".join(f"{name} {us / 1000:.0f}" for name, us in packages.most_common(10)))
    found = sorted((ML | NUMBERS) & {name.partition(".")[0] for name in modules})
    aim(f"no {', '.join(sorted(ML | NUMBERS))}", not found)


NAME_MODULES = "import json, sys; print(json.dumps(sorted(sys.modules)))"
LOG_IN = """
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from labelhub.models import User
admin, session = User.objects.get(username="admin"), SessionStore()
session[SESSION_KEY] = str(admin.pk)
session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
session[HASH_SESSION_KEY] = admin.get_session_auth_hash()
session.create()
print(session.session_key)
"""


def site_environment(world: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    return kept | {"DATA_DIR": str(world / "var"), "OMP_NUM_THREADS": "1"}


def manage(environment: dict[str, str], *words: str) -> str:
    return subprocess.run(
        [sys.executable, "manage.py", *words],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout


if __name__ == "__main__":
    main()
