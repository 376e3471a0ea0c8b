"""Verdicts of the end users of an application. They never count towards N."""

from __future__ import annotations

from django.http import Http404

from labelhub.models import Judgment, Project, Task

Verdict = Judgment.Verdict


class FeedbackRefused(ValueError):
    """The sentence is meant for whoever sent it."""


def record(
    project: Project,
    task_id: int,
    verdict: str,
    *,
    judge_name: str,
    external_id: str = "",
    note: str = "",
) -> Judgment:
    """Store it once for a task, a user and an id; the judgment that stands for them."""
    offered = verdicts_of(project)
    if verdict not in offered:
        raise FeedbackRefused(
            f"“{verdict}” is no verdict of this project; choose one of"
            f" {', '.join(offered)}."
        )
    task = Task.objects.filter(project=project, pk=task_id, repeat_of=None).first()
    if task is None:
        raise Http404(f"There is no task {task_id} in this project.")
    judgment, _ = Judgment.objects.get_or_create(
        task=task,
        source=Judgment.Source.FEEDBACK,
        judge_name=judge_name,
        external_id=external_id,
        assignment=None,
        defaults={"project": project, "verdict": verdict, "note": note},
    )
    return judgment


def verdicts_of(project: Project) -> list[str]:
    if not project.is_pairwise:
        return [Verdict.GOOD.value, Verdict.BAD.value]
    found = [Verdict.A, Verdict.B]
    found += [Verdict.TIE] * project.allow_tie
    found += [Verdict.BOTH_BAD] * project.allow_both_bad
    return [verdict.value for verdict in found]
