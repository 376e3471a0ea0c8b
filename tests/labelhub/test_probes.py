"""Probes show how somebody judges, and nobody can tell them from other items."""

from __future__ import annotations

import io
from datetime import timedelta
from itertools import pairwise
from random import Random

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from pytest_django.asserts import assertContains, assertNotContains

from labelhub import probes, queue
from labelhub.importing import ImportOptions, ImportRefused, import_files, remove_import
from labelhub.measuring import measure
from labelhub.models import Assignment, Event, GoldAnswer, Judgment, Project, Task
from labelhub.queue import EndState, Reason
from tests.builders import make_project, make_task
from tests.labelhub.test_import_again import preferences
from tests.labelhub.test_import_formats import write_rows
from training.previewing import patterns_of, preview
from training.recipes import Recipe

pytestmark = pytest.mark.django_db


class AlwaysProbes(Random):
    """A die by whose fall it is always time for a probe."""

    def random(self) -> float:
        return 0.0


@pytest.fixture(autouse=True)
def _counters_stay_true(db):
    yield
    call_command("check_integrity", stdout=io.StringIO())


@pytest.fixture
def always(monkeypatch):
    monkeypatch.setattr(probes, "_dice", AlwaysProbes(1))


def take(project: Project, person) -> Assignment:
    item = queue.claim(project, person)
    assert isinstance(item, Assignment), item
    return Assignment.objects.select_related("task").get(pk=item.pk)


def judge(project: Project, person, verdict: str = "left") -> Assignment:
    item = take(project, person)
    queue.submit(item.pk, person, verdict)
    return item


def of_repeats(share: float = 0.2, **fields) -> Project:
    return make_project(repeat_share=share, **fields)


def judged_before(project: Project, person, n: int) -> list[Assignment]:
    """They have judged so many ordinary items, an hour ago; more are there."""
    share, project.repeat_share = project.repeat_share, 0
    for _ in range(n + 3):
        make_task(project)
    items = [judge(project, person) for _ in range(n)]
    project.repeat_share = share
    Assignment.objects.filter(project=project).update(
        ended_at=Now() - timedelta(hours=1)
    )
    return items


def add_gold(project: Project, mona, verdict: str = "a", **fields) -> Task:
    task = make_task(project, **fields)
    probes.set_gold(task, verdict, "Count the legs.", mona)
    task.refresh_from_db()
    project.refresh_from_db()
    return task


@pytest.fixture
def joined(alice, project):
    """Makes alice a member of another project."""

    def join(other: Project) -> Project:
        queue.join(other, alice, "annotator")
        return other

    return join


# --- repeats


def test_a_repeat_is_a_task_judged_before_with_the_sides_swapped(joined, alice, always):
    project = joined(of_repeats())
    before = judged_before(project, alice, 25)
    item = take(project, alice)
    first = next(old for old in before if old.task_id == item.task.repeat_of_id)
    assert item.swapped is not first.swapped
    assert item.task.status == Task.Status.PROBE
    assert item.task.response_b_id == first.task.response_b_id


def test_a_repeat_of_a_single_response_has_no_sides(joined, alice, always):
    project = joined(of_repeats(kind="binary"))
    share, project.repeat_share = project.repeat_share, 0
    for _ in range(26):
        make_task(project)
    for _ in range(25):
        judge(project, alice, "good")
    Assignment.objects.update(ended_at=Now() - timedelta(hours=1))
    project.repeat_share = share
    assert judge(project, alice, "bad").task.repeat_of_id
    assert Judgment.objects.latest("pk").shown_left == ""


@pytest.mark.parametrize("n", [0, 1, 20])
def test_nothing_comes_again_before_twenty_other_items(joined, alice, always, n):
    project = joined(of_repeats())
    judged_before(project, alice, n)
    assert not take(project, alice).task.repeat_of_id


def test_nothing_comes_again_within_ten_minutes(joined, alice, always):
    project = joined(of_repeats())
    judged_before(project, alice, 25)
    Assignment.objects.update(ended_at=Now() - timedelta(minutes=9))
    assert not take(project, alice).task.repeat_of_id


def test_two_probes_never_follow_each_other_and_none_comes_twice(joined, alice, always):
    project = joined(of_repeats())
    judged_before(project, alice, 25)
    for _ in range(30):
        make_task(project)
    served = []
    for _ in range(20):
        item = judge(project, alice)
        Assignment.objects.filter(pk=item.pk).update(ended_at=Now())
        served.append(item.task.repeat_of_id)
    repeats = [pk for pk in served if pk]
    assert len(repeats) > 4
    assert len(set(repeats)) == len(repeats)
    assert not any(one and other for one, other in pairwise(served))


def test_nobody_gets_anothers_probe(joined, alice, bob, always):
    project = joined(of_repeats())
    queue.join(project, bob, "annotator")
    judged_before(project, alice, 25)
    probe = take(project, alice).task
    for _ in range(3):
        assert judge(project, bob).task_id != probe.pk
    assert isinstance(queue.claim(project, bob), EndState)


def test_a_probe_comes_only_while_there_is_something_else(joined, alice, always):
    """Or whoever is told that everything is judged would know what it was."""
    project = joined(of_repeats())
    judged_before(project, alice, 25)
    Task.objects.filter(status="open").update(status="retired")
    Project.objects.filter(pk=project.pk).update(n_tasks=25)
    end = queue.claim(project, alice)
    assert isinstance(end, EndState)
    assert end.reason is Reason.DONE


def test_what_was_retired_does_not_come_again(joined, alice, always):
    project = joined(of_repeats())
    judged_before(project, alice, 25)
    Task.objects.filter(status="done").update(status="retired")
    Project.objects.filter(pk=project.pk).update(n_tasks=3)
    assert not take(project, alice).task.repeat_of_id


def test_about_as_many_come_as_the_share_says(joined, alice, monkeypatch):
    monkeypatch.setattr(probes, "_dice", Random(7))
    project = joined(of_repeats())
    judged_before(project, alice, 60)
    for _ in range(100):
        make_task(project)
    n = sum(bool(judge(project, alice).task.repeat_of_id) for _ in range(100))
    assert 10 <= n <= 30


def test_a_lost_lease_of_a_probe_is_its_owners_still(joined, alice, always):
    project = joined(of_repeats())
    judged_before(project, alice, 25)
    item = take(project, alice)
    Assignment.objects.filter(pk=item.pk).update(lease_expires_at="2020-01-01T00:00Z")
    queue.reap()
    judgment = queue.submit(item.pk, alice, "left")
    assert not judgment.surplus
    item.task.refresh_from_db()
    assert (item.task.status, item.task.n_done, item.task.n_leased) == ("probe", 1, 0)


def test_a_probe_may_be_skipped(joined, alice, always):
    project = joined(of_repeats())
    judged_before(project, alice, 25)
    item = take(project, alice)
    queue.skip(item.pk, alice)
    assert take(project, alice).task_id != item.task_id


def test_a_project_without_probes_asks_nothing(joined, alice):
    project = joined(make_project(order="imported"))
    make_task(project)
    with CaptureQueriesContext(connection) as without:
        queue.claim(project, alice)
    other = joined(of_repeats(1e-12, order="imported"))
    make_task(other)
    with CaptureQueriesContext(connection) as with_bad_luck:
        queue.claim(other, alice)
    assert len(without) == len(with_bad_luck)


def test_a_probe_makes_no_row_and_needs_no_judgment(joined, alice, always):
    project = joined(of_repeats())
    judged_before(project, alice, 25)
    judge(project, alice)
    ledger = preview(patterns_of(project), Recipe(algorithm="dpo"))
    assert (ledger.judged, ledger.exported) == (26, 25)
    assert ledger.left_out == {"repeat": 1}
    project.refresh_from_db()
    assert project.n_tasks == 28


# --- gold


def test_gold_leaves_the_queue_and_comes_as_a_copy_once(project, alice, mona, always):
    gold = add_gold(project, mona)
    project.gold_share = 0.2
    for _ in range(5):
        make_task(project)
    assert gold.status == Task.Status.GOLD
    served = [judge(project, alice).task for _ in range(6)]
    assert [task.repeat_of_id for task in served].count(gold.pk) == 1
    assert gold.pk not in {task.pk for task in served}


def test_both_kinds_come_where_both_are_asked_for(project, alice, mona, monkeypatch):
    monkeypatch.setattr(probes, "_dice", Random(3))
    project.repeat_share = 0.2
    judged_before(project, alice, 40)
    golds = {add_gold(project, mona).pk for _ in range(10)}
    project.repeat_share = project.gold_share = 0.2
    for _ in range(60):
        make_task(project)
    again = {judge(project, alice).task.repeat_of_id for _ in range(50)} - {None}
    assert again & golds
    assert again - golds


def test_gold_that_somebody_judged_before_is_nothing_to_ask_them(
    project, alice, mona, always
):
    task = make_task(project)
    judge(project, alice)
    make_task(project)
    probes.set_gold(task, "a", "", mona)
    project.refresh_from_db()
    project.gold_share = 0.2
    assert not take(project, alice).task.repeat_of_id


def test_an_item_open_while_it_is_made_gold_is_kept_as_surplus(project, alice, mona):
    item_of = make_task(project)
    item = take(project, alice)
    probes.set_gold(item_of, "a", "", mona)
    assert queue.submit(item.pk, alice, "left").surplus


def test_withdrawn_gold_returns_if_nobody_had_it(project, alice, mona):
    gold = add_gold(project, mona)
    probes.withdraw_gold(gold, mona)
    assert take(project, alice).task_id == gold.pk
    assert not GoldAnswer.objects.exists()


def test_withdrawn_gold_that_was_shown_stays_out(project, alice, bob, mona, always):
    gold = add_gold(project, mona)
    project.gold_share = 0.2
    make_task(project)
    assert take(project, alice).task.repeat_of_id == gold.pk
    probes.withdraw_gold(gold, mona)
    assert take(project, bob).task.repeat_of_id is None
    assert isinstance(queue.claim(project, mona), EndState)


def test_an_import_with_gold_is_not_removed(project, mona, tmp_path):
    rows = write_rows(tmp_path / "rows.jsonl", *preferences(1))
    batch = import_files(project, [rows], ImportOptions())
    task = Task.objects.get()
    probes.set_gold(task, "a", "", mona)
    with pytest.raises(ImportRefused, match=f"task {task.pk} is a gold item"):
        remove_import(batch)
    probes.withdraw_gold(task, mona)
    remove_import(batch)


def test_the_report_says_how_often_each_person_was_right(
    project, alice, bob, mona, always
):
    for _ in range(4):
        add_gold(project, mona)
    project.gold_share = 0.2
    for _ in range(20):
        make_task(project)
    for person, n_wrong in ((alice, 1), (bob, 0)):
        for _ in range(8):
            item = take(project, person)
            is_wrong = item.task.repeat_of_id and n_wrong
            n_wrong -= bool(is_wrong)
            right = "right" if item.swapped else "left"
            queue.submit(item.pk, person, "tie" if is_wrong else right)
    judges = measure(project)["human"]["judges"]
    found = judges["alice"]["gold"], judges["bob"]["gold"]
    assert [(gold.n, gold.value) for gold in found] == [(4, 0.75), (4, 1.0)]
    assert 0.2 < found[0].low < 0.75 < found[0].high < 0.98


def test_where_people_are_told_their_first_answer_counts(project, alice, gold_at_hand):
    queue.submit(gold_at_hand.pk, alice, "left")
    queue.submit(gold_at_hand.pk, alice, "right", replaces=1)
    assert [row.is_right for row in probes.gold_answered(project)] == [False]
    project.gold_feedback = False
    assert [row.is_right for row in probes.gold_answered(project)] == [True]


# --- pages


def address(project: Project, name: str = "probes", *args: int) -> str:
    return reverse(f"labelhub:{name}", args=[project.slug, *args])


def test_a_manager_says_how_often(project, manager):
    form = {"repeat_share": "0.05", "gold_share": "0.1", "gold_feedback": "on"}
    assert manager.post(address(project), form).status_code == 302
    project.refresh_from_db()
    assert (project.repeat_share, project.gold_share) == (0.05, 0.1)
    assert Event.objects.get().data["gold_share"] == "0.1"


def test_more_than_a_fifth_is_refused(project, manager):
    r = manager.post(address(project), {"repeat_share": "0.3", "gold_share": "0"})
    assertContains(r, "less than or equal to 0.2", status_code=422)
    project.refresh_from_db()
    assert project.repeat_share == 0


def test_a_manager_makes_a_task_gold_and_sees_how_it_is_answered(
    project, alice, bob, manager, always
):
    task = make_task(project, "How many legs?")
    r = manager.get(address(project), {"task": str(task.pk)})
    assert r["Location"] == address(project, "gold", task.pk)
    form = {"verdict": "b", "explanation": "Count."}
    manager.post(address(project, "gold", task.pk), form)
    project.refresh_from_db()
    project.gold_share = 0.2
    for person, is_right in ((alice, True), (bob, False)):
        make_task(project)
        item = take(project, person)
        queue.submit(item.pk, person, "left" if item.swapped is is_right else "right")
    r = manager.get(address(project))
    [gold] = r.context["golds"]
    assert (gold.n_answers, gold.n_right) == (2, 1)
    assertContains(r, "How many legs?")
    assert Event.objects.get(verb="gold.set").subject == f"task:{task.pk}"


def test_a_verdict_that_the_project_does_not_offer_is_refused(project, manager):
    task = make_task(project)
    r = manager.post(address(project, "gold", task.pk), {"verdict": "good"})
    assert r.status_code == 422
    assert not GoldAnswer.objects.exists()


@pytest.mark.parametrize("typed", ["", "x", "999999", "9" * 40])
def test_a_task_that_is_not_there_is_named(project, manager, typed):
    r = manager.get(address(project), {"task": typed}, follow=True)
    assertContains(r, "There is no task")


@pytest.fixture
def gold_at_hand(project, alice, mona, always) -> Assignment:
    """Alice holds a gold item; A, as it lies, is right. Another item follows."""
    add_gold(project, mona)
    project.gold_share = 0.2
    project.gold_feedback = True
    project.save()
    make_task(project)
    item = take(project, alice)
    Assignment.objects.filter(pk=item.pk).update(swapped=True)
    return item


def answer(client, project, item, verdict, **headers):
    page = reverse("labelhub:judge_item", args=[project.slug, item.pk])
    return client.post(page, {"verdict": verdict}, follow=not headers, headers=headers)


@pytest.mark.parametrize("headers", [{}, {"HX-Request": "true"}], ids=["plain", "htmx"])
def test_people_are_told_after_they_answered(client, project, gold_at_hand, headers):
    r = answer(client, project, gold_at_hand, "left", **headers)
    assertContains(r, "“B is better”. You said “A is better”. Count the legs.")


def test_whoever_was_right_is_told_so(client, project, gold_at_hand):
    r = answer(client, project, gold_at_hand, "right")
    assertContains(r, "“B is better”, as you said.")


def test_nothing_tells_a_gold_item_before_it_is_answered(client, project, gold_at_hand):
    page = reverse("labelhub:judge_item", args=[project.slug, gold_at_hand.pk])
    r = client.get(page)
    for word in ("gold", "probe", "known", "legs", "repeat"):
        assertNotContains(r, word)


def test_without_feedback_nobody_is_told(client, project, gold_at_hand):
    Project.objects.update(gold_feedback=False)
    r = answer(client, project, gold_at_hand, "left")
    assertNotContains(r, "known")


def test_the_numbers_move_with_every_item(client, project, alice, gold_at_hand):
    before = project.progress_of(alice)
    answer(client, project, gold_at_hand, "left")
    after = project.progress_of(alice)
    assert after["mine"] == before["mine"] + 1
    assert after["done"] == before["done"] + 1
