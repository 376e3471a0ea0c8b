from __future__ import annotations

import re
from functools import partial

import pytest

from labelhub import queue
from labelhub.models import Event, Membership, User
from tests.builders import add_member, make_project, make_task, make_user
from tests.conftest import client_of
from tests.threads import at_once


@pytest.fixture
def url(project):
    return f"/projects/{project.slug}/members/"


def test_it_lists_everybody(manager, url, alice):
    assert "alice" in manager.get(url).content.decode()


def test_a_new_name_gets_an_account_and_a_password_shown_once(manager, url, project):
    r = manager.post(f"{url}add/", {"username": "dora", "role": "annotator"})
    password = re.search(r"<code>(.+)</code>", r.content.decode())[1]
    assert User.objects.get(username="dora").check_password(password)
    assert project.memberships.get(user__username="dora").role == "annotator"
    assert password not in manager.get(url).content.decode()
    assert Event.objects.filter(verb="member.added").count() == 1


def test_somebody_with_an_account_is_added_and_keeps_the_password(
    manager, url, project, charlie
):
    before = charlie.password
    assert (
        manager.post(
            f"{url}add/", {"username": "charlie", "role": "viewer"}, follow=True
        ).status_code
        == 200
    )
    charlie.refresh_from_db()
    assert charlie.password == before
    assert project.memberships.get(user=charlie).role == "viewer"


@pytest.mark.parametrize(
    ("username", "role", "sentence"),
    [
        ("alice", "viewer", "is in this project already"),
        ("no spaces please", "viewer", "valid username"),
        ("", "viewer", "required"),
        ("dora", "king", "not one of the available choices"),
    ],
)
def test_it_rejects_bad_input_and_adds_nobody(
    manager, url, alice, project, username, role, sentence
):
    n = project.memberships.count()
    r = manager.post(f"{url}add/", {"username": username, "role": role})
    assert r.status_code == 422
    assert sentence in r.content.decode()
    assert project.memberships.count() == n
    assert not User.objects.filter(username="dora").exists()


def test_a_role_is_changed(manager, url, project, alice):
    membership = project.memberships.get(user=alice)
    manager.post(f"{url}{membership.pk}/role/", {"role": "reviewer"})
    membership.refresh_from_db()
    assert membership.role == "reviewer"


def test_an_unknown_role_changes_nothing(manager, url, project, alice):
    membership = project.memberships.get(user=alice)
    r = manager.post(f"{url}{membership.pk}/role/", {"role": "king"})
    assert r.status_code == 422
    membership.refresh_from_db()
    assert membership.role == "annotator"


def test_removing_asks_for_the_name(manager, url, project, alice):
    membership = project.memberships.get(user=alice)
    r = manager.post(f"{url}{membership.pk}/remove/", {"username": "alise"})
    assert r.status_code == 422
    assert project.memberships.filter(user=alice).exists()

    manager.post(f"{url}{membership.pk}/remove/", {"username": "alice"})
    assert not project.memberships.filter(user=alice).exists()
    assert User.objects.filter(username="alice").exists()


def test_what_a_removed_member_held_is_free_again(manager, url, project, alice):
    task = make_task(project)
    queue.claim(project, alice)
    membership = project.memberships.get(user=alice)
    manager.post(f"{url}{membership.pk}/remove/", {"username": "alice"})
    task.refresh_from_db()
    assert task.n_leased == 0


def test_another_projects_member_is_404(manager, url):
    other = add_member(make_project(), make_user())
    assert manager.get(f"{url}{other.pk}/remove/").status_code == 404
    manager.post(f"{url}{other.pk}/role/", {"role": "manager"})
    assert Membership.objects.get(pk=other.pk).role == "annotator"


@pytest.mark.parametrize("path", ["add/", "1/role/"])
def test_a_get_changes_nothing(manager, url, path):
    assert manager.get(f"{url}{path}").status_code == 405


def test_who_comes_back_finds_what_they_have_judged(manager, url, project, alice):
    make_task(project)
    queue.submit(queue.claim(project, alice).pk, alice, "left")
    pk = project.memberships.get(user=alice).pk
    manager.post(f"{url}{pk}/remove/", {"username": "alice"})
    manager.post(f"{url}add/", {"username": "alice", "role": "annotator"})
    assert project.memberships.get(user=alice).n_judged == 1


def test_who_may_no_longer_judge_gives_the_item_back(manager, url, project, alice):
    task = make_task(project)
    queue.claim(project, alice)
    pk = project.memberships.get(user=alice).pk
    manager.post(f"{url}{pk}/role/", {"role": "viewer"})
    task.refresh_from_db()
    assert task.n_leased == 0


def test_a_role_that_is_set_twice_is_one_event(manager, url, project, alice):
    pk = project.memberships.get(user=alice).pk
    for _ in range(2):
        manager.post(f"{url}{pk}/role/", {"role": "reviewer"})
    assert Event.objects.filter(verb="member.role_changed").count() == 1


@pytest.mark.django_db(transaction=True)
def test_added_by_many_at_once_somebody_is_one_member(url, project, mona):
    clients = [client_of(mona) for _ in range(4)]
    form = {"username": "dora", "role": "annotator"}
    at_once(*(partial(client.post, f"{url}add/", form) for client in clients))
    assert project.memberships.filter(user__username="dora").count() == 1
    assert Event.objects.filter(verb="member.added").count() == 1
