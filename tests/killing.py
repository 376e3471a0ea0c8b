"""Striking between any two statements of what somebody does."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable
from typing import Any

from django.db import connection, connections


def dies_at(step: int, act: Callable[[], object]) -> bool:
    """Do it in a child that is killed at this step; False if it ends before.

    The child is forked from a warm parent, for a start of Django each time would cost
    a second. It dies by SIGKILL: no `finally`, no rollback, no goodbye.
    """
    leave_the_database()
    child = os.fork()
    if child == 0:
        try:
            strike_at(step, lambda: os.kill(os.getpid(), signal.SIGKILL), act)
        except BaseException:  # noqa: BLE001 (nothing of pytest may run in the child)
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, "the child failed before it was killed"
    return False


def leave_the_database() -> None:
    """A connection that two processes share would be closed by either of them."""
    connections.close_all()
    if connection.vendor == "postgresql":
        connection.close_pool()  # type: ignore[attr-defined]


def strike_at(step: int, blow: Callable[[], object], act: Callable[[], object]) -> None:
    """Do it, and strike at this step, if it has so many.

    Steps are: before each statement, before each COMMIT, after it, and at the very
    end, when all is done and nobody has been told.
    """
    left = step
    commit = connection._commit  # type: ignore[attr-defined]

    def pass_step() -> None:
        nonlocal left
        left -= 1
        if not left:
            blow()

    def before_statement(execute: Callable[..., Any], *call: Any) -> Any:
        pass_step()
        return execute(*call)

    def around_commit() -> None:
        pass_step()
        commit()
        pass_step()

    connection._commit = around_commit  # type: ignore[attr-defined]
    try:
        with connection.execute_wrapper(before_statement):
            act()
        pass_step()
    finally:
        connection._commit = commit  # type: ignore[attr-defined]
