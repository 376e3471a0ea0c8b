"""Frozen datasets: freeze one, see how far it is, take its files."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http import HttpResponseBase
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
from labelhub.models import Judgment
from training import access, downloads, exporting
from training.forms import FROZEN_FOR
from training.models import Snapshot
from training.recipes import Margins, Recipe, RecipeError, Ties

refusals[RecipeError] = "recipe_refused"


class SnapshotOut(serializers.ModelSerializer):
    class Meta:
        model = Snapshot
        fields = [
            "id",
            "state",
            "recipe",
            "n_judgments",
            "n_train",
            "n_eval",
            "ledger",
            "sha256",
            "files",
            "error",
            "progress",
            "created_at",
            "finished_at",
        ]


class SnapshotFilters(Filters):
    state = serializers.ChoiceField(Snapshot.State.choices, required=False)


class SnapshotIn(Body):
    algorithm = serializers.ChoiceField(
        [(key.value, label) for key, label in FROZEN_FOR]
    )
    judges = serializers.ListField(
        child=serializers.ChoiceField(Judgment.Source.choices),
        required=False,
        help_text="A task takes its verdict from the first kind that judged it.",
    )
    ties = serializers.ChoiceField([tie.value for tie in Ties], required=False)
    min_votes = serializers.IntegerField(min_value=1, max_value=1000, required=False)
    min_strength = serializers.IntegerField(
        min_value=0,
        max_value=3,
        required=False,
        help_text="Preferences that are weaker on average are left out.",
    )
    margins = serializers.ChoiceField(
        [margin.value for margin in Margins],
        required=False,
        help_text="A column margin for a reward model.",
    )
    eval_share = serializers.FloatField(min_value=0, max_value=0.9, required=False)
    seed = serializers.IntegerField(min_value=0, max_value=2**31 - 1, required=False)


class SnapshotList(RowList):
    """Frozen datasets, newest first."""

    needs = {
        "GET": Needs(Scope.READ, READERS),
        "POST": Needs(Scope.MANAGE, MANAGERS),
    }
    bodies = {"POST": SnapshotIn}
    answers = {"GET": Answer(SnapshotOut), "POST": Answer(SnapshotOut, 202)}
    filters = SnapshotFilters
    newest_first = True

    def rows(self, wanted: dict[str, Any]) -> QuerySet[Snapshot]:
        return Snapshot.objects.filter(project=self.project, **wanted)

    @once
    def post(self, request: Request, slug: str) -> Response:
        """Freeze a dataset; the queue makes it. What is not said is as on the page."""
        recipe = Recipe(**self.body())
        return self.answer(exporting.ask(self.project, recipe, actor=request.user))


class SnapshotDetail(ProjectView):
    """One dataset; its state is ready or failed when it is over."""

    needs = {"GET": Needs(Scope.READ, READERS)}
    answers = {"GET": Answer(SnapshotOut)}

    def get(self, request: Request, slug: str, pk: int) -> Response:
        return self.answer(access.snapshot_for(request.user, slug, pk))


class SnapshotFile(ProjectView):
    """One of its files, or train and eval as .jsonl or .csv."""

    needs = {"GET": Needs(Scope.READ, READERS)}
    answers = {"GET": Answer(None)}

    def get(self, request: Request, slug: str, pk: int, name: str) -> HttpResponseBase:
        snapshot = access.snapshot_for(request.user, slug, pk)
        return downloads.snapshot_file(snapshot, name)
