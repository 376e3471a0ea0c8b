"""The machines that train."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now


class Worker(models.Model):
    """One GPU host (or a host with only a CPU), as its agent last described it."""

    host = models.CharField(max_length=200, unique=True)
    boot_id = models.CharField(max_length=64)
    pid = models.PositiveIntegerField()
    """The agent's process; 0 when it has said goodbye."""
    device = models.JSONField(default=dict)
    """{"kind": "cuda" | "cpu", "name", "memory_bytes", "cores"}"""
    beat_at = models.DateTimeField(db_default=Now())
    draining = models.BooleanField(default=False)
    """Finish what runs, take no more."""
    created_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return self.host


class GpuSlot(models.Model):
    """Room for one attempt: one GPU, or the CPU of a host without one.

    `attempt` is unique, so no attempt holds two slots; a slot is taken and freed by
    conditional updates, and freed only by its own host.
    """

    worker = models.ForeignKey(Worker, models.CASCADE, related_name="slots")
    index = models.PositiveSmallIntegerField()
    name = models.CharField(max_length=100)
    memory_bytes = models.BigIntegerField(null=True)
    attempt = models.OneToOneField(
        "training.Attempt", models.PROTECT, null=True, related_name="slot"
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["worker", "index"], name="gpuslot_once_per_worker"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.worker_id}/{self.index} {self.name}"
