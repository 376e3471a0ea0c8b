"""Judging, in left and right, as on the page: no model, no id of a response, no a or b.

Nothing here needs an Idempotency-Key: a claim gives the item one holds, an answer
names the revision it replaces, and the others may be said twice.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from labelhub import access, queue, verdicts
from labelhub.api.base import Answer, Body, Needs, ProjectView, Scope
from labelhub.api.data import MessageOut
from labelhub.api.errors import Conflict
from labelhub.models import Assignment, Judgment, Membership

JUDGE = Needs(Scope.JUDGE, access.JUDGES)


class ItemOut(serializers.Serializer):
    id = serializers.UUIDField()
    state = serializers.ChoiceField(Assignment.State.choices)
    messages = MessageOut(many=True)
    left = serializers.CharField()
    right = serializers.CharField(allow_null=True)
    verdicts = serializers.ListField(
        child=serializers.CharField(), help_text="What may be answered."
    )
    chosen = serializers.CharField(allow_null=True, help_text="One's own verdict.")
    revision = serializers.IntegerField(
        help_text="Of one's own verdict, 0 for none; sent back as replaces."
    )
    note = serializers.CharField(allow_blank=True)
    guideline = serializers.IntegerField(
        allow_null=True, help_text="The version to judge by."
    )
    lease_expires_at = serializers.DateTimeField()


class ClaimOut(serializers.Serializer):
    item = ItemOut(allow_null=True)
    reason = serializers.ChoiceField(
        [reason.value for reason in queue.Reason],
        allow_null=True,
        help_text="Why there is no item.",
    )
    until = serializers.DateTimeField(
        allow_null=True, help_text="When the first item that others hold is free."
    )


class AnswerIn(Body):
    verdict = serializers.CharField(max_length=20)
    note = serializers.CharField(
        max_length=10_000, required=False, default="", allow_blank=True
    )
    replaces = serializers.IntegerField(
        min_value=0,
        max_value=99_999,
        required=False,
        default=0,
        help_text="The revision of the item, to revise one's own verdict.",
    )


class SkipIn(Body):
    reason = serializers.CharField(
        max_length=10_000, required=False, default="", allow_blank=True
    )


class AnswerOut(serializers.Serializer):
    verdict = serializers.CharField(
        help_text="The verdict that stands: an earlier one, if this was a retry."
    )
    revision = serializers.IntegerField()
    surplus = serializers.BooleanField(
        help_text="The item was withdrawn meanwhile: kept as an extra."
    )


class Claim(ProjectView):
    """The item to judge now: the one that is held already, or another."""

    needs = {"POST": Needs(Scope.JUDGE, Membership.Role.values)}
    answers = {"POST": Answer(ClaimOut)}

    def post(self, request: Request, slug: str) -> Response:
        found = queue.claim(self.project, request.user)
        if isinstance(found, queue.EndState):
            if found.reason is queue.Reason.NOT_A_JUDGE:
                self.permission_denied(request, "Viewers judge nothing.")
            return self.answer(
                {"item": None, "reason": found.reason.value, "until": found.until}
            )
        found.project = self.project
        return self.answer({"item": item_of(found), "reason": None, "until": None})


class ItemView(ProjectView):
    def assignment(self, request: Request, slug: str, pk: UUID) -> Assignment:
        """The person's own; anybody else's is not there."""
        return access.assignment_for(request.user, slug, pk)


class Item(ItemView):
    """An item of one's own, also one that is judged."""

    needs = {"GET": JUDGE}
    answers = {"GET": Answer(ItemOut)}

    def get(self, request: Request, slug: str, pk: UUID) -> Response:
        return self.answer(item_of(self.assignment(request, slug, pk)))


class Submit(ItemView):
    """Answer an item. The same again stores nothing new."""

    needs = {"POST": JUDGE}
    bodies = {"POST": AnswerIn}
    answers = {"POST": Answer(AnswerOut)}

    def post(self, request: Request, slug: str, pk: UUID) -> Response:
        assignment, sent = self.assignment(request, slug, pk), self.body()
        judgment = queue.submit(
            assignment.pk,
            request.user,
            sent["verdict"],
            note=sent["note"],
            replaces=sent["replaces"],
        )
        return self.answer(
            {
                "verdict": _shown(judgment, assignment),
                "revision": judgment.revision,
                "surplus": judgment.surplus,
            }
        )


class Skip(ItemView):
    """Give an item back and do not see it again."""

    needs = {"POST": JUDGE}
    bodies = {"POST": SkipIn}
    answers = {"POST": Answer(None, 204)}

    def post(self, request: Request, slug: str, pk: UUID) -> Response:
        assignment = self.assignment(request, slug, pk)
        queue.skip(assignment.pk, request.user, self.body()["reason"])
        return self.answer(None)


class Release(ItemView):
    """Give an item back; it may come again."""

    needs = {"POST": JUDGE}
    answers = {"POST": Answer(None, 204)}

    def post(self, request: Request, slug: str, pk: UUID) -> Response:
        queue.release(self.assignment(request, slug, pk).pk, request.user)
        return self.answer(None)


class Extend(ItemView):
    """Keep an item for longer; 409 if it was lost."""

    needs = {"POST": JUDGE}
    answers = {"POST": Answer(ItemOut)}

    def post(self, request: Request, slug: str, pk: UUID) -> Response:
        if not queue.extend(self.assignment(request, slug, pk)):
            raise Conflict("The item is no longer yours; claim again.")
        return self.answer(item_of(self.assignment(request, slug, pk)))


def item_of(assignment: Assignment) -> dict[str, Any]:
    """An item as its annotator sees it."""
    project, task = assignment.project, assignment.task
    standing = None
    if assignment.state == Assignment.State.SUBMITTED:
        standing = assignment.judgments.standing().get()
    left = task.response_a.text
    right = task.response_b.text if task.response_b else None
    if assignment.swapped and right is not None:
        left, right = right, left
    guideline = assignment.guideline
    return {
        "id": assignment.pk,
        "state": assignment.state,
        "messages": task.prompt.messages,
        "left": left,
        "right": right,
        "verdicts": [choice.shown for choice in verdicts.choices(project)],
        "chosen": _shown(standing, assignment) if standing else None,
        "revision": standing.revision if standing else 0,
        "note": standing.note if standing else "",
        "guideline": guideline.version if guideline else None,
        "lease_expires_at": assignment.lease_expires_at,
    }


def _shown(judgment: Judgment, assignment: Assignment) -> str:
    return verdicts.as_shown(
        judgment.verdict, judgment.strength, swapped=assignment.swapped
    )
