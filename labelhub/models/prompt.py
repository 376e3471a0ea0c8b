"""What was asked, and what models answered."""

from __future__ import annotations

import hashlib
import json
import unicodedata

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def content_hash(content: str | list[dict[str, str]]) -> str:
    """What makes two prompts, or two responses, the same.

    Line ends (CRLF, CR) and Unicode composition do not; the stored text keeps both.
    """
    if not isinstance(content, str):
        turns = [[turn["role"], _compared(turn["content"])] for turn in content]
        content = _encode(turns)
    return hashlib.sha256(_compared(content).encode()).hexdigest()


def _compared(text: str) -> str:
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text if text.isascii() else unicodedata.normalize("NFC", text)


class Prompt(models.Model):
    project = models.ForeignKey(
        "labelhub.Project", models.PROTECT, related_name="prompts"
    )
    messages = models.JSONField()
    """[{"role": "system" | "user" | "assistant" | "tool", "content": str}, …]"""
    external_id = models.CharField(max_length=200, blank=True)
    content_hash = models.CharField(max_length=64)
    metadata = models.JSONField(default=dict)
    batch = models.ForeignKey(
        "labelhub.ImportBatch", models.PROTECT, null=True, related_name="prompts"
    )
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["project", "content_hash"], name="prompt_once_per_project"
            ),
        ]
        indexes = [
            models.Index(
                fields=["project", "external_id"],
                name="prompt_external_id",
                condition=~Q(external_id=""),
            ),
        ]

    def __str__(self) -> str:
        return f"prompt {self.pk}"

    @property
    def last_user_turn(self) -> str:
        for message in reversed(self.messages):
            if message["role"] == "user":
                return str(message["content"])
        return ""


class Response(models.Model):
    prompt = models.ForeignKey(Prompt, models.PROTECT, related_name="responses")
    text = models.TextField()
    model_name = models.CharField(max_length=200, blank=True)
    sampling = models.JSONField(default=dict)
    external_id = models.CharField(max_length=200, blank=True)
    content_hash = models.CharField(max_length=64)
    is_demonstration = models.BooleanField(default=False)
    """Written as an example to imitate: an SFT row even where nobody judged it."""
    batch = models.ForeignKey(
        "labelhub.ImportBatch", models.PROTECT, null=True, related_name="responses"
    )
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["prompt", "model_name", "content_hash"],
                name="response_once_per_prompt_and_model",
            ),
        ]
        indexes = [
            models.Index(
                fields=["external_id"],
                name="response_external_id",
                condition=~Q(external_id=""),
            ),
        ]

    def __str__(self) -> str:
        return f"response {self.pk} of prompt {self.prompt_id}"
