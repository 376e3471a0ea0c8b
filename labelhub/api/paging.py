"""Long lists, page by page, by the id of the last row: flat memory at any length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.models import QuerySet
from rest_framework.exceptions import ValidationError
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

LIMIT = 100
MAX_LIMIT = 1000
PARAMETERS = ("cursor", "limit")


class CursorPages(BasePagination):
    """{"results": […], "next": address or null}.

    Oldest first, so that who has read to the end finds later what is new; newest
    first where the view says so.
    """

    def paginate_queryset(
        self, queryset: QuerySet[Any], request: Request, view: Any = None
    ) -> Sequence[Any]:
        limit = _number(request, "limit", LIMIT, MAX_LIMIT)
        cursor = _number(request, "cursor", 0, 2**63 - 1)
        newest_first = view.newest_first
        if cursor:
            side = "pk__lt" if newest_first else "pk__gt"
            queryset = queryset.filter(**{side: cursor})
        rows = list(queryset.order_by("-pk" if newest_first else "pk")[: limit + 1])
        self.next = None
        if len(rows) > limit:
            address = request.build_absolute_uri()
            self.next = replace_query_param(address, "cursor", rows[limit - 1].pk)
        return rows[:limit]

    def get_paginated_response(self, data: Any) -> Response:
        return Response({"results": data, "next": self.next})

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        return {
            "type": "object",
            "required": ["results", "next"],
            "properties": {
                "results": schema,
                "next": {"type": "string", "format": "uri", "nullable": True},
            },
        }

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        said = {
            "cursor": ("Where the page before ended; part of its next.", {}),
            "limit": (
                f"Rows a page; {LIMIT} if it is not said.",
                {"minimum": 1, "maximum": MAX_LIMIT},
            ),
        }
        return [
            {
                "name": name,
                "in": "query",
                "required": False,
                "description": sentence,
                "schema": {"type": "integer", **more},
            }
            for name, (sentence, more) in said.items()
        ]


def _number(request: Request, name: str, default: int, largest: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0
    if not 1 <= number <= largest:
        raise ValidationError({name: [f"“{text}” is not one of 1 to {largest}."]})
    return number
