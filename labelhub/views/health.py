"""For load balancers and for `manage.py start`."""

from __future__ import annotations

from django.contrib.auth.decorators import login_not_required
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe


@require_safe
@login_not_required  # A load balancer has no account, and learns nothing here.
def healthz(request: HttpRequest) -> HttpResponse:
    """Answer `ok` if the database answers."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return HttpResponse("ok", content_type="text/plain")
