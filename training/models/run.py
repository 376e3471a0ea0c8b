"""A run, its attempts, and what they reported."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.urls import reverse


class Run(models.Model):
    """What somebody asked for. The intent never changes; the state does.

    The row is the queue and the truth: django-q2 only rings the doorbell. Every
    change of state goes through `training.runs.transition`.
    """

    class Kind(models.TextChoices):
        TRAIN = "train", "Train"
        PLAN = "plan", "Plan"
        GENERATE = "generate", "Generate"
        EVALUATE = "evaluate", "Evaluate"
        MERGE = "merge", "Merge"
        PUBLISH = "publish", "Publish"

    class State(models.TextChoices):
        QUEUED = "queued", "Queued"
        RUNNING = "running", "Running"
        STOPPING = "stopping", "Stopping"
        SUCCEEDED = "succeeded", "Succeeded"
        STOPPED = "stopped", "Stopped"
        CANCELED = "canceled", "Canceled"
        FAILED = "failed", "Failed"

    class Wish(models.TextChoices):
        STOP = "stop", "Stop and save"
        CANCEL = "cancel", "Cancel"

    ACTIVE = (State.RUNNING, State.STOPPING)
    FINAL = (State.SUCCEEDED, State.STOPPED, State.CANCELED, State.FAILED)

    project = models.ForeignKey("labelhub.Project", models.PROTECT, related_name="runs")
    kind = models.CharField(max_length=10, choices=Kind, default=Kind.TRAIN)
    name = models.CharField(max_length=120)
    config = models.JSONField()
    """The RLHFConfig as a dict; paths in it are relative to the run directory."""
    algorithm = models.CharField(max_length=20)
    snapshot = models.ForeignKey(
        "training.Snapshot", models.PROTECT, null=True, related_name="runs"
    )
    base_run = models.ForeignKey(
        "self", models.PROTECT, null=True, related_name="children"
    )
    """The run whose model this one starts from; it waits until that has succeeded."""
    parent = models.ForeignKey("self", models.PROTECT, null=True, related_name="clones")
    """The run this one was cloned from."""
    request_id = models.UUIDField(default=uuid.uuid4, unique=True)
    """Made by the form: pressing Launch twice makes one run."""
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+"
    )
    created_at = models.DateTimeField(db_default=Now())

    state = models.CharField(max_length=10, choices=State, default=State.QUEUED)
    wish = models.CharField(max_length=10, choices=Wish, blank=True)
    """What a stopping run was asked for."""
    fence = models.PositiveIntegerField(default=0)
    """Grows with every attempt; whoever holds an older number has lost the run."""
    waiting_for = models.CharField(max_length=200, blank=True)
    """Why it is still queued, in words."""
    phase = models.CharField(max_length=60, blank=True)
    step = models.PositiveIntegerField(default=0)
    max_steps = models.PositiveIntegerField(default=0)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    result = models.JSONField(null=True)
    """RLHFJobResult as a dict, once accepted."""
    error = models.JSONField(null=True)
    """{"code", "class", "message", "where", "lines"}; where is a phrase"""
    uri = models.CharField(max_length=500, blank=True)
    """Where the accepted attempt's artefacts are in the store."""

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=~Q(state="succeeded") | Q(result__isnull=False),
                name="run_succeeded_has_result",
            ),
        ]
        indexes = [
            models.Index(fields=["project", "-id"], name="run_newest"),
            models.Index(fields=["state", "id"], name="run_by_state"),
        ]

    def __str__(self) -> str:
        return f"run {self.pk} {self.name}"

    def get_absolute_url(self) -> str:
        return reverse("training:run", args=[self.project.slug, self.pk])

    @property
    def is_final(self) -> bool:
        return self.state in self.FINAL

    @property
    def has_model(self) -> bool:
        """Whether another run can start from what this one made."""
        return self.state in (self.State.SUCCEEDED, self.State.STOPPED) and bool(
            self.uri
        )


class Attempt(models.Model):
    """One process on one worker. `fence` is the run's number when it was claimed."""

    class State(models.TextChoices):
        RUNNING = "running", "Running"
        SUCCEEDED = "succeeded", "Succeeded"
        STOPPED = "stopped", "Stopped"
        CANCELED = "canceled", "Canceled"
        FAILED = "failed", "Failed"
        INTERRUPTED = "interrupted", "Interrupted by its host"
        LOST = "lost", "Lost"

    run = models.ForeignKey(Run, models.PROTECT, related_name="attempts")
    fence = models.PositiveIntegerField()
    worker = models.ForeignKey(
        "training.Worker", models.PROTECT, related_name="attempts"
    )
    state = models.CharField(max_length=11, choices=State, default=State.RUNNING)
    lease_until = models.DateTimeField(null=True)
    supervisor = models.JSONField(default=dict)
    """{"pid", "started", "boot_id"}: who owns it, proof against a reused pid."""
    trainer = models.JSONField(default=dict)
    """{"pid", "started", "boot_id"}"""
    shipped = models.JSONField(default=dict)
    """{"log", "metrics", "samples", "events"}: bytes of each file that are in the
    database, moved in the transaction that adds the rows."""
    exit_code = models.IntegerField(null=True)
    peak_memory_bytes = models.BigIntegerField(null=True)
    error = models.JSONField(null=True)
    started_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["run", "fence"], name="attempt_once"),
            # Never two trainers for one run, whatever the code believes.
            models.UniqueConstraint(
                fields=["run"], condition=Q(state="running"), name="attempt_one_running"
            ),
        ]

    def __str__(self) -> str:
        return f"attempt {self.fence} of run {self.run_id}"


class RunEvent(models.Model):
    """Something that happened to a run, in words a person can read. Append-only."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="events")
    attempt = models.ForeignKey(Attempt, models.CASCADE, null=True, related_name="+")
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+"
    )
    kind = models.CharField(max_length=40)
    message = models.TextField(blank=True)
    data = models.JSONField(default=dict)
    at = models.DateTimeField(db_default=Now())

    class Meta:
        indexes = [models.Index(fields=["run", "id"], name="runevent_in_order")]

    def __str__(self) -> str:
        return f"{self.run_id}: {self.kind}"


class MetricPoint(models.Model):
    """One value of one series. NaN and the infinities are kept by name.

    SQLite stores NaN as NULL, so `value` is null for those and `nonfinite` says which.
    """

    # The constraint serves the attempt and `metricpoint_newest` the run; each index
    # more is paid for with every point.
    attempt = models.ForeignKey(
        Attempt, models.CASCADE, related_name="metrics", db_index=False
    )
    run = models.ForeignKey(Run, models.CASCADE, related_name="metrics", db_index=False)
    name = models.CharField(max_length=100)
    step = models.PositiveIntegerField()
    value = models.FloatField(null=True)
    nonfinite = models.CharField(max_length=4, blank=True)
    """'', 'nan', 'inf' or '-inf'."""
    at = models.FloatField()
    """Unix time at the trainer."""

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["attempt", "name", "step"], name="metricpoint_once"
            ),
            models.CheckConstraint(
                condition=Q(nonfinite="", value__isnull=False)
                | Q(nonfinite__in=["nan", "inf", "-inf"], value__isnull=True),
                name="metricpoint_value_or_nonfinite",
            ),
        ]
        indexes = [
            models.Index(fields=["run", "id"], name="metricpoint_newest"),
            models.Index(
                fields=["attempt", "step"],
                condition=~Q(nonfinite=""),
                name="metricpoint_nonfinite",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.run_id} {self.name}@{self.step}"


class MetricBucket(models.Model):
    """What the points of one series in a stretch of steps come to.

    Always read from the points, by `training.metric_points`, in the transaction that
    adds some: a chart of a million points is drawn from a few thousand of these.
    """

    # The constraint serves it.
    attempt = models.ForeignKey(
        Attempt, models.CASCADE, related_name="metric_buckets", db_index=False
    )
    width = models.PositiveIntegerField()
    """Steps in it: a power of four."""
    start = models.PositiveIntegerField()
    """The first step that it may hold, a multiple of the width."""
    name = models.CharField(max_length=100)
    first_step = models.PositiveIntegerField()
    last_step = models.PositiveIntegerField()
    n = models.PositiveIntegerField()
    """Finite values."""
    total = models.FloatField()
    """Their sum, each divided by the width, so that the greatest doubles fit."""
    low = models.FloatField(null=True)
    high = models.FloatField(null=True)
    n_nan = models.PositiveIntegerField()
    n_inf = models.PositiveIntegerField()
    n_minus_inf = models.PositiveIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["attempt", "width", "start", "name"], name="metricbucket_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.attempt_id} {self.name}@{self.start}+{self.width}"


class LogChunk(models.Model):
    """A piece of an attempt's log, by the byte offset it starts at."""

    attempt = models.ForeignKey(Attempt, models.CASCADE, related_name="log_chunks")
    offset = models.PositiveBigIntegerField()
    text = models.TextField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["attempt", "offset"], name="logchunk_once"),
        ]

    def __str__(self) -> str:
        return f"{self.attempt_id}@{self.offset}"


class Sample(models.Model):
    """What the model wrote for one of its fixed prompts at one step."""

    attempt = models.ForeignKey(Attempt, models.CASCADE, related_name="samples")
    step = models.PositiveIntegerField()
    index = models.PositiveSmallIntegerField()
    messages = models.JSONField()
    completion = models.TextField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["attempt", "step", "index"], name="sample_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.attempt_id} step {self.step} #{self.index}"
