"""Prompts, responses, tasks and judgments, for those who review; and feedback."""

from __future__ import annotations

from typing import Any

from django.db.models import Q, QuerySet
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from labelhub import access, feedback
from labelhub.api.base import (
    REVIEWERS,
    Answer,
    Body,
    Filters,
    Needs,
    ProjectView,
    RowList,
    Scope,
    once,
)
from labelhub.api.errors import Conflict, refusals
from labelhub.models import Judgment, Prompt, Task
from labelhub.models import Response as ModelResponse

refusals[feedback.FeedbackRefused] = "feedback_refused"


class MessageOut(serializers.Serializer):
    role = serializers.CharField()
    content = serializers.CharField()


class PromptOut(serializers.ModelSerializer):
    messages = MessageOut(many=True)
    import_id = serializers.IntegerField(source="batch_id", allow_null=True)

    class Meta:
        model = Prompt
        fields = ["id", "messages", "external_id", "metadata", "import_id"]


class ResponseOut(serializers.ModelSerializer):
    prompt = serializers.IntegerField(source="prompt_id")
    model = serializers.CharField(source="model_name")
    import_id = serializers.IntegerField(source="batch_id", allow_null=True)

    class Meta:
        model = ModelResponse
        fields = [
            "id",
            "prompt",
            "model",
            "text",
            "external_id",
            "is_demonstration",
            "import_id",
        ]


class TaskOut(serializers.ModelSerializer):
    prompt = serializers.IntegerField(source="prompt_id")
    response_a = serializers.IntegerField(source="response_a_id")
    response_b = serializers.IntegerField(source="response_b_id", allow_null=True)
    import_id = serializers.IntegerField(source="batch_id", allow_null=True)

    class Meta:
        model = Task
        fields = [
            "id",
            "prompt",
            "response_a",
            "response_b",
            "status",
            "priority",
            "n_required",
            "n_done",
            "n_leased",
            "import_id",
        ]


class JudgmentOut(serializers.ModelSerializer):
    task = serializers.IntegerField(source="task_id")
    annotator = serializers.CharField(source="annotator.username", allow_null=True)
    import_id = serializers.IntegerField(source="batch_id", allow_null=True)

    class Meta:
        model = Judgment
        fields = [
            "id",
            "task",
            "verdict",
            "strength",
            "source",
            "annotator",
            "judge_name",
            "external_id",
            "revision",
            "surplus",
            "shown_left",
            "note",
            "seconds",
            "import_id",
            "created_at",
        ]


class PromptFilters(Filters):
    external_id = serializers.CharField(required=False)
    import_id = serializers.IntegerField(required=False)


class ResponseFilters(PromptFilters):
    prompt = serializers.IntegerField(required=False)
    model = serializers.CharField(required=False)


class TaskFilters(Filters):
    status = serializers.ChoiceField(Task.Status.choices, required=False)
    prompt = serializers.IntegerField(required=False)
    response = serializers.IntegerField(required=False)
    priority = serializers.IntegerField(required=False)
    import_id = serializers.IntegerField(required=False)


class JudgmentFilters(Filters):
    task = serializers.IntegerField(required=False)
    source = serializers.ChoiceField(Judgment.Source.choices, required=False)
    verdict = serializers.ChoiceField(Judgment.Verdict.choices, required=False)
    annotator = serializers.CharField(required=False, help_text="A user name.")
    revisions = serializers.BooleanField(
        required=False,
        default=False,
        help_text="Also those that a later revision has replaced.",
    )


class FeedbackIn(Body):
    task = serializers.IntegerField(min_value=1, max_value=2**63 - 1)
    verdict = serializers.ChoiceField(Judgment.Verdict.choices)
    user = serializers.CharField(
        max_length=200, help_text="Who thought so: any name that is theirs alone."
    )
    id = serializers.CharField(
        max_length=200,
        required=False,
        default="",
        help_text="The application's own id of it, where one user may speak twice.",
    )
    note = serializers.CharField(
        max_length=10_000, required=False, default="", allow_blank=True
    )


_COLUMNS = {
    "import_id": "batch",
    "model": "model_name",
    "annotator": "annotator__username",
}
_LARGEST = 2**63 - 1


def _columns(wanted: dict[str, Any]) -> dict[str, Any]:
    """The filters by the names of the columns; no row has a number out of range."""
    return {
        _COLUMNS.get(name, name): 0
        if isinstance(value, int) and abs(value) > _LARGEST
        else value
        for name, value in wanted.items()
    }


class PromptList(RowList):
    """Prompts."""

    needs = {"GET": Needs(Scope.READ, REVIEWERS)}
    answers = {"GET": Answer(PromptOut)}
    filters = PromptFilters

    def rows(self, wanted: dict[str, Any]) -> QuerySet[Prompt]:
        return self.project.prompts.filter(**_columns(wanted))


class ResponseList(RowList):
    """Responses, with the model that wrote each."""

    needs = {"GET": Needs(Scope.READ, REVIEWERS)}
    answers = {"GET": Answer(ResponseOut)}
    filters = ResponseFilters

    def rows(self, wanted: dict[str, Any]) -> QuerySet[ModelResponse]:
        return ModelResponse.objects.filter(
            prompt__project=self.project, **_columns(wanted)
        )


class TaskList(RowList):
    """What is to be judged: a pair of responses, or one."""

    needs = {"GET": Needs(Scope.READ, REVIEWERS)}
    answers = {"GET": Answer(TaskOut)}
    filters = TaskFilters

    def rows(self, wanted: dict[str, Any]) -> QuerySet[Task]:
        columns = _columns(wanted)
        tasks = self.project.tasks.filter(repeat_of=None)
        if response := columns.pop("response", None):
            tasks = tasks.filter(Q(response_a=response) | Q(response_b=response))
        return tasks.filter(**columns)


class JudgmentList(RowList):
    """Verdicts, of people, of imports, of end users and of models."""

    needs = {"GET": Needs(Scope.READ, REVIEWERS)}
    answers = {"GET": Answer(JudgmentOut)}
    filters = JudgmentFilters

    def rows(self, wanted: dict[str, Any]) -> QuerySet[Judgment]:
        rows = Judgment.objects.filter(project=self.project)
        if not wanted.pop("revisions"):
            rows = rows.standing()
        return rows.filter(**_columns(wanted)).select_related("annotator")


class FeedbackView(ProjectView):
    """What an end user of an application thought of a task's responses."""

    needs = {"POST": Needs(Scope.FEEDBACK, access.MANAGERS)}
    bodies = {"POST": FeedbackIn}
    answers = {"POST": Answer(JudgmentOut, 201)}

    @once
    def post(self, request: Request, slug: str) -> Response:
        sent = self.body()
        judgment = feedback.record(
            self.project,
            sent["task"],
            sent["verdict"],
            judge_name=sent["user"],
            external_id=sent["id"],
            note=sent["note"],
        )
        if judgment.verdict != sent["verdict"]:
            raise Conflict(
                f"“{sent['user']}” has said “{judgment.verdict}” of task"
                f" {sent['task']} already; send another id to add a verdict."
            )
        return self.answer(judgment)
