"""The OpenAPI document, as it is and as a page to read."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

PATH = settings.BASE_DIR / "docs" / "openapi.json"
"""Made by `make api`, for making it costs a library that the web process can spare."""


# Without a token: generators of clients read it, and the code is public.
@login_not_required
@require_safe
def schema(request: HttpRequest) -> HttpResponse:
    return HttpResponse(PATH.read_bytes(), content_type="application/json")


@require_safe
def reference(request: HttpRequest) -> HttpResponse:
    return render(request, "labelhub/api_reference.html", {"groups": _groups()})


@lru_cache
def _groups() -> dict[str, list[dict[str, Any]]]:
    """What a page shows of each route, by tag."""
    document = json.loads(PATH.read_text())
    schemas = document["components"]["schemas"]
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, methods in document["paths"].items():
        for method, said in methods.items():
            route = {
                "method": method.upper(),
                "path": path,
                "id": said["operationId"],
                "summary": said.get("summary", ""),
                "description": said.get("description", ""),
                "query": _query(said),
                "body": _fields(_content(said.get("requestBody", {})), schemas),
                **_answer(said, schemas),
            }
            groups.setdefault(said["tags"][0], []).append(route)
    return groups


def _query(said: dict[str, Any]) -> list[dict[str, str]]:
    return [
        {
            "name": parameter["name"],
            "type": _type(parameter["schema"]),
            "help": parameter.get("description", "").split("\n\n")[0],
        }
        for parameter in said.get("parameters", [])
        if parameter["in"] == "query"
    ]


def _answer(said: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    status = next(code for code in said["responses"] if code.isdigit())
    schema = _resolved(_content(said["responses"][status]), schemas)
    is_list = "results" in _properties(schema)
    if is_list:
        schema = schema["properties"]["results"]["items"]
    fields = _fields(schema, schemas)
    return {"status": status, "answer": fields, "is_list": is_list}


def _content(said: dict[str, Any]) -> dict[str, Any]:
    kinds: dict[str, Any] = said.get("content", {})
    return next((kind.get("schema", {}) for kind in kinds.values()), {})


def _properties(schema: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = schema.get("properties", {})
    return found


def _resolved(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    for part in schema.get("allOf", [])[:1]:
        schema = part
    name = schema.get("$ref", "").rpartition("/")[2]
    found: dict[str, Any] = schemas[name] if name else schema
    return found


def _inner(field: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    """What a field is: choices by their values, other objects by their names."""
    found = _resolved(field, schemas)
    if "enum" in found:
        return found
    return next(iter(field.get("allOf", [])), field)


def _fields(schema: dict[str, Any], schemas: dict[str, Any]) -> list[dict[str, Any]]:
    whole = _resolved(schema, schemas)
    required = whole.get("required", [])
    return [
        {
            "name": name,
            "type": _type(_inner(field, schemas)),
            "help": field.get("description", "").split("\n\n")[0],
            "is_required": name in required,
        }
        for name, field in _properties(whole).items()
    ]


def _type(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(str(value) for value in schema["enum"] if value is not None)
    if name := schema.get("$ref", "").rpartition("/")[2]:
        return str(name)
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    return str(schema.get("format") or schema.get("type") or "any")
