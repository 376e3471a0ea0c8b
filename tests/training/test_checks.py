"""A queue that would break the promises is refused before it starts."""

from __future__ import annotations

import pytest
from django.conf import settings as real
from django.core.checks import run_checks


def problems() -> set[str]:
    return {message.id for message in run_checks() if "training." in str(message.id)}


def test_our_own_settings_are_fine():
    assert problems() == set()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"timeout": None}, "training.E001"),
        ({"retry": 60}, "training.E001"),
        ({"queue_limit": 50}, "training.E001"),
        ({"ack_failures": False}, "training.E002"),
        ({"max_attempts": 0}, "training.E002"),
        ({"orm": None, "redis": {}}, "training.E003"),
    ],
)
def test_it_refuses_a_queue_that_runs_things_twice(settings, change, problem):
    settings.Q_CLUSTER = {**real.Q_CLUSTER, **change}
    assert problems() == {problem}
