"""Who takes part in a project."""

from __future__ import annotations

import secrets

from django.contrib import messages
from django.db import transaction
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from labelhub import access, queue
from labelhub.forms import MemberForm, RemoveMemberForm
from labelhub.http import PersonRequest
from labelhub.models import Event, Membership, Project, User


@require_GET
def members(request: PersonRequest, slug: str) -> HttpResponse:
    project = access.project_for(request.user, slug, access.MANAGERS)
    return _page(request, project, MemberForm(project=project))


@require_POST
def add_member(request: PersonRequest, slug: str) -> HttpResponse:
    """Add somebody; make the account, with a password shown once, if there is none."""
    project = access.project_for(request.user, slug, access.MANAGERS)
    form = MemberForm(request.POST, project=project)
    if not form.is_valid():
        return _page(request, project, form, status=422)
    username, role = form.cleaned_data["username"], form.cleaned_data["role"]
    with transaction.atomic():
        user, is_new = User.objects.get_or_create(username=username)
        password = secrets.token_urlsafe(9) if is_new else ""
        if is_new:
            user.set_password(password)
            user.save(update_fields=["password"])
        is_member = not queue.join(project, user, role)
        if not is_member:
            _record(request, project, "member.added", user, role)
    if is_member:  # Somebody added them while this form was checked.
        return redirect("labelhub:members", slug=slug)
    if is_new:
        # Not by way of a redirect: a message would keep the password in a cookie.
        account = {"username": username, "password": password}
        return _page(request, project, MemberForm(project=project), new_account=account)
    messages.success(request, f"{username} is in the project.")
    return redirect("labelhub:members", slug=slug)


@require_POST
def change_role(request: PersonRequest, slug: str, pk: int) -> HttpResponse:
    project = access.project_for(request.user, slug, access.MANAGERS)
    membership = _membership(project, pk)
    role = request.POST.get("role", "")
    if role not in Membership.Role.values:
        form = MemberForm(project=project)
        messages.error(request, f"There is no role “{role}”.")
        return _page(request, project, form, status=422)
    with transaction.atomic():
        # Nothing to record where the form was sent twice.
        others = project.memberships.filter(pk=pk).exclude(role=role)
        if others.update(role=role):
            _record(request, project, "member.role_changed", membership.user, role)
        if role == Membership.Role.VIEWER:
            queue.release_leases(project, membership.user)
    return redirect("labelhub:members", slug=slug)


@require_http_methods(["GET", "POST"])
def remove_member(request: PersonRequest, slug: str, pk: int) -> HttpResponse:
    """End a membership. The person's judgments stay; what they hold is free again."""
    project = access.project_for(request.user, slug, access.MANAGERS)
    membership = _membership(project, pk)
    form = RemoveMemberForm(request.POST or None, membership=membership)
    if form.is_valid():
        with transaction.atomic():
            _record(request, project, "member.removed", membership.user, "")
            queue.release_leases(project, membership.user)
            membership.delete()
        messages.success(request, f"{membership.user.username} has left the project.")
        return redirect("labelhub:members", slug=slug)
    context = {
        "project": project,
        "membership": membership,
        "form": form,
        "tab": "members",
    }
    status = 422 if form.is_bound else 200
    return render(request, "labelhub/remove_member.html", context, status=status)


def _membership(project: Project, pk: int) -> Membership:
    try:
        return project.memberships.select_related("user").get(pk=pk)
    except Membership.DoesNotExist:
        raise Http404("No such member.") from None


def _record(
    request: PersonRequest, project: Project, verb: str, user: User, role: str
) -> None:
    Event.objects.create(
        project=project,
        actor=request.user,
        verb=verb,
        subject=f"user:{user.pk}",
        data={"username": user.username, "role": role},
    )


def _page(
    request: PersonRequest,
    project: Project,
    form: MemberForm,
    *,
    status: int = 200,
    new_account: dict[str, str] | None = None,
) -> HttpResponse:
    context = {
        "tab": "members",
        "new_account": new_account,
        "project": project,
        "memberships": project.memberships.select_related("user").order_by("pk"),
        "roles": Membership.Role.choices,
        "form": form,
    }
    return render(request, "labelhub/members.html", context, status=status)
