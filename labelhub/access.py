"""The only way to load a row for a person. Strangers get 404, members without the
right role get 403.

A site admin (`is_superuser`) counts as a manager of every project.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404

from labelhub.models import Assignment, ImportBatch, Membership, Project, Task

if TYPE_CHECKING:
    from uuid import UUID

    from labelhub.models import User

Role = Membership.Role

JUDGES = frozenset({Role.ANNOTATOR, Role.REVIEWER, Role.MANAGER})
"""Who may take items from the queue."""
READERS = frozenset({Role.REVIEWER, Role.MANAGER, Role.VIEWER})
"""Who may read runs, snapshots and statistics; annotators stay blind."""
REVIEWERS = frozenset({Role.REVIEWER, Role.MANAGER})
"""Who may read how people judge, by name."""
MANAGERS = frozenset({Role.MANAGER})


def projects_of(user: User) -> QuerySet[Project]:
    if user.is_superuser:
        return Project.objects.all()
    return Project.objects.filter(memberships__user=user)


def role_in(user: User, project: Project) -> str:
    """The person's role there, or '' for a stranger."""
    if user.is_superuser:
        return Role.MANAGER
    found = Membership.objects.filter(project=project, user=user).values_list("role")
    return found[0][0] if found else ""


# In SQL, for every page of a project begins with it: see labelhub.queue.
_WITH_ROLE = """
    SELECT project.*, membership.role FROM labelhub_project project
    LEFT JOIN labelhub_membership membership
    ON membership.project_id = project.id AND membership.user_id = %s
    WHERE project.slug = %s
"""


def project_for(user: User, slug: str, roles: Collection[str]) -> Project:
    """The project, if the person has one of these roles in it.

    `project.role` says which. Somebody whose role there is another gets 403, except
    annotators asking for what only readers may see: for them it does not exist, so
    that they stay blind.
    """
    found = Project.objects.raw(_WITH_ROLE, [user.pk, slug])
    project = next(iter(found), None)
    if project and user.is_superuser:
        project.role = Role.MANAGER
    if not project or not project.role:
        raise Http404("No such project.")
    if project.role in roles:
        return project
    if project.role == Role.ANNOTATOR:
        raise Http404("No such page.")
    raise PermissionDenied


def import_for(user: User, slug: str, pk: int) -> ImportBatch:
    """An import of a project that the person manages."""
    project = project_for(user, slug, MANAGERS)
    found = ImportBatch.objects.filter(project=project, pk=pk)
    batch = found.select_related("created_by").first()
    if batch is None:
        raise Http404("No such import.")
    batch.project = project
    return batch


def task_for(
    user: User, slug: str, pk: int, roles: Collection[str] = REVIEWERS
) -> Task:
    """A task of a project in which the person has one of these roles, with its texts
    and models."""
    project = project_for(user, slug, roles)
    found = Task.objects.filter(project=project, pk=pk)
    task = found.select_related("prompt", "response_a", "response_b", "batch").first()
    if task is None:
        raise Http404("No such task.")
    task.project = project
    return task


def assignment_for(user: User, slug: str, pk: UUID) -> Assignment:
    """The person's own assignment, loaded for display; 404 for anybody else's."""
    project = project_for(user, slug, JUDGES)
    try:
        return Assignment.objects.for_display(pk, project, user)
    except Assignment.DoesNotExist:
        raise Http404("No such item.") from None
