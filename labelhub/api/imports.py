"""Imports: files or rows in, and what became of them."""

from __future__ import annotations

import json
from typing import Any

from django.core.files.uploadedfile import SimpleUploadedFile, UploadedFile
from django.db.models import QuerySet
from rest_framework import serializers
from rest_framework.parsers import JSONParser, MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from labelhub import access, importing
from labelhub.api.base import (
    Answer,
    Body,
    Filters,
    Needs,
    ProjectView,
    RowList,
    Scope,
)
from labelhub.importing import ImportOptions, ImportRefused, uploads
from labelhub.importing.formats import NAMES as FORMATS
from labelhub.models import ImportBatch


class ImportOut(serializers.ModelSerializer):
    is_repeat = serializers.BooleanField(
        help_text="These very files were imported before: nothing is new."
    )

    class Meta:
        model = ImportBatch
        fields = [
            "id",
            "state",
            "format",
            "files",
            "counts",
            "n_rows",
            "n_read",
            "error",
            "is_repeat",
            "created_at",
            "finished_at",
        ]


class ImportFilters(Filters):
    state = serializers.ChoiceField(ImportBatch.State.choices, required=False)


class ImportIn(Body):
    """Rows, or in multipart/form-data any number of parts `file`."""

    rows = serializers.ListField(
        child=serializers.DictField(), required=False, allow_empty=False
    )
    file = serializers.FileField(required=False)
    format = serializers.ChoiceField(["auto", *FORMATS], required=False, default="auto")
    map = serializers.DictField(
        child=serializers.CharField(),
        required=False,
        default=dict,
        help_text="Columns to rename, from: to. With files, JSON.",
    )
    judge = serializers.CharField(required=False, default="", allow_blank=True)
    judge_kind = serializers.CharField(required=False, default="", allow_blank=True)
    pairs = serializers.CharField(required=False, default="", allow_blank=True)

    def to_internal_value(self, data: Any) -> Any:
        if hasattr(data, "getlist"):
            # A form: one value a name, and `map` in JSON.
            data = {name: data[name] for name in data}
            try:
                data["map"] = json.loads(data.get("map") or "{}")
            except ValueError:
                raise serializers.ValidationError({"map": ["Not JSON."]}) from None
        return super().to_internal_value(data)

    def validate(self, sent: dict[str, Any]) -> dict[str, Any]:
        if ("rows" in sent) == ("file" in sent):
            raise serializers.ValidationError(
                "Send either rows or, in multipart/form-data, files."
            )
        return sent


class ImportList(RowList):
    """Imports, newest first."""

    needs = {
        "GET": Needs(Scope.READ, access.MANAGERS),
        "POST": Needs(Scope.MANAGE, access.MANAGERS),
    }
    bodies = {"POST": ImportIn}
    answers = {"GET": Answer(ImportOut), "POST": Answer(ImportOut, 202)}
    filters = ImportFilters
    newest_first = True
    parser_classes = [JSONParser, MultiPartParser]

    def rows(self, wanted: dict[str, Any]) -> QuerySet[ImportBatch]:
        return self.project.imports.filter(**wanted)

    def post(self, request: Request, slug: str) -> Response:
        """Check rows or files; the queue imports them.

        No Idempotency-Key is needed: the same rows or files with the same options are
        the same import.
        """
        sent = self.body()
        options = ImportOptions(
            **{name: sent[name] for name in ImportOptions.__dataclass_fields__}
        )
        token = uploads.keep(self.project, request.user, _files(request, sent))
        try:
            batch = importing.offer_upload(self.project, token, options, request.user)
        except ImportRefused:
            uploads.discard(token)
            raise
        return self.answer(batch)


class ImportDetail(ProjectView):
    """One import; its state is complete, failed or removed when it is over."""

    needs = {"GET": Needs(Scope.READ, access.MANAGERS)}
    answers = {"GET": Answer(ImportOut)}

    def get(self, request: Request, slug: str, pk: int) -> Response:
        return self.answer(access.import_for(request.user, slug, pk))


def _files(request: Request, sent: dict[str, Any]) -> list[UploadedFile[bytes]]:
    if "file" in sent:
        return list(request.FILES.getlist("file"))
    lines = "".join(f"{json.dumps(row)}\n" for row in sent["rows"])
    return [SimpleUploadedFile("rows.jsonl", lines.encode())]
