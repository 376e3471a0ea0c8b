"""What programs use in place of a password, and what they were answered."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

if TYPE_CHECKING:
    from labelhub.models.project import Project
    from labelhub.models.user import User

SHOWN = 10
"""So many characters of a token are kept, for its owner to know it by."""
DAYS = 90


def hash_of(secret: str) -> str:
    """What is stored of a token.

    One round of SHA-256 is enough: the 256 random bits of a token cannot be guessed
    at any speed, while a slow hash, made for passwords, would be paid at each request.
    """
    return hashlib.sha256(secret.encode()).hexdigest()


class ApiTokenQuerySet(models.QuerySet["ApiToken"]):
    def with_state(self) -> ApiTokenQuerySet:
        """`is_expired` and `is_unnoticed`, by the clock of the database."""
        a_minute_ago = Now() - timedelta(minutes=1)
        unnoticed = Q(last_used_at=None) | Q(last_used_at__lt=a_minute_ago)
        return self.annotate(
            is_expired=models.ExpressionWrapper(
                Q(expires_at__lte=Now()), output_field=models.BooleanField()
            ),
            is_unnoticed=models.ExpressionWrapper(
                unnoticed, output_field=models.BooleanField()
            ),
        )


class ApiToken(models.Model):
    """Lets a program do, as one person, what its scopes name and the person may."""

    class Scope(models.TextChoices):
        READ = "read", "Read: projects, data, datasets, runs"
        JUDGE = "judge", "Judge: take items and answer them"
        FEEDBACK = "feedback", "Feedback: send what end users thought"
        MANAGE = "manage", "Manage: import, freeze, write guidelines"
        LAUNCH = "launch", "Launch: start and end runs"

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="api_tokens"
    )
    name = models.CharField(max_length=100)
    hash = models.CharField(max_length=64, unique=True)
    prefix = models.CharField(max_length=SHOWN)
    scopes = models.JSONField(default=list)
    project = models.ForeignKey(
        "labelhub.Project", models.CASCADE, null=True, related_name="+"
    )
    """The only project it opens; none for all of the person's."""
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField()
    last_used_at = models.DateTimeField(null=True)
    """Written at most once a minute."""
    revoked_at = models.DateTimeField(null=True)

    objects = ApiTokenQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.prefix}… of {self.user_id}"

    @classmethod
    def make(
        cls,
        user: User,
        *,
        name: str,
        scopes: Iterable[str],
        project: Project | None = None,
        days: int = DAYS,
    ) -> tuple[ApiToken, str]:
        """A new token, and its secret, which is known only now."""
        secret = f"lh_{secrets.token_urlsafe(32)}"
        token = cls.objects.create(
            user=user,
            name=name,
            hash=hash_of(secret),
            prefix=secret[:SHOWN],
            scopes=[scope for scope in cls.Scope.values if scope in set(scopes)],
            project=project,
            expires_at=Now() + timedelta(days=days),
        )
        return token, secret


class IdempotentAnswer(models.Model):
    """What a request with an Idempotency-Key was answered, for when it comes again.

    Written in the transaction of what the request did: there is the one if and only
    if there is the other.
    """

    token = models.ForeignKey(ApiToken, models.CASCADE, related_name="answers")
    key = models.CharField(max_length=200)
    request_hash = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField(default=0)
    body = models.JSONField(null=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["token", "key"], name="idempotentanswer_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.token_id}: {self.key}"
