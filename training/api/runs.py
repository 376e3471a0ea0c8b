"""Training runs: launch one, watch it, end it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from django.db.models import QuerySet
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from labelhub.access import MANAGERS, READERS
from labelhub.api.base import (
    Answer,
    Body,
    Filters,
    Needs,
    ProjectView,
    RowList,
    Scope,
    once,
)
from labelhub.api.errors import refusals
from training import access, runs
from training.core.errors import RLHFError
from training.models import LogChunk, MetricPoint, Run

refusals |= {runs.RunRefused: "run_refused", RLHFError: "configuration_refused"}


class RunOut(serializers.ModelSerializer):
    snapshot = serializers.IntegerField(source="snapshot_id", allow_null=True)
    base_run = serializers.IntegerField(source="base_run_id", allow_null=True)

    class Meta:
        model = Run
        fields = [
            "id",
            "name",
            "algorithm",
            "state",
            "waiting_for",
            "phase",
            "step",
            "max_steps",
            "snapshot",
            "base_run",
            "config",
            "result",
            "error",
            "created_at",
            "started_at",
            "finished_at",
        ]


class RunIn(Body):
    name = serializers.CharField(max_length=120)
    config = serializers.DictField(help_text="As an RLHFConfig; docs/training-core.md.")
    snapshot = serializers.IntegerField(
        min_value=1, required=False, help_text="In place of config.dataset_path."
    )


class RunFilters(Filters):
    state = serializers.ChoiceField(Run.State.choices, required=False)
    algorithm = serializers.CharField(required=False)


class PointOut(serializers.ModelSerializer):
    attempt = serializers.IntegerField(source="attempt.fence")
    value = serializers.FloatField(allow_null=True)

    class Meta:
        model = MetricPoint
        fields = ["attempt", "name", "step", "value", "nonfinite", "at"]


class PointFilters(Filters):
    name = serializers.CharField(required=False, help_text="As loss.")


class LogOut(serializers.ModelSerializer):
    attempt = serializers.IntegerField(source="attempt.fence")

    class Meta:
        model = LogChunk
        fields = ["attempt", "offset", "text"]


class RunList(RowList):
    """Runs, newest first."""

    needs = {
        "GET": Needs(Scope.READ, READERS),
        "POST": Needs(Scope.LAUNCH, MANAGERS),
    }
    bodies = {"POST": RunIn}
    answers = {"GET": Answer(RunOut), "POST": Answer(RunOut, 201)}
    filters = RunFilters
    newest_first = True

    def rows(self, wanted: dict[str, Any]) -> QuerySet[Run]:
        return Run.objects.filter(project=self.project, **wanted)

    @once
    def post(self, request: Request, slug: str) -> Response:
        """Queue a run."""
        sent = self.body()
        config = dict(sent["config"])
        if "snapshot" in sent:
            config["dataset_path"] = f"snapshot:{sent['snapshot']}"
        run = runs.launch(
            self.project, actor=request.user, name=sent["name"], config=config
        )
        return self.answer(run)


class RunDetail(ProjectView):
    """One run; while it is queued, why it waits."""

    needs = {"GET": Needs(Scope.READ, READERS)}
    answers = {"GET": Answer(RunOut)}

    def get(self, request: Request, slug: str, pk: int) -> Response:
        return self.answer(access.run_for(request.user, slug, pk))


class RunMetrics(RowList):
    """Every point as it was reported; NaN and the infinities by name, in nonfinite."""

    needs = {"GET": Needs(Scope.READ, READERS)}
    answers = {"GET": Answer(PointOut)}
    filters = PointFilters

    def rows(self, wanted: dict[str, Any]) -> QuerySet[MetricPoint]:
        run = access.run_for(self.request.user, self.project.slug, self.kwargs["pk"])
        points = MetricPoint.objects.filter(run=run, **wanted)
        return points.select_related("attempt")


class RunLog(RowList):
    """The log in pieces, as they came."""

    needs = {"GET": Needs(Scope.READ, READERS)}
    answers = {"GET": Answer(LogOut)}

    def rows(self, wanted: dict[str, Any]) -> QuerySet[LogChunk]:
        run = access.run_for(self.request.user, self.project.slug, self.kwargs["pk"])
        return LogChunk.objects.filter(attempt__run=run).select_related("attempt")


class RunAction(ProjectView):
    needs = {"POST": Needs(Scope.LAUNCH, MANAGERS)}
    answers = {"POST": Answer(RunOut)}
    act: ClassVar[Callable[..., None]]

    @once
    def post(self, request: Request, slug: str, pk: int) -> Response:
        run = access.run_for(request.user, slug, pk, MANAGERS)
        type(self).act(run, actor=request.user)
        run.refresh_from_db()
        return self.answer(run)


class Stop(RunAction):
    """Ask the run to save what it has learned and end."""

    act = staticmethod(runs.stop)


class Cancel(RunAction):
    """Ask the run to end and keep nothing."""

    act = staticmethod(runs.cancel)


class Retry(RunAction):
    """Queue a failed run again; it goes on from its newest checkpoint."""

    act = staticmethod(runs.retry)
