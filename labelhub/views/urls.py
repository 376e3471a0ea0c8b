"""The addresses of the labelling pages."""

from __future__ import annotations

from django.urls import path

from labelhub.views import (
    audit,
    data,
    guidelines,
    health,
    imports,
    judging,
    members,
    preferences,
    probes,
    projects,
    quality,
    tokens,
)

app_name = "labelhub"

urlpatterns = [
    path("healthz", health.healthz, name="healthz"),
    path("", projects.project_list, name="projects"),
    path("preferences/", preferences.preferences, name="preferences"),
    path("projects/new/", projects.create_project, name="create_project"),
    path("account/tokens/", tokens.tokens, name="tokens"),
    path("account/tokens/<int:pk>/revoke/", tokens.revoke_token, name="revoke_token"),
    # /projects/<slug>/
    path("projects/<slug:slug>/", projects.project_detail, name="project"),
    path(
        "projects/<slug:slug>/settings/",
        projects.project_settings,
        name="project_settings",
    ),
    path(
        "projects/<slug:slug>/settings/verdicts/",
        projects.verdict_settings,
        name="verdict_settings",
    ),
    path("projects/<slug:slug>/imports/", imports.import_list, name="imports"),
    path("projects/<slug:slug>/imports/new/", imports.import_data, name="import_data"),
    path(
        "projects/<slug:slug>/imports/<int:pk>/",
        imports.import_batch,
        name="import_batch",
    ),
    path(
        "projects/<slug:slug>/imports/<int:pk>/start/",
        imports.start_import,
        name="start_import",
    ),
    path("projects/<slug:slug>/quality/", quality.quality, name="quality"),
    path(
        "projects/<slug:slug>/quality/measure/",
        quality.measure_quality,
        name="measure_quality",
    ),
    path("projects/<slug:slug>/data/", data.data, name="data"),
    path("projects/<slug:slug>/data/<int:pk>/", data.task_detail, name="task"),
    path("projects/<slug:slug>/guidelines/", guidelines.guidelines, name="guidelines"),
    path("projects/<slug:slug>/members/", members.members, name="members"),
    path("projects/<slug:slug>/members/add/", members.add_member, name="add_member"),
    path(
        "projects/<slug:slug>/members/<int:pk>/role/",
        members.change_role,
        name="change_role",
    ),
    path(
        "projects/<slug:slug>/members/<int:pk>/remove/",
        members.remove_member,
        name="remove_member",
    ),
    path("projects/<slug:slug>/probes/", probes.probes_page, name="probes"),
    path("projects/<slug:slug>/probes/<int:pk>/", probes.gold, name="gold"),
    path(
        "projects/<slug:slug>/probes/<int:pk>/withdraw/",
        probes.withdraw_gold,
        name="withdraw_gold",
    ),
    path("projects/<slug:slug>/audit/", audit.audit, name="audit"),
    # /projects/<slug>/judge/
    path("projects/<slug:slug>/judge/", judging.judge, name="judge"),
    path(
        "projects/<slug:slug>/judge/history/",
        judging.judging_history,
        name="judging_history",
    ),
    path(
        "projects/<slug:slug>/judge/<uuid:pk>/", judging.judge_item, name="judge_item"
    ),
    path(
        "projects/<slug:slug>/judge/<uuid:pk>/extend/",
        judging.extend_item,
        name="extend_item",
    ),
]
