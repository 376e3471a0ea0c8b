"""Finding the project that a command names."""

from __future__ import annotations

from django.core.management.base import CommandError
from django.db.models import Q

from labelhub.models import Project


def project_named(name: str) -> Project:
    """The project with this slug or name.

    Raises:
        CommandError: there is none; the sentence lists those there are.
    """
    project = Project.objects.filter(Q(slug=name) | Q(name=name)).first()
    if project is None:
        known = ", ".join(Project.objects.values_list("slug", flat=True)[:20])
        raise CommandError(f"There is no project {name!r}, only: {known or 'none'}.")
    return project
