"""A program that talks to the API, and insists on the one shape of its errors."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.test import Client

from labelhub.models import ApiToken, Project, User


class Api:
    """`api.get("projects")` as a person, with all scopes or those named."""

    def __init__(
        self,
        user: User,
        *scopes: str,
        project: Project | None = None,
        client: Client | None = None,
    ) -> None:
        wanted = scopes or ApiToken.Scope.values
        self.token, self.secret = ApiToken.make(
            user, name="test", scopes=wanted, project=project
        )
        self.client = client or Client(enforce_csrf_checks=True)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        path = path if path.startswith(("/", "http")) else f"/api/v1/{path}"
        more = {} if body is None else {"data": body}
        response = getattr(self.client, method)(
            path,
            content_type="application/json",
            headers={"Authorization": f"Bearer {self.secret}"} | headers,
            **more,
        )
        check_error_shape(response)
        return response

    def get(self, path: str) -> Any:
        return self.ask("get", path)

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        return self.ask("post", path, body or {}, **headers)

    def rows(self, path: str) -> list[Any]:
        """All of a list, page by page."""
        found: list[Any] = []
        address: str | None = path
        while address:
            page = self.get(address).json()
            found += page["results"]
            address = page["next"]
        return found


def check_error_shape(response: HttpResponse) -> None:
    """{"error": {"code", "message", "fields"?}} wherever something went wrong."""
    if response.status_code < 400:
        return
    body: dict[str, Any] = response.json()  # type: ignore[attr-defined]
    assert set(body) == {"error"}
    error = body["error"]
    assert set(error) - {"fields"} == {"code", "message"}
    assert error["code"] == error["code"].lower()
    assert error["message"]
    for sentences in error.get("fields", {}).values():
        assert sentences
        assert all(isinstance(sentence, str) for sentence in sentences)
