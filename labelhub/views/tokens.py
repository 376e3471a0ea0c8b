"""The tokens that programs use in place of one's password."""

from __future__ import annotations

from django.db import transaction
from django.db.models.functions import Now
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from labelhub import access
from labelhub.forms import TokenForm
from labelhub.http import PersonRequest
from labelhub.models import ApiToken, Event

SHOWN = 200
"""The newest of a person's tokens; nobody needs more at once."""


@never_cache
@require_http_methods(["GET", "POST"])
def tokens(request: PersonRequest) -> HttpResponse:
    """One's tokens, and a new one, whose secret is shown in this answer only."""
    projects = access.projects_of(request.user)
    form = TokenForm(request.POST or None, projects=projects)
    context: dict[str, object] = {}
    if form.is_valid():
        with transaction.atomic():
            token, secret = ApiToken.make(request.user, **form.cleaned_data)
            _record(request, token, "token.made")
        # Not by way of a redirect: a message would keep the secret in a cookie.
        context = {"made": token, "secret": secret}
        form = TokenForm(projects=projects)
    mine = ApiToken.objects.with_state().filter(user=request.user)
    context |= {
        "form": form,
        "tokens": mine.select_related("project").order_by("-pk")[:SHOWN],
    }
    status = 422 if form.is_bound else 200
    return render(request, "labelhub/tokens.html", context, status=status)


@require_POST
def revoke_token(request: PersonRequest, pk: int) -> HttpResponse:
    mine = ApiToken.objects.filter(user=request.user, pk=pk)
    token = mine.first()
    if token is None:
        raise Http404("No such token.")
    with transaction.atomic():
        if mine.filter(revoked_at=None).update(revoked_at=Now()):
            _record(request, token, "token.revoked")
    return redirect("labelhub:tokens")


def _record(request: PersonRequest, token: ApiToken, verb: str) -> None:
    Event.objects.create(
        project_id=token.project_id,
        actor=request.user,
        verb=verb,
        subject=f"token:{token.pk}",
        data={"name": token.name, "scopes": token.scopes},
    )
