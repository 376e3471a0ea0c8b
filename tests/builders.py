"""Rows with everything defaulted, so that a test mentions only what it is about."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from typing import Any

from django.urls import reverse

from labelhub.models import (
    Judgment,
    Membership,
    Project,
    Prompt,
    Response,
    Task,
    User,
)
from training import metric_points
from training.models import Attempt, GpuSlot, Run, Snapshot, Worker

_numbers = itertools.count(1)


def make_user(username: str = "", *, password: str = "", **fields: Any) -> User:
    user = User(username=username or f"user{next(_numbers)}", **fields)
    if password:
        user.set_password(password)
    else:
        user.set_unusable_password()
    user.save()
    return user


def make_project(name: str = "", **fields: Any) -> Project:
    name = name or f"Project {next(_numbers)}"
    fields.setdefault("kind", Project.Kind.PAIRWISE)
    fields.setdefault("slug", name.lower().replace(" ", "-"))
    return Project.objects.create(name=name, **fields)


def add_member(project: Project, user: User, role: str = "annotator") -> Membership:
    return Membership.objects.create(project=project, user=user, role=role)


def make_prompt(project: Project, text: str = "", **fields: Any) -> Prompt:
    text = text or f"What is {next(_numbers)} plus one?"
    fields.setdefault("messages", [{"role": "user", "content": text}])
    fields.setdefault("content_hash", _hash(text))
    return Prompt.objects.create(project=project, **fields)


def make_response(prompt: Prompt, text: str = "", **fields: Any) -> Response:
    text = text or f"It is {next(_numbers)}."
    return Response.objects.create(
        prompt=prompt, text=text, content_hash=_hash(text), **fields
    )


def make_task(
    project: Project,
    prompt: str | Prompt = "",
    a: str = "",
    b: str = "",
    **fields: Any,
) -> Task:
    """An open task, a pair or a single response as the project is."""
    if not isinstance(prompt, Prompt):
        prompt = make_prompt(project, prompt)
    fields.setdefault("n_required", project.judgments_per_task)
    fields.setdefault("status", Task.Status.OPEN)
    fields.setdefault("shuffle_key", next(_numbers) % 100 / 100)
    task = Task.objects.create(
        project=project,
        prompt=prompt,
        response_a=make_response(prompt, a),
        response_b=make_response(prompt, b) if project.is_pairwise else None,
        **fields,
    )
    project.n_tasks += 1
    project.save(update_fields=["n_tasks"])
    return task


def make_judgment(task: Task, verdict: str = "a", **fields: Any) -> Judgment:
    """An imported judgment; human ones are made by the queue, as in life."""
    fields.setdefault("source", Judgment.Source.IMPORTED)
    fields.setdefault("judge_name", f"judge{next(_numbers)}")
    return Judgment.objects.create(
        project_id=task.project_id, task=task, verdict=verdict, **fields
    )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def make_run(project: Project, name: str = "", **fields: Any) -> Run:
    """A queued DPO run, or what the fields say."""
    fields.setdefault("name", name or f"run {next(_numbers)}")
    fields.setdefault("algorithm", "dpo")
    fields.setdefault("config", {"algorithm": fields["algorithm"]})
    if fields.get("state") == Run.State.SUCCEEDED:
        fields.setdefault("result", {})
    return Run.objects.create(project=project, **fields)


def make_attempt(run: Run, **fields: Any) -> Attempt:
    """The run's next attempt."""
    run.fence += 1
    run.save(update_fields=["fence"])
    worker, _ = Worker.objects.get_or_create(
        host="gpu-1", defaults={"boot_id": "boot", "pid": 1}
    )
    return Attempt.objects.create(run=run, fence=run.fence, worker=worker, **fields)


def add_points(attempt: Attempt, name: str, values: Mapping[int, float]) -> None:
    """Values by step, as the supervisor stores them."""
    metric_points.add_points(
        attempt,
        [
            metric_points.Point(name, step, float(value), 1_700_000_000.0 + step)
            for step, value in values.items()
        ],
    )


def make_snapshot(project: Project, **fields: Any) -> Snapshot:
    """A ready one of 90 training and 10 held-out pairs."""
    fields.setdefault("state", Snapshot.State.READY)
    fields.setdefault("recipe", {"for": "dpo"})
    fields.setdefault("n_judgments", 120)
    fields.setdefault("n_train", 90)
    fields.setdefault("n_eval", 10)
    fields.setdefault("sha256", _hash(f"snapshot {next(_numbers)}"))
    return Snapshot.objects.create(project=project, **fields)


def make_worker(host: str = "", *, slots: int = 1, **fields: Any) -> Worker:
    """A worker whose agent has just beaten, with free slots."""
    fields.setdefault("boot_id", "boot")
    fields.setdefault("pid", 1)
    worker = Worker.objects.create(host=host or f"host{next(_numbers)}", **fields)
    for index in range(slots):
        GpuSlot.objects.create(worker=worker, index=index, name="CPU")
    return worker


def run_url(name: str, run: Run, *more: Any) -> str:
    """The address of one of the pages of a run."""
    return reverse(f"training:{name}", args=[run.project.slug, run.pk, *more])
