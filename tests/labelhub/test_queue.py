from __future__ import annotations

import io
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.db.models.functions import Now
from django_q.models import OrmQ

from labelhub import queue, queue_sql, tasks
from labelhub.models import Assignment, Guideline, Judgment, Membership, Project, Task
from labelhub.queue import EndState, Reason
from labelhub.verdicts import UnknownVerdict
from tests.builders import add_member, make_project, make_task, make_user
from training.queueing import QueueKeeper

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _counters_stay_true(db):
    """Whatever a test does through the queue, the counters agree afterwards."""
    yield
    call_command("check_integrity", stdout=io.StringIO())


def take(project: Project, person) -> Assignment:
    item = queue.claim(project, person)
    assert isinstance(item, Assignment), item
    return item


def end(project: Project, person) -> EndState:
    item = queue.claim(project, person)
    assert isinstance(item, EndState), item
    return item


def judge(project: Project, person, verdict: str = "left", **fields) -> Judgment:
    return queue.submit(take(project, person).pk, person, verdict, **fields)


def expire(item: Assignment) -> None:
    Assignment.objects.filter(pk=item.pk).update(
        lease_expires_at=Now() - timedelta(seconds=1)
    )


def counters(task: Task) -> tuple[str, int, int]:
    task.refresh_from_db()
    return task.status, task.n_done, task.n_leased


# --- claim


def test_a_claimed_item_is_held(project, alice):
    task = make_task(project)
    item = take(project, alice)
    assert item.task == task
    assert counters(task) == ("open", 0, 1)


def test_the_same_item_is_served_until_it_is_answered(project, alice):
    for _ in range(5):
        make_task(project)
    assert take(project, alice) == take(project, alice) == take(project, alice)
    assert Assignment.objects.count() == 1


def test_two_people_do_not_get_one_slot(project, alice, bob):
    make_task(project)
    take(project, alice)
    assert end(project, bob).reason is Reason.HELD


def test_n_people_judge_a_task_and_no_more():
    project = make_project(judgments_per_task=3)
    task = make_task(project)
    people = [make_user() for _ in range(4)]
    for person in people:
        add_member(project, person)
    for person in people[:3]:
        judge(project, person)
    assert counters(task) == ("done", 3, 0)
    assert end(project, people[3]).reason is Reason.DONE


def test_nobody_judges_a_task_twice(alice, project):
    Project.objects.update(judgments_per_task=3)
    make_task(project, n_required=3)
    judge(project, alice)
    assert end(project, alice).reason is Reason.WAITING


def test_the_highest_priority_is_served_first(project, alice):
    for priority in (0, 5, 2, 5):
        make_task(project, priority=priority)
    served = [judge(project, alice).task.priority for _ in range(4)]
    assert served == [5, 5, 2, 0]


def test_a_band_that_is_all_mine_does_not_hide_the_next(project, alice):
    for priority in (9, 9, 1):
        make_task(project, priority=priority, n_required=3)
    assert [judge(project, alice).task.priority for _ in range(3)] == [9, 9, 1]


def test_random_order_starts_anywhere(project, monkeypatch):
    tasks = [make_task(project, shuffle_key=k / 10) for k in range(10)]
    monkeypatch.setattr(queue._dice, "random", lambda: 0.65)
    people = [make_user() for _ in range(4)]
    for person in people:
        add_member(project, person)
    served = [take(project, person).task for person in people]
    assert served == [tasks[7], tasks[8], tasks[9], tasks[0]]


def test_the_order_of_import_is_kept(alice):
    project = make_project(order="imported")
    add_member(project, alice)
    tasks = [make_task(project, shuffle_key=float(k)) for k in (3, 1, 2)]
    served = [judge(project, alice).task for _ in range(3)]
    assert served == [tasks[1], tasks[2], tasks[0]]


@pytest.mark.parametrize("status", ["loading", "retired", "done"])
def test_only_open_tasks_are_served(project, alice, status):
    task = make_task(project)
    Task.objects.update(status=status, n_done=status == "done")
    assert isinstance(queue.claim(project, alice), EndState)
    Task.objects.filter(pk=task.pk).update(status="open", n_done=0)
    take(project, alice)
    Project.objects.update(n_tasks=1)


def test_tasks_of_other_projects_are_not_served(project, alice):
    make_task(make_project())
    assert end(project, alice).reason is Reason.EMPTY


def test_the_guideline_of_the_day_is_written_down(project, alice):
    for _ in range(2):
        make_task(project)
    assert take(project, alice).guideline is None
    first = project.write_guideline("Prefer the true one.", None)
    judge(project, alice)
    item = take(project, alice)
    assert item.guideline == first == Guideline.objects.get()


def test_a_claim_takes_few_queries(
    project, alice, monkeypatch, django_assert_num_queries
):
    monkeypatch.setattr(queue._dice, "random", lambda: 0.0)  # No wrapping around.
    for _ in range(3):
        make_task(project)
    # membership, my lease, band, take, lease, load, and the transaction's two.
    with django_assert_num_queries(8):
        take(project, alice)


def test_the_claim_walks_the_partial_index(project, alice):
    for _ in range(30):
        make_task(project)
    ids = {"project": project.pk, "annotator": alice.pk, "band": 0, "start": 0.5}
    select = (
        f"SELECT task.id FROM labelhub_task task WHERE {queue_sql.CLAIMABLE}"
        f" {queue_sql.IN_BAND} >= %(start)s AND {queue_sql.NOT_MINE}"
        " ORDER BY task.priority DESC, task.shuffle_key LIMIT 1"
    )
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL enable_seqscan = off")
            cursor.execute("SET LOCAL enable_sort = off")
        explain = "EXPLAIN QUERY PLAN" if connection.vendor == "sqlite" else "EXPLAIN"
        cursor.execute(f"{explain} {select}", ids)
        plan = "\n".join(str(row) for row in cursor.fetchall())
    assert "task_claimable" in plan
    assert "TEMP B-TREE" not in plan
    assert "Sort" not in plan


# --- sides


def test_the_second_annotator_sees_the_opposite_of_the_first():
    project = make_project(judgments_per_task=4)
    people = [make_user() for _ in range(4)]
    for person in people:
        add_member(project, person)
    for _ in range(6):
        task = make_task(project)
        sides = []
        for person in people:
            judgment = judge(project, person)
            assert judgment.task == task
            sides.append(judgment.shown_left)
        assert sides[0] != sides[1]
        assert sides[2] != sides[3]


def test_both_sides_come_first_sometimes(project, alice):
    for _ in range(40):
        make_task(project)
    sides = {judge(project, alice).shown_left for _ in range(40)}
    assert sides == {"a", "b"}


def test_left_is_stored_for_the_response_that_was_on_the_left(project, alice):
    for _ in range(20):
        make_task(project)
    for _ in range(20):
        item = take(project, alice)
        judgment = queue.submit(item.pk, alice, "left")
        assert judgment.verdict == judgment.shown_left == ("b" if item.swapped else "a")


def test_sides_stay_when_a_lost_item_comes_back(project, alice, monkeypatch):
    """A page of the first time may still be open; left must still be left there."""
    make_task(project)
    monkeypatch.setattr(queue._dice, "random", lambda: 0.1)
    item = take(project, alice)
    expire(item)
    queue.reap()
    monkeypatch.setattr(queue._dice, "random", lambda: 0.9)
    again = take(project, alice)
    assert again == item
    assert again.swapped is item.swapped is True


def test_a_single_response_has_no_sides(alice):
    project = make_project(kind="binary")
    add_member(project, alice)
    make_task(project)
    judgment = judge(project, alice, "good")
    assert judgment.shown_left == ""
    assert judgment.verdict == "good"


# --- submit


def test_an_answer_is_counted_once(project, alice):
    task = make_task(project)
    item = take(project, alice)
    first = queue.submit(item.pk, alice, "left", note="Clearer.")
    again = queue.submit(item.pk, alice, "left", note="Clearer.")
    assert again == first == Judgment.objects.get()
    assert first.note == "Clearer."
    assert first.source == "human"
    assert first.seconds is not None and 0 <= first.seconds < 60
    assert counters(task) == ("done", 1, 0)
    assert Membership.objects.get(user=alice).n_judged == 1


def test_a_late_answer_counts_if_it_is_still_needed(project, alice):
    task = make_task(project)
    item = take(project, alice)
    expire(item)
    queue.reap()
    judgment = queue.submit(item.pk, alice, "left")
    assert not judgment.surplus
    assert counters(task) == ("done", 1, 0)


def test_a_late_answer_is_kept_as_surplus_if_somebody_else_judged(project, alice, bob):
    task = make_task(project)
    item = take(project, alice)
    expire(item)
    judge(project, bob)
    judgment = queue.submit(item.pk, alice, "right", note="I was slow.")
    assert judgment.surplus
    assert judgment.note == "I was slow."
    assert counters(task) == ("done", 1, 0)


def test_a_late_answer_does_not_take_the_slot_of_who_is_reading(project, alice, bob):
    task = make_task(project)
    item = take(project, alice)
    expire(item)
    other = take(project, bob)
    assert queue.submit(item.pk, alice, "right").surplus
    assert counters(task) == ("open", 0, 1)
    assert not queue.submit(other.pk, bob, "left").surplus


def test_an_answer_to_a_retired_task_is_kept(project, alice):
    make_task(project)
    item = take(project, alice)
    Task.objects.update(status="retired")
    Project.objects.update(n_tasks=0)
    assert queue.submit(item.pk, alice, "left").surplus
    assert Task.objects.get().status == "retired"


@pytest.mark.parametrize("status", ["paused", "closed"])
def test_an_answer_read_before_the_project_was_stopped_counts(project, alice, status):
    make_task(project)
    item = take(project, alice)
    Project.objects.update(status=status)
    assert not queue.submit(item.pk, alice, "left").surplus


def test_it_rejects_an_unknown_verdict_and_changes_nothing(project, alice):
    task = make_task(project)
    item = take(project, alice)
    with pytest.raises(UnknownVerdict):
        queue.submit(item.pk, alice, "a")
    assert not Judgment.objects.exists()
    assert counters(task) == ("open", 0, 1)


def test_nobody_answers_for_somebody_else(project, alice, bob):
    make_task(project)
    item = take(project, alice)
    for verb in (
        lambda: queue.submit(item.pk, bob, "left"),
        lambda: queue.skip(item.pk, bob),
        lambda: queue.release(item.pk, bob),
    ):
        with pytest.raises(Assignment.DoesNotExist):
            verb()


def test_the_database_itself_refuses_one_judgment_too_many(project):
    task = make_task(project)
    for change in ({"n_done": 2}, {"n_done": 1, "n_leased": 1}):
        with pytest.raises(IntegrityError), transaction.atomic():
            Task.objects.filter(pk=task.pk).update(**change)


# --- revision


def test_a_revision_replaces_the_answer_and_no_counter_moves(project, alice):
    task = make_task(project)
    first = judge(project, alice, "left", note="Hm.")
    pk = first.assignment_id
    second = queue.submit(pk, alice, "tie", note="Hm!", replaces=1)
    third = queue.submit(pk, alice, "right", replaces=2)

    assert list(Judgment.objects.standing()) == [third]
    assert [j.revision for j in Judgment.objects.order_by("pk")] == [1, 2, 3]
    first.refresh_from_db()
    second.refresh_from_db()
    assert first.superseded_by == second
    assert second.superseded_by == third
    assert (first.verdict, first.note) == (first.shown_left, "Hm.")
    assert counters(task) == ("done", 1, 0)
    assert Membership.objects.get(user=alice).n_judged == 1


def test_a_revision_has_a_strength_of_its_own(project, alice):
    project.strength_points = 5
    project.save()
    make_task(project)
    pk = take(project, alice).pk
    first = queue.submit(pk, alice, "right-2")
    second = queue.submit(pk, alice, "tie", replaces=1)
    third = queue.submit(pk, alice, "left-1", replaces=2)
    assert [j.strength for j in (first, second, third)] == [2, 0, 1]
    assert first.verdict != third.verdict


def test_a_revision_sent_twice_is_one(project, alice):
    make_task(project)
    pk = judge(project, alice).assignment_id
    second = queue.submit(pk, alice, "tie", replaces=1)
    assert queue.submit(pk, alice, "tie", replaces=1) == second
    assert Judgment.objects.count() == 2


def test_a_late_copy_of_the_first_answer_does_not_undo_a_revision(project, alice):
    make_task(project)
    pk = judge(project, alice, "left").assignment_id
    second = queue.submit(pk, alice, "tie", replaces=1)
    assert queue.submit(pk, alice, "left") == second
    assert Judgment.objects.standing().get().verdict == "tie"


def test_a_revision_of_surplus_stays_surplus(project, alice, bob):
    make_task(project)
    item = take(project, alice)
    expire(item)
    judge(project, bob)
    queue.submit(item.pk, alice, "right")
    assert queue.submit(item.pk, alice, "tie", replaces=1).surplus


# --- skip, release, extend, reap


def test_a_skipped_item_goes_to_somebody_else_at_once(project, alice, bob):
    task = make_task(project)
    item = take(project, alice)
    queue.skip(item.pk, alice, "I do not know this language.")
    queue.skip(item.pk, alice, "Twice.")
    assert counters(task) == ("open", 0, 0)
    item.refresh_from_db()
    assert item.skip_reason == "I do not know this language."
    assert end(project, alice).reason is Reason.SKIPPED
    assert take(project, bob).task == task


def test_a_skipped_item_may_be_judged_after_all(project, alice):
    task = make_task(project)
    item = take(project, alice)
    queue.skip(item.pk, alice)
    assert not queue.submit(item.pk, alice, "left").surplus
    assert counters(task) == ("done", 1, 0)


def test_a_judged_item_cannot_be_skipped(project, alice):
    make_task(project)
    judgment = judge(project, alice)
    queue.skip(judgment.assignment_id, alice)
    assert Assignment.objects.get().state == "submitted"


def test_a_released_item_comes_back(project, alice):
    task = make_task(project)
    item = take(project, alice)
    queue.release_leases(project, alice)
    assert counters(task) == ("open", 0, 0)
    assert take(project, alice) == item
    assert Assignment.objects.count() == 1


def test_a_lease_that_ran_out_frees_its_slot(project, alice, bob):
    make_task(project)
    item = take(project, alice)
    assert queue.reap() == 0
    expire(item)
    assert take(project, bob).task == item.task
    item.refresh_from_db()
    assert item.state == "expired"
    assert queue.reap() == 0


def test_a_lease_that_ran_out_unnoticed_is_taken_up_again(project, alice):
    make_task(project)
    item = take(project, alice)
    expire(item)
    assert take(project, alice) == item
    assert queue.reap() == 0


def test_reading_on_keeps_the_item(project, alice):
    make_task(project)
    item = take(project, alice)
    expire(item)
    assert queue.extend(item)
    assert queue.reap() == 0


def test_a_page_left_open_gives_its_item_back_in_the_end(project, alice):
    make_task(project)
    item = take(project, alice)
    Assignment.objects.update(leased_at=Now() - timedelta(days=2))
    assert not queue.extend(item)


def test_a_lost_item_cannot_be_kept(project, alice):
    make_task(project)
    item = take(project, alice)
    expire(item)
    queue.reap()
    assert not queue.extend(item)


# --- why there is nothing


@pytest.mark.parametrize("status", ["paused", "closed"])
def test_a_stopped_project_hands_out_nothing(project, alice, status):
    make_task(project)
    take(project, alice)
    project.status = status
    assert end(project, alice).reason == status


def test_an_end_state_says_when_held_items_come_back(project, alice, bob):
    make_task(project)
    item = take(project, alice)
    state = end(project, bob)
    item.refresh_from_db()
    assert state == EndState(Reason.HELD, until=item.lease_expires_at)


def test_it_is_done_when_all_is_judged(project, alice, bob):
    make_task(project)
    judge(project, alice)
    assert end(project, alice).reason is Reason.DONE
    assert end(project, bob).reason is Reason.DONE


def test_viewers_and_strangers_get_nothing(project, vera, charlie):
    make_task(project)
    assert end(project, vera).reason is Reason.NOT_A_JUDGE
    assert end(project, charlie).reason is Reason.NOT_A_JUDGE


def test_a_site_admin_becomes_a_member_by_judging(project, root):
    make_task(project)
    judge(project, root)
    membership = Membership.objects.get(user=root)
    assert (membership.role, membership.n_judged) == ("manager", 1)


def test_the_queue_frees_what_nobody_came_back_to(project, alice):
    """Where nobody claims, nothing else would."""
    task = make_task(project)
    expire(take(project, alice))
    QueueKeeper().listen()
    assert "labelhub.tasks.reap_leases" in [
        order.func() for order in OrmQ.objects.all()
    ]
    assert tasks.reap_leases() == 1
    assert counters(task) == ("open", 0, 0)
