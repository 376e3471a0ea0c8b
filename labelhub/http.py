"""The request our views receive."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import HttpRequest

if TYPE_CHECKING:
    from django_htmx.middleware import HtmxDetails

    from labelhub.models import User


class PersonRequest(HttpRequest):
    """A request that has passed LoginRequiredMiddleware and HtmxMiddleware."""

    user: User
    htmx: HtmxDetails
