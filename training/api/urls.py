"""The addresses of datasets and runs in the API."""

from __future__ import annotations

from django.urls import include, path

from training.api import runs, snapshots

app_name = "training_api"

project_urls = [
    path("snapshots", snapshots.SnapshotList.as_view(), name="snapshots"),
    path("snapshots/<int:pk>", snapshots.SnapshotDetail.as_view(), name="snapshot"),
    path(
        "snapshots/<int:pk>/files/<str:name>",
        snapshots.SnapshotFile.as_view(),
        name="snapshot_file",
    ),
    path("runs", runs.RunList.as_view(), name="runs"),
    path("runs/<int:pk>", runs.RunDetail.as_view(), name="run"),
    path("runs/<int:pk>/metrics", runs.RunMetrics.as_view(), name="metrics"),
    path("runs/<int:pk>/log", runs.RunLog.as_view(), name="log"),
    path("runs/<int:pk>/stop", runs.Stop.as_view(), name="stop"),
    path("runs/<int:pk>/cancel", runs.Cancel.as_view(), name="cancel"),
    path("runs/<int:pk>/retry", runs.Retry.as_view(), name="retry"),
]
urlpatterns = [path("projects/<slug:slug>/", include(project_urls))]
