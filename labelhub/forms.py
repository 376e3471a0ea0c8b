"""What project managers type."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.text import slugify

from labelhub.models import Membership, Project, User


class ProjectForm(forms.ModelForm):
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
            "kind": forms.RadioSelect,
        }
        labels = {"lease_seconds": "Lease, in seconds"}

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        slug = slugify(cleaned.get("name", ""))[:80]
        if cleaned.get("name") and not slug:
            self.add_error("name", "The name needs at least one letter or digit.")
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
