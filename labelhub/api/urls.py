"""The addresses of the API. None ends in a slash."""

from __future__ import annotations

from django.urls import include, path

from labelhub.api import data, imports, judging, projects, reference

app_name = "api"

judging_urls = [
    path("claim", judging.Claim.as_view(), name="claim"),
    path("<uuid:pk>", judging.Item.as_view(), name="item"),
    path("<uuid:pk>/submit", judging.Submit.as_view(), name="submit"),
    path("<uuid:pk>/skip", judging.Skip.as_view(), name="skip"),
    path("<uuid:pk>/release", judging.Release.as_view(), name="release"),
    path("<uuid:pk>/extend", judging.Extend.as_view(), name="extend"),
]
project_urls = [
    path("guidelines", projects.GuidelineList.as_view(), name="guidelines"),
    path("members", projects.MemberList.as_view(), name="members"),
    path("events", projects.EventList.as_view(), name="events"),
    path("imports", imports.ImportList.as_view(), name="imports"),
    path("imports/<int:pk>", imports.ImportDetail.as_view(), name="import"),
    path("prompts", data.PromptList.as_view(), name="prompts"),
    path("responses", data.ResponseList.as_view(), name="responses"),
    path("tasks", data.TaskList.as_view(), name="tasks"),
    path("judgments", data.JudgmentList.as_view(), name="judgments"),
    path("feedback", data.FeedbackView.as_view(), name="feedback"),
    path("judging/", include(judging_urls)),
]
urlpatterns = [
    path("schema", reference.schema, name="schema"),
    path("reference", reference.reference, name="reference"),
    path("me", projects.Me.as_view(), name="me"),
    path("projects", projects.ProjectList.as_view(), name="projects"),
    path("projects/<slug:slug>", projects.ProjectDetail.as_view(), name="project"),
    path("projects/<slug:slug>/", include(project_urls)),
]
