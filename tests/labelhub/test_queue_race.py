"""24 people at once, each on a connection of their own. Nobody sleeps: they answer as
fast as they are served, which is harder on the queue than people are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from functools import partial

import pytest
from django.core.management import call_command
from django.db import connection, connections
from django.db.models import Count

from labelhub import probes, queue
from labelhub.models import Assignment, Judgment, Task, User
from tests.builders import add_member, make_project, make_task, make_user
from tests.threads import at_once

CLIENTS = 24

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _a_connection_each(monkeypatch):
    """As many processes have; the pool of one process would let eight in at a time."""
    if connection.vendor == "postgresql":
        options = connections.settings["default"]["OPTIONS"]
        connection.close()
        monkeypatch.setitem(options, "pool", False)
        yield
        connection.close()
    else:
        yield


def all_at_once(people: list[User], work: Callable[[User], None]) -> None:
    at_once(*(partial(work, person) for person in people))


def annotators(project) -> list[User]:
    people = [make_user(f"annotator{i}") for i in range(CLIENTS)]
    for person in people:
        add_member(project, person)
    return people


@pytest.mark.parametrize(
    ("n", "n_tasks", "order"),
    [(1, 150, "random"), (3, 60, "random"), (3, 40, "imported")],
)
def test_every_task_gets_exactly_n_and_no_work_is_wasted(n, n_tasks, order):
    project = make_project(judgments_per_task=n, order=order)
    for i in range(n_tasks):
        make_task(project, priority=i % 3 == 0)
    ends: list[queue.EndState] = []

    def judge_until_the_end(person: User) -> None:
        while True:
            item = queue.claim(project, person)
            if isinstance(item, queue.EndState):
                ends.append(item)
                return
            queue.submit(item.pk, person, "left")

    all_at_once(annotators(project), judge_until_the_end)

    judged = Judgment.objects.filter(project=project)
    per_task = Counter(judged.values_list("task", flat=True))
    assert set(per_task.values()) == {n}
    assert judged.count() == n * n_tasks
    assert not judged.filter(surplus=True).exists()
    assert not (
        judged.values("task", "annotator").annotate(n=Count("pk")).filter(n__gt=1)
    )
    assert set(Task.objects.values_list("status", "n_done", "n_leased")) == {
        ("done", n, 0)
    }
    # WAITING: everything is judged that one person may judge, others are not done.
    assert {end.reason for end in ends} <= {
        queue.Reason.HELD,
        queue.Reason.WAITING,
        queue.Reason.DONE,
    }
    call_command("check_integrity")


def test_probes_are_one_persons_own_and_change_no_count(monkeypatch):
    """Every second item is a probe, if there is one to be had."""
    monkeypatch.setattr(probes, "SPACING", 2)
    monkeypatch.setattr(probes, "PAUSE", timedelta(0))
    project = make_project(judgments_per_task=2, repeat_share=0.2, gold_share=0.2)
    mona = make_user()
    golds = [make_task(project) for _ in range(6)]
    for task in golds:
        probes.set_gold(task, "a", "", mona)
    project.refresh_from_db()
    for _ in range(120):
        make_task(project)

    def judge_until_the_end(person: User) -> None:
        while isinstance(item := queue.claim(project, person), Assignment):
            queue.submit(item.pk, person, "left")

    all_at_once(annotators(project), judge_until_the_end)

    ordinary = Task.objects.filter(project=project, repeat_of=None, status="done")
    assert set(ordinary.values_list("n_done", "n_leased")) == {(2, 0)}
    assert ordinary.count() == 120
    copies = Task.objects.filter(repeat_of__isnull=False)
    assert copies.exclude(repeat_of__in=golds).exists()
    assert copies.filter(repeat_of__in=golds).exists()
    assert set(copies.values_list("status", "n_done", "n_leased")) == {("probe", 1, 0)}
    assert not Judgment.objects.filter(surplus=True).exists()
    call_command("check_integrity")


def test_nobody_is_told_that_nothing_is_left_while_something_is():
    """As many tasks as people, all claiming in the same moment: everyone gets one."""
    project = make_project()
    for _ in range(CLIENTS):
        make_task(project)
    items: list[object] = []
    all_at_once(annotators(project), lambda p: items.append(queue.claim(project, p)))
    assert all(isinstance(item, Assignment) for item in items)
    assert len({item.task_id for item in items}) == CLIENTS
    call_command("check_integrity")


def test_one_task_for_all_is_given_to_one():
    project = make_project()
    make_task(project)
    items: list[object] = []
    all_at_once(annotators(project), lambda p: items.append(queue.claim(project, p)))
    assert sum(isinstance(item, Assignment) for item in items) == 1
    held = [item for item in items if isinstance(item, queue.EndState)]
    assert {end.reason for end in held} == {queue.Reason.HELD}
    call_command("check_integrity")


def test_one_person_in_24_tabs_holds_one_item():
    project = make_project()
    for _ in range(30):
        make_task(project)
    alice = make_user("alice")
    add_member(project, alice)
    items: list[object] = []
    all_at_once([alice] * CLIENTS, lambda p: items.append(queue.claim(project, p)))
    assert len({item.pk for item in items}) == 1
    assert Assignment.objects.count() == 1
    call_command("check_integrity")


def test_24_retries_of_one_answer_are_one_judgment():
    project = make_project(judgments_per_task=3)
    make_task(project)
    alice = make_user("alice")
    add_member(project, alice)
    item = queue.claim(project, alice)
    stored: list[Judgment] = []
    all_at_once(
        [alice] * CLIENTS, lambda p: stored.append(queue.submit(item.pk, p, "left"))
    )
    assert {judgment.pk for judgment in stored} == {Judgment.objects.get().pk}
    call_command("check_integrity")


def test_late_answers_skips_and_the_reaper_together_keep_the_counters():
    project = make_project(judgments_per_task=2, lease_seconds=60)
    for _ in range(40):
        make_task(project)
    people = annotators(project)

    def disturb(person: User) -> None:
        for turn in range(12):
            item = queue.claim(project, person)
            if isinstance(item, queue.EndState):
                continue
            match (turn + person.pk) % 4:
                case 0:
                    queue.skip(item.pk, person)
                case 1:
                    Assignment.objects.filter(pk=item.pk).update(
                        lease_expires_at="2020-01-01T00:00Z"
                    )
                    queue.reap()
                    queue.submit(item.pk, person, "right")
                case 2:
                    queue.release(item.pk, person)
                case _:
                    queue.submit(item.pk, person, "left")
                    queue.submit(item.pk, person, "tie", replaces=1)

    all_at_once(people, disturb)
    assert not Task.objects.filter(n_done__gt=2).exists()
    call_command("check_integrity")
