"""A project, its people, its guidelines and what was imported into it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import connection, models
from django.db.models import Q
from django.db.models.functions import Now
from django.urls import reverse

if TYPE_CHECKING:
    from labelhub.models.user import User


WITHOUT_STRENGTH = 3
"""The points of a scale that asks only which is better."""


class Project(models.Model):
    class Kind(models.TextChoices):
        PAIRWISE = "pairwise", "Pairwise: which of two responses is better"
        BINARY = "binary", "Binary: is one response good or bad"

    class Order(models.TextChoices):
        RANDOM = "random", "Random"
        IMPORTED = "imported", "As imported"

    class Status(models.TextChoices):
        OPEN = "open", "Open"
        PAUSED = "paused", "Paused"
        CLOSED = "closed", "Closed"

    name = models.CharField(max_length=120, unique=True)
    slug = models.SlugField(max_length=80, unique=True)
    description = models.TextField(blank=True)
    kind = models.CharField(max_length=10, choices=Kind)
    status = models.CharField(max_length=10, choices=Status, default=Status.OPEN)
    judgments_per_task = models.PositiveSmallIntegerField(
        default=1,
        validators=[MinValueValidator(1), MaxValueValidator(25)],
        help_text="How many people judge each task.",
    )
    lease_seconds = models.PositiveIntegerField(
        default=1800,
        validators=[MinValueValidator(60), MaxValueValidator(86_400)],
        help_text="How long an item is kept for the person who opened it.",
    )
    order = models.CharField(max_length=10, choices=Order, default=Order.RANDOM)
    allow_tie = models.BooleanField("offer “tie”", default=True)
    allow_both_bad = models.BooleanField("offer “both bad”", default=True)
    strength_points = models.PositiveSmallIntegerField(
        "points of the scale",
        choices=[
            (3, "3: A, tie, B"),
            (5, "5: each side better or much better"),
            (7, "7: each side slightly, clearly or much better"),
        ],
        default=WITHOUT_STRENGTH,
        help_text="How finely a preference is asked for.",
    )
    repeat_share = models.FloatField(
        "silent repeats",
        default=0,
        validators=[MinValueValidator(0), MaxValueValidator(0.2)],
        help_text="Share of a person’s items that they judged before, with the sides "
        "swapped: 0.05 is every twentieth, 0 is none.",
    )
    gold_share = models.FloatField(
        "gold items",
        default=0,
        validators=[MinValueValidator(0), MaxValueValidator(0.2)],
        help_text="Share of a person’s items whose answer is known.",
    )
    gold_feedback = models.BooleanField(
        "tell people the known answer once they have given theirs", default=False
    )
    n_tasks = models.PositiveIntegerField(default=0, editable=False)
    """Tasks that are open or done; kept by the importer, for COUNT(*) is slow."""
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+"
    )
    created_at = models.DateTimeField(db_default=Now())

    role: str = ""
    """What the person at hand is here; set by `labelhub.access`, not stored."""

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=Q(judgments_per_task__gte=1),
                name="project_at_least_one_judgment",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("labelhub:project", args=[self.slug])

    @property
    def is_pairwise(self) -> bool:
        return self.kind == self.Kind.PAIRWISE

    @property
    def probe_share(self) -> float:
        """Of all that a person is given: see labelhub.probes."""
        return self.repeat_share + self.gold_share

    def progress_of(self, user: User) -> dict[str, int]:
        """Judgments by this person, by everybody, and wanted.

        From the members' counters: counting judgments would be slow. In SQL, for it
        stands on every item: see labelhub.queue.
        """
        with connection.cursor() as cursor:
            cursor.execute(_JUDGED, [user.pk, self.pk])
            mine, done = cursor.fetchone()
        # Probes move these numbers as any item does, or they could be told by them.
        wanted = round(self.n_tasks * self.judgments_per_task / (1 - self.probe_share))
        if self.probe_share:
            done = min(done, wanted)
        return {"mine": mine, "done": done, "wanted": wanted}

    def current_guideline(self) -> Guideline | None:
        return self.guidelines.order_by("-version").first()

    def write_guideline(self, text: str, author: User | None) -> Guideline:
        """Add the next version; the ones before stay as they were judged by."""
        newest = self.current_guideline()
        if newest is not None and newest.text == text:
            return newest
        return self.guidelines.create(
            version=newest.version + 1 if newest else 1, text=text, created_by=author
        )


_JUDGED = """
    SELECT coalesce(sum(n_judged) FILTER (WHERE user_id = %s), 0),
        coalesce(sum(n_judged), 0)
    FROM labelhub_membership WHERE project_id = %s
"""


class Membership(models.Model):
    """What one person may do in one project."""

    class Role(models.TextChoices):
        ANNOTATOR = "annotator", "Annotator: judges"
        REVIEWER = "reviewer", "Reviewer: judges and reads everything"
        MANAGER = "manager", "Manager: imports, freezes, launches, invites"
        VIEWER = "viewer", "Viewer: reads runs"

    project = models.ForeignKey(Project, models.CASCADE, related_name="memberships")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="memberships"
    )
    role = models.CharField(max_length=10, choices=Role)
    n_judged = models.PositiveIntegerField(default=0, editable=False)
    """Tasks this person has judged here, surplus included; kept by the queue."""
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["project", "user"], name="membership_once_per_project"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user_id} in {self.project_id}: {self.role}"


class Guideline(models.Model):
    """One version of what annotators are asked to do. Never edited."""

    project = models.ForeignKey(Project, models.PROTECT, related_name="guidelines")
    version = models.PositiveIntegerField()
    text = models.TextField()
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+"
    )
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["project", "version"], name="guideline_version_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.project_id} v{self.version}"


class ImportBatchQuerySet(models.QuerySet["ImportBatch"]):
    def silent(self) -> ImportBatchQuerySet:
        """Not finished, and nothing has been heard of them for a minute."""
        return self.filter(
            state__in=(ImportBatch.State.WAITING, ImportBatch.State.IMPORTING)
        ).exclude(beat_at__gte=Now() - timedelta(minutes=1))


class ImportBatch(models.Model):
    """One import: its files, and what became of their rows."""

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        IMPORTING = "importing", "Importing"
        COMPLETE = "complete", "Complete"
        FAILED = "failed", "Failed"
        REMOVED = "removed", "Removed"

    project = models.ForeignKey(Project, models.PROTECT, related_name="imports")
    state = models.CharField(max_length=10, choices=State, default=State.WAITING)
    files = models.JSONField(default=list)
    """[{"name", "sha256", "bytes", "rows"}], in the order given."""
    sha256 = models.CharField(max_length=64)
    """Over the files' own hashes and the options: the same import has the same."""
    format = models.CharField(max_length=40, blank=True)
    options = models.JSONField(default=dict)
    """{"map": {…}, "judge": "", "judge_kind": "", "pairs": ""}, as given."""
    counts = models.JSONField(default=dict)
    """What the rows became: prompts, responses, tasks, judgments, identical pairs …"""
    n_rows = models.PositiveIntegerField(default=0)
    n_read = models.PositiveIntegerField(default=0)
    """Rows committed so far, of n_rows."""
    fence = models.PositiveIntegerField(default=0)
    """Rises with each process that takes the batch up; an older one then stops."""
    beat_at = models.DateTimeField(null=True)
    """When the process that has it last wrote something."""
    error = models.TextField(blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+"
    )
    created_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True)

    objects = ImportBatchQuerySet.as_manager()

    is_repeat: bool = False
    """Asked for again when it was complete; set by the importer, not stored."""

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["project", "sha256"],
                condition=~Q(state="removed") & ~Q(sha256=""),
                name="importbatch_once",
            ),
        ]
        indexes = [models.Index(fields=["project", "-id"], name="importbatch_newest")]

    def __str__(self) -> str:
        return f"{self.project_id}: {self.state} {self.sha256[:8]}"

    def get_absolute_url(self) -> str:
        return reverse("labelhub:import_batch", args=[self.project.slug, self.pk])

    @property
    def is_final(self) -> bool:
        return self.state not in (self.State.WAITING, self.State.IMPORTING)
