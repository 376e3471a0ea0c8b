"""What project managers type."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.text import slugify

from labelhub.models import Project


class ProjectForm(forms.ModelForm[Project]):
    guidelines = forms.CharField(
        required=False,
        widget=forms.Textarea(attrs={"rows": 8}),
        help_text="What annotators should look for. Markdown; versioned when changed.",
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

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        slug = slugify(cleaned.get("name", ""))[:80]
        if cleaned.get("name") and not slug:
            self.add_error("name", "The name needs at least one letter or digit.")
        elif Project.objects.filter(slug=slug).exclude(pk=self.instance.pk).exists():
            self.add_error(
                "name", f"There is a project at the address “{slug}” already."
            )
        if not self.instance.pk:
            self.instance.slug = slug
        return cleaned
