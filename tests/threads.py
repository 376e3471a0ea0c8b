"""Doing things at the same moment, to see whether the database minds."""

from __future__ import annotations

import threading
from collections.abc import Callable

from django.db import connections


def at_once(*works: Callable[[], object]) -> None:
    """Do all of them together; raise what any of them raised."""
    failures: list[BaseException] = []
    start = threading.Barrier(len(works), timeout=30)

    def go(work: Callable[[], object]) -> None:
        try:
            start.wait()
            work()
        except BaseException as exc:  # noqa: BLE001 (raised again below)
            failures.append(exc)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=go, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
