"""What django-q2 calls. Each is a trigger of milliseconds, and safe to run twice."""

from __future__ import annotations

from labelhub import importing, progress, queue, reports


def start_import(batch_id: int) -> None:
    """Start the process that imports a waiting batch; a second trigger finds none."""
    importing.start(batch_id)


def measure_quality(report_id: int) -> None:
    """Start the process that makes a waiting report; a second trigger finds none."""
    reports.start(report_id)


def count_progress(project_id: int) -> None:
    """Start the process that counts a large project anew; a second does no harm."""
    progress.start(project_id)


def reap_leases() -> int:
    """Free what nobody came back to. Claims do so too, but only where people judge."""
    return queue.reap()
