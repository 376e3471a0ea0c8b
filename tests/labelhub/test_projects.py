from __future__ import annotations

import re
from functools import partial

import pytest

from labelhub import queue
from labelhub.models import Event, Project
from tests.builders import (
    add_member,
    make_judgment,
    make_project,
    make_run,
    make_snapshot,
    make_task,
    make_user,
)
from tests.conftest import client_of
from tests.threads import at_once

NEW = {
    "name": "Helpful answers",
    "description": "",
    "kind": "pairwise",
    "judgments_per_task": "2",
    "order": "random",
    "allow_tie": "on",
    "lease_seconds": "1800",
    "guidelines": "Prefer the true one.",
}


def test_the_list_shows_only_ones_own_projects(client, project):
    make_project("Secret plans")
    page = client.get("/").content.decode()
    assert project.name in page
    assert "Secret plans" not in page


def test_a_site_admin_sees_every_project(root, project):
    assert project.name in client_of(root).get("/").content.decode()


def test_an_empty_list_says_what_to_do(charlie, root):
    assert "Ask whoever invited you" in client_of(charlie).get("/").content.decode()
    assert "New project" in client_of(root).get("/").content.decode()


def test_anonymous_people_are_sent_to_log_in(client):
    client.logout()
    assert client.get("/")["Location"].startswith("/login/")


def test_strangers_get_404(charlie, project):
    assert client_of(charlie).get(project.get_absolute_url()).status_code == 404


def test_annotators_see_their_own_numbers_and_no_others(client, project):
    make_judgment(make_task(project))
    page = client.get(project.get_absolute_url()).content.decode()
    assert "You judged" in page
    assert "Tasks done" not in page
    assert "Members" not in page


def test_managers_see_progress_and_sources(manager, project):
    make_judgment(make_task(project))
    page = manager.get(project.get_absolute_url()).content.decode()
    assert "Tasks done" in page
    assert "A person, elsewhere" in page


def test_the_overview_asks_no_more_of_the_database_for_more_rows(
    manager, project, django_assert_max_num_queries
):
    def members_and_tasks(n):
        for _ in range(n):
            add_member(project, make_user())
            make_task(project)

    members_and_tasks(2)
    manager.get(project.get_absolute_url())
    with django_assert_max_num_queries(16) as few:
        manager.get(project.get_absolute_url())
    members_and_tasks(6)
    with django_assert_max_num_queries(len(few)):
        manager.get(project.get_absolute_url())


def next_step(page: str) -> str:
    """The label of the one step that is next."""
    [found] = re.findall(r'aria-current="step">\s*<a[^>]*>([\w ]+)', page)
    return found


def test_the_overview_leads_a_manager_from_data_to_a_first_run(root):
    project = make_project()

    def follows() -> str:
        return next_step(
            client_of(root).get(project.get_absolute_url()).content.decode()
        )

    assert follows() == "Import data"
    make_task(project)
    assert follows() == "Add members"
    add_member(project, make_user())
    assert follows() == "Judge"
    queue.submit(queue.claim(project, root).pk, root, "left")
    assert follows() == "Freeze dataset"
    make_snapshot(project)
    assert follows() == "Launch run"
    make_run(project)
    page = client_of(root).get(project.get_absolute_url()).content.decode()
    assert 'class="steps"' not in page


def test_a_step_that_was_skipped_is_not_asked_for_again(manager, project):
    make_task(project)
    make_snapshot(project)  # of verdicts that came with the import
    page = manager.get(project.get_absolute_url()).content.decode()
    assert next_step(page) == "Launch run"


def test_only_managers_are_led(client, vera, project):
    for person in (client, client_of(vera)):
        page = person.get(project.get_absolute_url()).content.decode()
        assert 'class="steps"' not in page


def test_a_new_project_has_no_kind_until_one_is_chosen(root):
    page = client_of(root).get("/projects/new/").content.decode()
    assert page.count('name="kind"') == 2
    assert "checked" not in page.split("Judgments per task")[0]
    without = {name: value for name, value in NEW.items() if name != "kind"}
    assert client_of(root).post("/projects/new/", without).status_code == 422


def test_a_site_admin_creates_a_project(root):
    r = client_of(root).post("/projects/new/", NEW)
    project = Project.objects.get()
    assert r["Location"] == project.get_absolute_url() == "/projects/helpful-answers/"
    assert project.created_by == root
    assert not project.allow_both_bad
    assert project.current_guideline().text == "Prefer the true one."
    assert Event.objects.get().verb == "project.created"


def test_only_site_admins_create_projects(manager):
    assert manager.get("/projects/new/").status_code == 403
    assert manager.post("/projects/new/", NEW).status_code == 403
    assert Project.objects.count() == 1


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("name", "???", "at least one letter or digit"),
        ("judgments_per_task", "0", "greater than or equal to 1"),
        ("kind", "ranking", "not one of the available choices"),
        ("lease_seconds", "1", "greater than or equal to 60"),
    ],
)
def test_it_rejects_a_bad_field_and_keeps_the_rest(root, field, value, sentence):
    r = client_of(root).post("/projects/new/", {**NEW, field: value})
    page = r.content.decode()
    assert r.status_code == 422
    assert sentence in page
    assert "Prefer the true one." in page
    assert not Project.objects.exists()


def test_two_names_cannot_share_an_address(root):
    client_of(root).post("/projects/new/", NEW)
    r = client_of(root).post("/projects/new/", {**NEW, "name": "Helpful — answers!"})
    assert r.status_code == 422
    assert "helpful-answers" in r.content.decode()


def test_a_manager_changes_settings_and_guidelines(manager, project):
    project.write_guideline("First.", None)
    form = {**NEW, "name": "Renamed", "status": "paused", "guidelines": "Second."}
    del form["kind"]
    r = manager.post(f"/projects/{project.slug}/settings/", form)
    assert r.status_code == 302
    project.refresh_from_db()
    assert (project.name, project.status) == ("Renamed", "paused")
    assert [g.text for g in project.guidelines.order_by("version")] == [
        "First.",
        "Second.",
    ]


def test_saving_the_same_guidelines_makes_no_new_version(manager, project):
    project.write_guideline("First.", None)
    form = {**NEW, "status": "open", "guidelines": "First."}
    manager.post(f"/projects/{project.slug}/settings/", form)
    assert project.guidelines.count() == 1


def test_a_rejected_change_still_shows_the_name_it_has(manager, project):
    form = {**NEW, "name": "", "status": "open"}
    r = manager.post(f"/projects/{project.slug}/settings/", form)
    assert r.status_code == 422
    assert f"<title>Settings · {project.name}</title>" in r.content.decode()


@pytest.mark.parametrize("page", ["settings", "members"])
def test_only_managers_open_the_managers_pages(client, vera, charlie, project, page):
    url = f"/projects/{project.slug}/{page}/"
    assert client.get(url).status_code == 404  # alice, an annotator
    assert client_of(vera).get(url).status_code == 403
    assert client_of(charlie).get(url).status_code == 404


def test_no_project_takes_the_address_of_a_page(root):
    r = client_of(root).post("/projects/new/", NEW | {"name": "New"})
    assert r.status_code == 422
    assert "The address “new” is taken" in r.content.decode()
    assert not Project.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_made_by_many_at_once_there_is_one_project_and_nobody_sees_an_error(root):
    answers: list[int] = []

    def make(client) -> None:
        answers.append(client.post("/projects/new/", NEW).status_code)

    at_once(*(partial(make, client_of(root)) for _ in range(4)))
    assert sorted(answers) == [302, 422, 422, 422]
    assert Project.objects.count() == 1


def test_settings_that_are_saved_twice_are_one_event(manager, project):
    url = f"{project.get_absolute_url()}settings/"
    for _ in range(2):
        manager.post(url, NEW | {"status": "paused"})
    assert Event.objects.filter(verb="project.changed").count() == 1
