"""What every route shares: a view names what it needs, takes and answers.

The schema is made of the same names (`labelhub.api.schema`), so it cannot say other
than what the views do.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from functools import wraps
from typing import Any, ClassVar, NamedTuple

from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.http import Http404
from rest_framework import serializers
from rest_framework.generics import GenericAPIView, ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from labelhub import access
from labelhub.api.errors import Conflict
from labelhub.api.paging import PARAMETERS
from labelhub.importing.options import nearest
from labelhub.models import ApiToken, IdempotentAnswer, Project

Scope = ApiToken.Scope
KEPT_FOR = timedelta(hours=24)
REVIEWERS = frozenset({access.Role.REVIEWER, access.Role.MANAGER})
"""Who may see who judged what."""


class Needs(NamedTuple):
    """What a token must be allowed to, and what its person must be in the project."""

    scope: Scope | None = None
    roles: Collection[str] = frozenset()


class Answer(NamedTuple):
    serializer: type[serializers.BaseSerializer] | None
    """None is a file, or with a 204 nothing."""
    status: int = 200


class Body(serializers.Serializer):
    """What may be sent. A name that means nothing is an error, not passed over."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            unknown = [name for name in data if name not in self.fields]
            if unknown:
                raise serializers.ValidationError(
                    {str(name): [_unknown(str(name), self.fields)] for name in unknown}
                )
        return super().to_internal_value(data)


class Filters(Body):
    """What a list may be narrowed by, in the address."""


def _unknown(name: str, known: Collection[str]) -> str:
    listed = ", ".join(known) or "none"
    return f"There is no such field.{nearest(name, known)} Known are: {listed}."


class ApiView(GenericAPIView):
    needs: ClassVar[dict[str, Needs]] = {}
    bodies: ClassVar[dict[str, type[Body]]] = {}
    answers: ClassVar[dict[str, Answer]] = {}
    http_method_names = ["get", "head", "post"]

    def needed(self) -> Needs | None:
        return self.needs.get(self._method)

    @property
    def _method(self) -> str:
        """HEAD is a GET whose body nobody reads."""
        return "GET" if self.request.method == "HEAD" else str(self.request.method)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if not request.content_type.startswith("multipart/"):
            # Read by Django, which refuses what is too large before it is in memory.
            _ = request._request.body

    def body(self) -> dict[str, Any]:
        """What was sent, checked."""
        sent = self.bodies[self._method](data=self.request.data)
        sent.is_valid(raise_exception=True)
        return dict(sent.validated_data)

    def answer(self, row: Any, **more: Any) -> Response:
        serializer, status = self.answers[self._method]
        context = self.get_serializer_context()
        if serializer is None:
            return Response(status=status)
        return Response(serializer(row, context=context).data, status=status, **more)


class ProjectView(ApiView):
    """A route below /projects/<slug>; `project` is that of a member with the role."""

    project: Project

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if needs := self.needed():
            self.project = project_for(request, kwargs["slug"], needs.roles)


def project_for(request: Request, slug: str, roles: Collection[str]) -> Project:
    """As the pages find it; for a token of another project it is not there."""
    project = access.project_for(request.user, slug, roles)
    if request.auth.project_id not in (None, project.pk):
        raise Http404("No such project.")
    return project


class RowList(ProjectView, ListAPIView):
    """A list of the project's rows, narrowed by `filters`."""

    filters: type[Filters] = Filters
    newest_first = False

    def get_serializer_class(self) -> Any:
        return self.answers["GET"].serializer

    def get_queryset(self) -> QuerySet[Any]:
        asked = self.request.query_params
        given = {name: asked[name] for name in asked if name not in PARAMETERS}
        wanted = self.filters(data=given)
        wanted.is_valid(raise_exception=True)
        return self.rows(dict(wanted.validated_data))

    def rows(self, wanted: dict[str, Any]) -> QuerySet[Any]:
        raise NotImplementedError


def once(act: Callable[..., Response]) -> Callable[..., Response]:
    """With an Idempotency-Key, do it once a day and answer the same again.

    The key is written first, in the transaction of the act: on PostgreSQL a second
    request waits at the unique key for the first to end, on SQLite at BEGIN. What was
    refused is rolled back with its key, so it may be mended and sent again.
    """

    @wraps(act)
    def act_once(view: ApiView, request: Request, *args: Any, **kw: Any) -> Response:
        key = request.headers.get("Idempotency-Key", "")
        if not key:
            return act(view, request, *args, **kw)
        if len(key) > 200 or "\0" in key:
            raise Conflict("The Idempotency-Key has more than 200 characters.")
        keys = IdempotentAnswer.objects.filter(token=request.auth)
        keys.filter(created_at__lte=Now() - KEPT_FOR).delete()
        asked = _request_hash(request)
        try:
            with transaction.atomic():
                kept = keys.create(token=request.auth, key=key, request_hash=asked)
                response = act(view, request, *args, **kw)
                data = json.loads(json.dumps(response.data, default=str))
                keys.filter(pk=kept.pk).update(status=response.status_code, body=data)
                return response
        except IntegrityError:
            known = keys.filter(key=key).first()
            if known is None:  # It was about something else.
                raise
        if known.request_hash != asked:
            raise Conflict("This Idempotency-Key was used for another request.")
        headers = {"Idempotent-Replayed": "true"}
        return Response(known.body, status=known.status, headers=headers)

    return act_once


def _request_hash(request: Request) -> str:
    said = f"{request.method} {request.get_full_path()}\n".encode()
    return hashlib.sha256(said + request._request.body).hexdigest()
