"""The labelling app."""

from __future__ import annotations

from django.apps import AppConfig


class LabelHubConfig(AppConfig):
    name = "labelhub"
    verbose_name = "LabelHub"
