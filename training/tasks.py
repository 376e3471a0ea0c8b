"""What django-q2 calls. Each is a trigger of milliseconds, and safe to run twice."""

from __future__ import annotations

from django.conf import settings

from training import exporting, hosts, runs


def claim_runs() -> int:
    """Fill the free slots of this host. How many runs were started.

    A host without a living agent takes nothing: nobody would look after what dies.
    """
    worker = runs.alive_workers().filter(host=settings.WORKER_NAME).first()
    return len(hosts.claim_and_start(worker)) if worker else 0


def freeze_snapshot(snapshot_id: int) -> None:
    """Start the process that makes a snapshot; of two, one is accepted."""
    exporting.start(snapshot_id)


def canary() -> str:
    """Shows that the queue works; `manage.py start` restarts it when it does not."""
    return "sings"
