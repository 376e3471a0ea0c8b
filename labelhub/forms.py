"""What people type: to sign in, beside a verdict, and to manage a project."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib.auth.forms import AuthenticationForm, UsernameField
from django.core.files.uploadedfile import UploadedFile
from django.db import models
from django.utils.text import slugify

from labelhub import searching, verdicts
from labelhub.importing.formats import NAMES as FORMAT_NAMES
from labelhub.importing.options import ImportOptions, ImportRefused, parse_map
from labelhub.models import (
    ApiToken,
    Event,
    ImportBatch,
    Judgment,
    Membership,
    Project,
    Task,
    User,
    api_token,
)
from labelhub.models.event import EventQuerySet

if TYPE_CHECKING:
    ProjectModelForm = forms.ModelForm[Project]
else:  # Django's own is not generic.
    ProjectModelForm = forms.ModelForm


Verdict = Judgment.Verdict
PAIRWISE_VERDICTS = (Verdict.A, Verdict.B, Verdict.TIE, Verdict.BOTH_BAD)
BINARY_VERDICTS = (Verdict.GOOD, Verdict.BAD)


class LoginForm(AuthenticationForm):
    """Django's own checks no length, and the lock-out's table has room for 255."""

    username = UsernameField(
        max_length=150, widget=forms.TextInput(attrs={"autofocus": True})
    )


class TokenForm(forms.Form):
    name = forms.CharField(
        max_length=100, label="What it is for", help_text="As nightly import."
    )
    scopes = forms.MultipleChoiceField(
        choices=ApiToken.Scope.choices,
        label="It may",
        widget=forms.CheckboxSelectMultiple,
        help_text="And never more than you may yourself.",
    )
    project = forms.ModelChoiceField(
        Project.objects.none(),
        required=False,
        label="Project",
        empty_label="All of mine",
    )
    days = forms.IntegerField(
        label="Days until it expires",
        min_value=1,
        max_value=365,
        initial=api_token.DAYS,
    )

    def __init__(
        self, *args: Any, projects: models.QuerySet[Project], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        field: Any = self.fields["project"]
        field.queryset = projects


class NoteForm(forms.Form):
    """What may stand beside a verdict."""

    note = forms.CharField(
        required=False,
        max_length=10_000,
        error_messages={
            "max_length": "The note has %(show_value)d characters; %(limit_value)d "
            "are the most. Shorten it and answer again.",
            "null_characters_not_allowed": "The note holds a NUL character, which "
            "cannot be stored. Remove it and answer again.",
        },
    )


class ProjectForm(ProjectModelForm):
    # None is chosen beforehand, for it can never be changed.
    kind = forms.ChoiceField(choices=Project.Kind.choices, widget=forms.RadioSelect)
    guidelines = forms.CharField(
        required=False,
        widget=forms.Textarea(attrs={"rows": 10}),
        help_text="What annotators should look for. Markdown; a change makes a new "
        "version, and every judgment keeps the version it was made by.",
    )

    class Meta:
        model = Project
        fields = [
            "name",
            "description",
            "kind",
            "judgments_per_task",
            "order",
            "allow_tie",
            "allow_both_bad",
            "lease_seconds",
        ]
        widgets = {
            "description": forms.Textarea(attrs={"rows": 2}),
        }
        labels = {"lease_seconds": "Lease, in seconds"}

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        slug = slugify(cleaned.get("name", ""))[:80]
        if cleaned.get("name") and not slug:
            self.add_error("name", "The name needs at least one letter or digit.")
        elif not self.instance.pk and slug == "new":
            self.add_error("name", "The address “new” is taken; choose another name.")
        elif (
            not self.instance.pk and slug and Project.objects.filter(slug=slug).exists()
        ):
            self.add_error(
                "name", f"There is a project at the address “{slug}” already."
            )
        if not self.instance.pk:
            self.instance.slug = slug
        return cleaned


class ProjectSettingsForm(ProjectForm):
    """The same for a project that exists. Its kind and address stay."""

    kind = None  # type: ignore[assignment]

    class Meta(ProjectForm.Meta):
        fields = ["name", "description", "status", *ProjectForm.Meta.fields[3:]]
        help_texts = {
            "judgments_per_task": "How many people judge each task that is imported "
            "from now on; tasks that are there keep their number.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        guideline = self.instance.current_guideline()
        self.fields["guidelines"].initial = guideline.text if guideline else ""


class VerdictSettingsForm(ProjectModelForm):
    """What annotators are asked beside which is better."""

    class Meta:
        model = Project
        fields = ["strength_points"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.instance.is_pairwise:
            del self.fields["strength_points"]

    def clean_strength_points(self) -> int:
        """Two scales in one dataset would say different things by the same number."""
        points: int = self.cleaned_data["strength_points"]
        before = self.initial["strength_points"]
        told = self.instance.judgments.filter(strength__gt=0)
        if points != before and told.exists():
            raise forms.ValidationError(
                f"Judgments say how much better on {before} points already, and "
                "strengths on two scales cannot be told apart: make another project "
                "for another scale."
            )
        return points


class ProbesForm(ProjectModelForm):
    class Meta:
        model = Project
        fields = ["repeat_share", "gold_share", "gold_feedback"]
        widgets = {
            name: forms.NumberInput(attrs={"min": "0", "max": "0.2", "step": "0.01"})
            for name in ("repeat_share", "gold_share")
        }


class GoldForm(forms.Form):
    """The right verdict on one task; a and b as they lie, for no annotator sees it."""

    verdict = forms.ChoiceField(widget=forms.RadioSelect)
    explanation = forms.CharField(
        required=False,
        max_length=10_000,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="Why. People read it after their answer, if the project tells them.",
    )

    def __init__(self, *args: Any, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field: Any = self.fields["verdict"]
        field.choices = [
            (verdict.value, verdict.label) for verdict in verdicts.offered(project)
        ]


class FilesInput(forms.ClearableFileInput):
    allow_multiple_selected = True


class FilesField(forms.FileField):
    """Several files at once, as a list."""

    widget = FilesInput

    def clean(self, data: Any, initial: Any = None) -> list[UploadedFile[bytes]]:
        given = data if isinstance(data, list | tuple) else [data] if data else []
        cleaned = super().clean
        return [cleaned(file, initial) for file in given]


class ImportForm(forms.Form):
    """What to import and how; `options` are made of the rest of the fields."""

    upload = forms.CharField(required=False, widget=forms.HiddenInput)
    file = FilesField(
        required=False,
        label="Files",
        help_text="JSON lines, JSON, CSV or Parquet. Several files are one import and "
        "may refer to each other by id.",
    )
    text = forms.CharField(
        required=False,
        label="Or paste rows",
        widget=forms.Textarea(attrs={"rows": 4, "spellcheck": "false"}),
        help_text="JSON lines, or CSV with a first line of column names.",
    )
    format = forms.ChoiceField(
        choices=[("auto", "Tell by the columns"), *((n, n) for n in FORMAT_NAMES)]
    )
    judge = forms.CharField(
        required=False,
        max_length=200,
        label="Who judged",
        help_text="A name, where the files hold verdicts and do not say whose.",
    )
    judge_kind = forms.ChoiceField(
        required=False,
        label="The judge is",
        choices=[("", "As the format says"), ("human", "People"), ("model", "A model")],
    )
    pairs = forms.CharField(
        required=False,
        label="Pairs to judge",
        max_length=401,
        help_text="reviewed, all, adjacent, none or MODEL:MODEL. If empty, the "
        "reviewed pairs where the files hold verdicts, else all.",
    )
    map = forms.CharField(
        required=False,
        label="Rename columns",
        widget=forms.Textarea(attrs={"rows": 2, "spellcheck": "false"}),
        help_text="FROM=TO, one a line, as question=prompt.",
    )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if not any(cleaned.get(name) for name in ("file", "text", "upload")):
            self.add_error("file", "Choose a file or paste some rows.")
        try:
            cleaned["options"] = ImportOptions(
                format=cleaned.get("format", "auto"),
                map=parse_map(cleaned.get("map", "").splitlines()),
                judge=cleaned.get("judge", ""),
                judge_kind=cleaned.get("judge_kind", ""),
                pairs=cleaned.get("pairs", "").strip(),
            )
        except ImportRefused as exc:
            self.add_error(None, exc.sentence)
        return cleaned


class MemberForm(forms.Form):
    username = forms.CharField(max_length=150)
    role = forms.ChoiceField(choices=Membership.Role.choices)

    def __init__(self, *args: Any, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.project = project

    def clean_username(self) -> str:
        username: str = User.normalize_username(self.cleaned_data["username"].strip())
        User.username_validator(username)
        if self.project.memberships.filter(user__username=username).exists():
            raise forms.ValidationError(
                f"“{username}” is in this project already; change the role in the list."
            )
        return username


class RemoveMemberForm(forms.Form):
    """Asks for the name, so that nobody is removed by a slip."""

    username = forms.CharField(max_length=150)

    def __init__(self, *args: Any, membership: Membership, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.membership = membership

    def clean_username(self) -> str:
        expected = self.membership.user.username
        if self.cleaned_data["username"].strip() != expected:
            raise forms.ValidationError(f"Type “{expected}” to remove this person.")
        return str(expected)


class AuditForm(forms.Form):
    """What to look for in the audit log; sent by GET, every field may be empty."""

    q = forms.CharField(
        required=False,
        max_length=200,
        widget=forms.TextInput(
            attrs={"type": "search", "aria-label": "Search", "placeholder": "Search"}
        ),
    )
    actor = forms.ModelChoiceField(
        User.objects.none(),
        required=False,
        empty_label="Anybody",
        to_field_name="username",
        widget=forms.Select(attrs={"aria-label": "Who"}),
    )
    day = forms.DateField(
        required=False,
        widget=forms.DateInput(attrs={"type": "date", "aria-label": "Up to this day"}),
        error_messages={"invalid": "That is no day; write it as 2026-11-23."},
    )
    before = forms.IntegerField(
        required=False, max_value=2**63 - 1, widget=forms.HiddenInput
    )

    def __init__(self, *args: Any, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.project = project
        actors = project.events.order_by().values("actor")
        field: Any = self.fields["actor"]
        field.queryset = User.objects.filter(pk__in=actors).order_by("username")

    def found(self) -> EventQuerySet:
        wanted = self.cleaned_data
        events = Event.objects.filter(project=self.project)
        if wanted["q"]:
            events = events.containing(wanted["q"])
        if wanted["actor"]:
            events = events.filter(actor=wanted["actor"])
        if wanted["day"]:
            events = events.filter(at__date__lte=wanted["day"])
        if wanted["before"]:
            events = events.filter(pk__lt=wanted["before"])
        return events


def _select(label: str) -> forms.Select:
    return forms.Select(attrs={"aria-label": label})


class DataForm(forms.Form):
    """Which tasks the data explorer shows; sent by GET, every field may be empty."""

    q = forms.CharField(
        required=False,
        max_length=200,
        widget=forms.TextInput(
            attrs={
                "type": "search",
                "aria-label": "Words of the prompt or of a response",
                "placeholder": "Words of a prompt or a response",
            }
        ),
    )
    state = forms.ChoiceField(
        required=False,
        choices=[
            ("", "Any state"),
            *(
                (state.value, state.label)
                for state in Task.Status
                if state != Task.Status.PROBE
            ),
        ],
        widget=_select("State"),
    )
    verdict = forms.ChoiceField(required=False, widget=_select("Verdict"))
    annotator = forms.ModelChoiceField(
        User.objects.none(),
        required=False,
        empty_label="Judged by anybody",
        to_field_name="username",
        widget=_select("Judged by"),
    )
    model = forms.CharField(
        required=False,
        max_length=200,
        widget=forms.TextInput(
            attrs={"aria-label": "Model", "placeholder": "Model", "list": "models"}
        ),
    )
    batch = forms.ModelChoiceField(
        ImportBatch.objects.none(),
        required=False,
        empty_label="Any import",
        widget=_select("Import"),
    )
    priority = forms.IntegerField(
        required=False,
        min_value=-32_768,
        max_value=32_767,
        widget=forms.NumberInput(
            attrs={"aria-label": "Priority", "placeholder": "Priority"}
        ),
    )
    guideline = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=2**31 - 1,
        widget=forms.NumberInput(
            attrs={
                "aria-label": "Version of the guidelines",
                "placeholder": "Guidelines version",
            }
        ),
    )
    disagree = forms.BooleanField(required=False, label="Judges disagree")
    before = forms.IntegerField(
        required=False, max_value=2**63 - 1, widget=forms.HiddenInput
    )

    def __init__(self, *args: Any, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        fields: dict[str, Any] = self.fields
        offered = PAIRWISE_VERDICTS if project.is_pairwise else BINARY_VERDICTS
        fields["verdict"].choices = [
            ("", "Any verdict"),
            *((verdict, verdict.label) for verdict in offered),
        ]
        people = User.objects.filter(memberships__project=project)
        fields["annotator"].queryset = people.order_by("username")
        batches = project.imports.exclude(state=ImportBatch.State.REMOVED)
        fields["batch"].queryset = batches.order_by("-pk")
        fields["batch"].label_from_instance = _name_of_import

    def clean_q(self) -> str:
        text = str(self.cleaned_data["q"])
        if text.strip() and not searching.words_of(text):
            raise forms.ValidationError(
                f"“{text}” holds no word; search for letters or digits."
            )
        return text.strip()


class CompareForm(forms.Form):
    """Two versions of the guidelines; sent by GET. Without any, the last two."""

    old = forms.TypedChoiceField(required=False, coerce=int, empty_value=None)
    new = forms.TypedChoiceField(required=False, coerce=int, empty_value=None)

    def __init__(self, *args: Any, versions: list[int], **kwargs: Any) -> None:
        """`versions` has the newest first."""
        super().__init__(*args, **kwargs)
        self.versions = versions
        fields: dict[str, Any] = self.fields
        for name in ("old", "new"):
            fields[name].choices = [(v, f"Version {v}") for v in versions]
            fields[name].error_messages["invalid_choice"] = (
                "There is no version %(value)s."
            )

    def compared(self) -> tuple[int | None, int | None]:
        """What was asked for; beside one version, the one before it."""
        new = self.cleaned_data["new"] or next(iter(self.versions), None)
        old = self.cleaned_data["old"]
        if old is None and new is not None:
            old = next((v for v in self.versions if v < new), None)
        return old, new


def _name_of_import(batch: ImportBatch) -> str:
    first = batch.files[0]["name"] if batch.files else batch.get_state_display()
    return f"Import {batch.pk}: {first}"
