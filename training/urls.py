"""The addresses of the training pages."""

from __future__ import annotations

from django.urls import include, path

from training.views import launch, metrics, run_actions, run_log, runs, snapshots

app_name = "training"

# /projects/<slug>/runs/<pk>/
run_urls = [
    path("", runs.run_detail, name="run"),
    path("head/", runs.run_head, name="run_head"),
    path("metrics.json", metrics.metrics, name="metrics"),
    path("metrics.csv", metrics.metrics_csv, name="metrics_csv"),
    path("log/", run_log.run_log, name="run_log"),
    path("log/<int:fence>/more/", run_log.log_more, name="log_more"),
    path("samples/", runs.run_samples, name="run_samples"),
    path("data/", runs.run_data, name="run_data"),
    path("rows/", runs.run_rows, name="run_rows"),
    path("config/", runs.run_config, name="run_config"),
    path("history/", runs.run_history, name="run_history"),
    path("stop/", run_actions.stop, name="stop"),
    path("cancel/", run_actions.cancel, name="cancel"),
    path("retry/", run_actions.retry, name="retry"),
]

# /projects/<slug>/snapshots/
snapshot_urls = [
    path("", snapshots.snapshot_list, name="snapshots"),
    path("new/", snapshots.freeze, name="freeze"),
    path("<int:pk>/", snapshots.snapshot_detail, name="snapshot"),
    path("<int:pk>/again/", snapshots.freeze_again, name="freeze_again"),
    path("<int:pk>/files/<str:name>", snapshots.snapshot_file, name="snapshot_file"),
]

urlpatterns = [
    path("projects/<slug:slug>/snapshots/", include(snapshot_urls)),
    path("projects/<slug:slug>/runs/", runs.run_list, name="runs"),
    path("projects/<slug:slug>/runs/new/", launch.launch, name="launch"),
    path(
        "projects/<slug:slug>/runs/new/summary/",
        launch.launch_summary,
        name="launch_summary",
    ),
    path("projects/<slug:slug>/runs/<int:pk>/", include(run_urls)),
]
