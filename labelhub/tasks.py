"""What django-q2 calls. Each is a trigger of milliseconds, and safe to run twice."""

from __future__ import annotations

from labelhub import importing


def start_import(batch_id: int) -> None:
    """Start the process that imports a waiting batch; a second trigger finds none."""
    importing.start(batch_id)
