"""Whose token it is, their projects, and what belongs to each as a whole."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from labelhub import access
from labelhub.api.base import (
    Answer,
    ApiView,
    Body,
    Filters,
    Needs,
    ProjectView,
    RowList,
    Scope,
    once,
)
from labelhub.models import ApiToken, Event, Guideline, Membership, Project


class TokenOut(serializers.ModelSerializer):
    user = serializers.CharField(source="user.username")
    project = serializers.SlugField(source="project.slug", allow_null=True)
    scopes = serializers.ListField(child=serializers.ChoiceField(Scope.choices))

    class Meta:
        model = ApiToken
        fields = ["user", "name", "scopes", "project", "expires_at"]


class ProjectOut(serializers.ModelSerializer):
    role = serializers.ChoiceField(Membership.Role.choices)

    class Meta:
        model = Project
        fields = [
            "slug",
            "name",
            "description",
            "kind",
            "status",
            "role",
            "judgments_per_task",
            "lease_seconds",
            "allow_tie",
            "allow_both_bad",
            "strength_points",
            "n_tasks",
            "created_at",
        ]


class GuidelineOut(serializers.ModelSerializer):
    class Meta:
        model = Guideline
        fields = ["version", "text", "created_at"]


class GuidelineIn(Body):
    text = serializers.CharField(max_length=200_000, trim_whitespace=False)


class MemberOut(serializers.ModelSerializer):
    username = serializers.CharField(source="user.username")
    name = serializers.CharField(source="user.name")

    class Meta:
        model = Membership
        fields = ["id", "username", "name", "role", "n_judged", "created_at"]


class MemberFilters(Filters):
    role = serializers.ChoiceField(Membership.Role.choices, required=False)


class EventOut(serializers.ModelSerializer):
    actor = serializers.CharField(source="actor.username", allow_null=True)

    class Meta:
        model = Event
        fields = ["id", "actor", "verb", "subject", "data", "at"]


class EventFilters(Filters):
    verb = serializers.CharField(required=False)
    actor = serializers.CharField(required=False, help_text="A user name.")
    subject = serializers.CharField(required=False, help_text="As run:12.")


class Me(ApiView):
    """Whose token this is, and what it may do."""

    needs = {"GET": Needs()}
    answers = {"GET": Answer(TokenOut)}

    def get(self, request: Request) -> Response:
        return self.answer(request.auth)


class NotThere(ApiView):
    """What no other route is."""

    schema = None
    needs = {"GET": Needs(), "POST": Needs()}

    def get(self, request: Request, rest: str) -> Response:
        raise Http404(f"There is no /api/v1/{rest[:100]}.")

    post = get


class ProjectList(RowList):
    """The projects of the token's person."""

    needs = {"GET": Needs(Scope.READ)}
    answers = {"GET": Answer(ProjectOut)}

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        ApiView.initial(self, request, *args, **kwargs)

    def rows(self, wanted: dict[str, Any]) -> QuerySet[Project]:
        token = self.request.auth
        projects = access.projects_of(self.request.user)
        if token.project_id is not None:
            projects = projects.filter(pk=token.project_id)
        return projects

    def paginate_queryset(self, queryset: QuerySet[Project]) -> list[Project]:
        page: list[Project] = super().paginate_queryset(queryset)
        roles = dict(self.request.user.memberships.values_list("project_id", "role"))
        for project in page:
            project.role = roles.get(project.pk, access.Role.MANAGER)
        return page


class ProjectDetail(ProjectView):
    """One project."""

    needs = {"GET": Needs(Scope.READ, Membership.Role.values)}
    answers = {"GET": Answer(ProjectOut)}

    def get(self, request: Request, slug: str) -> Response:
        return self.answer(self.project)


class GuidelineList(RowList):
    """The versions of the guidelines."""

    needs = {
        "GET": Needs(Scope.READ, Membership.Role.values),
        "POST": Needs(Scope.MANAGE, access.MANAGERS),
    }
    bodies = {"POST": GuidelineIn}
    answers = {"GET": Answer(GuidelineOut), "POST": Answer(GuidelineOut, 201)}

    def rows(self, wanted: dict[str, Any]) -> QuerySet[Guideline]:
        return self.project.guidelines.all()

    @once
    def post(self, request: Request, slug: str) -> Response:
        """Write the next version, unless the newest says the same."""
        text = self.body()["text"]
        with transaction.atomic():
            # Two who write at once would make the same version.
            list(Project.objects.select_for_update().filter(pk=self.project.pk))
            before = self.project.current_guideline()
            guideline = self.project.write_guideline(text, request.user)
            if guideline != before:
                Event.objects.create(
                    project=self.project,
                    actor=request.user,
                    verb="project.changed",
                    data={"guidelines": text},
                )
        return self.answer(guideline)


class MemberList(RowList):
    """Who takes part."""

    needs = {"GET": Needs(Scope.READ, access.MANAGERS)}
    answers = {"GET": Answer(MemberOut)}
    filters = MemberFilters

    def rows(self, wanted: dict[str, Any]) -> QuerySet[Membership]:
        return self.project.memberships.filter(**wanted).select_related("user")


class EventList(RowList):
    """The audit log, newest first."""

    needs = {"GET": Needs(Scope.READ, access.MANAGERS)}
    answers = {"GET": Answer(EventOut)}
    filters = EventFilters
    newest_first = True

    def rows(self, wanted: dict[str, Any]) -> QuerySet[Event]:
        if "actor" in wanted:
            wanted["actor__username"] = wanted.pop("actor")
        return self.project.events.filter(**wanted).select_related("actor")
