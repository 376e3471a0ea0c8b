"""The only way to load a training row for a person; see labelhub.access."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from django.db.models import QuerySet
from django.http import Http404

from labelhub.access import READERS, project_for
from training.models import Run, Snapshot

if TYPE_CHECKING:
    from labelhub.models import User


def run_for(
    user: User,
    slug: str,
    pk: int,
    roles: Collection[str] = READERS,
    runs: QuerySet[Run] | None = None,
) -> Run:
    """The run, if the person has one of these roles in its project."""
    project = project_for(user, slug, roles)
    found = (Run.objects.all() if runs is None else runs).filter(project=project, pk=pk)
    run = found.select_related("snapshot", "base_run", "created_by").first()
    if run is None:
        raise Http404("No such run.")
    run.project = project
    return run


def snapshot_for(
    user: User, slug: str, pk: int, roles: Collection[str] = READERS
) -> Snapshot:
    """The snapshot, if the person has one of these roles in its project."""
    project = project_for(user, slug, roles)
    found = Snapshot.objects.filter(project=project, pk=pk)
    snapshot = found.select_related("created_by").first()
    if snapshot is None:
        raise Http404("No such snapshot.")
    snapshot.project = project
    return snapshot
