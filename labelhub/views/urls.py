"""The addresses of the labelling pages."""

from __future__ import annotations

from django.urls import path

from labelhub.views import health, projects

app_name = "labelhub"

urlpatterns = [
    path("healthz", health.healthz, name="healthz"),
    path("", projects.project_list, name="projects"),
    path("projects/new/", projects.create_project, name="create_project"),
    # /projects/<slug>/
    path("projects/<slug:slug>/", projects.project_detail, name="project"),
]
