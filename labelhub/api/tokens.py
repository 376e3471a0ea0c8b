"""Who asks, whether their token may, and how often."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.models.functions import Now
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied
from rest_framework.permissions import BasePermission
from rest_framework.throttling import SimpleRateThrottle

from labelhub.models import ApiToken
from labelhub.models.api_token import hash_of

if TYPE_CHECKING:
    from rest_framework.request import Request

    from labelhub.api.base import ApiView
    from labelhub.models import User


class TokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer lh_…`, and nothing else."""

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        header = request.headers.get("Authorization", "")
        kind, _, secret = header.partition(" ")
        if not header:
            return None
        if kind.lower() != "bearer" or not secret.strip():
            raise AuthenticationFailed("Send Authorization: Bearer, and a token.")
        token = _token_of(secret.strip())
        if token.is_unnoticed:
            ApiToken.objects.filter(pk=token.pk).update(last_used_at=Now())
        return token.user, token


def _token_of(secret: str) -> Any:
    """An ApiToken with its state, if it is good for anything."""
    # Looked up by the hash, so the time it takes says nothing about the token.
    found = ApiToken.objects.with_state().select_related("user")
    token: Any = found.filter(hash=hash_of(secret)).first()
    if token is None:
        raise AuthenticationFailed("There is no such token.")
    if token.revoked_at:
        raise AuthenticationFailed("This token was revoked; make another.")
    if token.is_expired:
        raise AuthenticationFailed("This token has expired; make another.")
    if not token.user.is_active:
        raise AuthenticationFailed("The account of this token is closed.")
    return token


class HasScope(BasePermission):
    """The token, before anything is looked up: a stranger learns nothing by asking."""

    def has_permission(self, request: Request, view: ApiView) -> bool:
        if request.auth is None:
            return False
        needs = view.needed()
        if needs and needs.scope and needs.scope not in request.auth.scopes:
            raise PermissionDenied(
                f"This needs a token with the scope “{needs.scope}”; this one has:"
                f" {', '.join(request.auth.scopes)}."
            )
        return True


class TokenThrottle(SimpleRateThrottle):
    """So many requests a token; each web process counts for itself."""

    scope = "token"

    def get_cache_key(self, request: Request, view: ApiView) -> str | None:
        return f"throttle:{request.auth.pk}" if request.auth else None
