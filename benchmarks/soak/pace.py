"""Waits of minutes, made short enough to be met a hundred times an hour."""

from __future__ import annotations

from datetime import timedelta

from django.apps import AppConfig

LEASE_SECONDS = 15.0
BEAT_SECONDS = 2.0
CANARY_SECONDS = 5.0


class Pace(AppConfig):
    name = "benchmarks.soak"
    label = "soak"

    def ready(self) -> None:
        from training import attempts, queueing, runs, supervisor

        runs.LEASE = attempts.LEASE = timedelta(seconds=LEASE_SECONDS)
        supervisor.BEAT_SECONDS = BEAT_SECONDS
        queueing.CANARY_SECONDS = CANARY_SECONDS
