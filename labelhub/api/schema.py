"""The OpenAPI document, from what each view says that it needs, takes and answers.

Read only where the document is made: drf-spectacular is not in the web process.
"""

from __future__ import annotations

import json
import re
from typing import Any

from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes
from rest_framework import serializers

from labelhub.api.base import RowList
from labelhub.api.reference import PATH


class ErrorBody(serializers.Serializer):
    code = serializers.CharField()
    message = serializers.CharField()
    fields = serializers.DictField(
        child=serializers.ListField(child=serializers.CharField()), required=False
    )


class Error(serializers.Serializer):
    error = ErrorBody()


class BearerToken(OpenApiAuthenticationExtension):
    target_class = "labelhub.api.tokens.TokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer"}


class Schema(AutoSchema):
    def get_tags(self) -> list[str]:
        parts = [part for part in self.path.split("/")[3:] if "{" not in part]
        return [parts[1] if len(parts) > 1 else parts[0]]

    def get_operation_id(self) -> str:
        name = type(self.view).__name__
        words = re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
        return words if self.method == "GET" else f"{self.method.lower()}_{words}"

    def _doc(self) -> str:
        """What the method says of itself, else what its view says."""
        is_own = self.method.lower() in vars(type(self.view))
        act = getattr(self.view, self.method.lower()) if is_own else None
        return getattr(act, "__doc__", "") or type(self.view).__doc__ or ""

    def get_summary(self) -> str:
        return " ".join(self._doc().partition("\n\n")[0].split())

    def get_description(self) -> str:
        rest = self._doc().partition("\n\n")[2]
        needs = self.view.needs[self.method]
        said = [" ".join(rest.split())] if rest.strip() else []
        if needs.scope:
            said.append(f"Scope: {needs.scope}.")
        if needs.roles:
            said.append(f"Roles: {', '.join(sorted(needs.roles))}.")
        return " ".join(said)

    def get_override_parameters(self) -> list[Any]:
        is_list = self.method == "GET" and isinstance(self.view, RowList)
        return [self.view.filters] if is_list and self.view.filters().fields else []

    def _is_list_view(self, serializer: Any = None) -> bool:
        return self.method == "GET" and isinstance(self.view, RowList)

    def get_request_serializer(self) -> Any:
        return self.view.bodies.get(self.method)

    def get_response_serializers(self) -> Any:
        serializer, status = self.view.answers[self.method]
        if serializer is None and status != 204:
            serializer = OpenApiTypes.BINARY
        return {status: serializer, "default": Error}


def write() -> None:
    """`make api`: the file that the site serves, and a test holds to the views."""
    schema, complaints = make_schema()
    if complaints:
        raise SystemExit("\n".join(complaints))
    PATH.write_text(json.dumps(schema, indent=1, ensure_ascii=False) + "\n")


def make_schema() -> tuple[dict[str, Any], list[str]]:
    """The document, and what spectacular had to say against it."""
    GENERATOR_STATS.reset()
    schema = SchemaGenerator(api_version="1").get_schema(request=None, public=True)
    complaints = [
        *GENERATOR_STATS._warn_cache,
        *GENERATOR_STATS._error_cache,
    ]
    return dict(schema), complaints
