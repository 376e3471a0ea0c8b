"""Every error has one shape: {"error": {"code", "message", "fields"?}}."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import structlog
from django.core import exceptions as django
from django.http import Http404
from rest_framework import exceptions
from rest_framework.response import Response

from labelhub.importing import ImportRefused
from labelhub.verdicts import UnknownVerdict

log = structlog.get_logger("labelhub.api")

refusals: dict[type[Exception], str] = {UnknownVerdict: "unknown_verdict"}
"""What our own functions raise with a sentence for a person, and its code here."""


class Conflict(exceptions.APIException):
    status_code = 409
    default_code = "conflict"


class Described(NamedTuple):
    status: int
    code: str
    message: str
    fields: dict[str, list[str]] = {}


def answer_error(exc: Exception, context: dict[str, Any]) -> Response:
    """The answer for anything that a view raised."""
    described = _described(exc)
    if described.status == 500:
        log.error("the API failed", exc_info=exc)
    error: dict[str, Any] = {"code": described.code, "message": described.message}
    if described.fields:
        error["fields"] = described.fields
    headers = {}
    if auth_header := getattr(exc, "auth_header", ""):
        headers["WWW-Authenticate"] = auth_header
    if wait := getattr(exc, "wait", None):
        headers["Retry-After"] = f"{wait:.0f}"
    return Response({"error": error}, status=described.status, headers=headers)


def _described(exc: Exception) -> Described:
    for kind, code in refusals.items():
        if isinstance(exc, kind):
            return Described(422, code, str(exc))
    match exc:
        case ImportRefused():
            fields = {"rows": exc.problems} if exc.problems else {}
            return Described(422, "import_refused", exc.sentence, fields)
        case Http404():
            return Described(404, "not_found", str(exc) or "There is nothing here.")
        case django.PermissionDenied():
            return Described(
                403, "permission_denied", "Your role in the project does not allow it."
            )
        case django.RequestDataTooBig():
            return Described(413, "too_large", "The body is too large; send a file.")
        case django.ValidationError():
            return _invalid(exc.message_dict if hasattr(exc, "error_dict") else exc)
        case exceptions.ValidationError():
            return _invalid(exc.detail)
        case exceptions.NotAuthenticated():
            sentence = "Send a token: Authorization: Bearer lh_…"
            return Described(401, exc.default_code, sentence)
        case exceptions.APIException():
            return Described(exc.status_code, exc.default_code, str(exc.detail))
    return Described(500, "server_error", "Something went wrong here; it was logged.")


def _invalid(detail: Any) -> Described:
    fields: dict[str, list[str]] = {}
    for name, sentence in _flat(detail):
        fields.setdefault(name, []).append(sentence)
    name, sentences = next(iter(fields.items()))
    message = f"{name}: {sentences[0]}" if name else sentences[0]
    return Described(400, "invalid", message, {n: s for n, s in fields.items() if n})


def _flat(detail: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """("rows.2.prompt", sentence) of the nested details that serializers make."""
    if isinstance(detail, dict):
        for key, inner in detail.items():
            is_whole = key in ("non_field_errors", "__all__")
            yield from _flat(inner, name if is_whole else f"{name}.{key}".strip("."))
    elif isinstance(detail, str):
        yield name, str(detail)
    else:
        for inner in detail:
            yield from _flat(inner, name)
