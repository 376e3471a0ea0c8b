from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from labelhub.models import Event
from labelhub.views.audit import PER_PAGE
from tests.builders import make_project, make_run
from training import runs


@pytest.fixture
def url(project):
    return f"/projects/{project.slug}/audit/"


def happen(project, verb="member.added", n=1, **fields):
    return [
        Event.objects.create(project=project, verb=verb, **fields) for _ in range(n)
    ]


def page_of(client, url, **query):
    r = client.get(url, query)
    assert r.status_code == 200
    return r


def test_what_a_manager_does_is_in_it(manager, url, project, alice):
    membership = project.memberships.get(user=alice)
    manager.post(
        f"/projects/{project.slug}/members/{membership.pk}/role/", {"role": "reviewer"}
    )
    page = page_of(manager, url).content.decode()
    assert "Member role changed" in page
    assert "mona" in page
    assert "reviewer" in page


def test_what_somebody_does_to_a_run_is_in_it(manager, url, project, mona):
    run = make_run(project, name="first try")
    runs.cancel(run, actor=mona)
    page = page_of(manager, url).content.decode()
    assert "Run canceled" in page
    assert "first try" in page


def test_details_are_flat_and_name_no_empty_ones(project):
    recipe = {"for": "dpo", "judges": ["human", "imported"], "min_votes": 0}
    [event] = happen(project, data={"recipe": recipe, "error": "", "n": None})
    assert event.facts == [
        ("recipe for", "dpo"),
        ("recipe judges", "human, imported"),
        ("recipe min votes", "0"),
    ]


def test_it_shows_nothing_of_other_projects(manager, url):
    happen(make_project("Secret plans"), verb="plan.hatched")
    assert "Plan hatched" not in page_of(manager, url).content.decode()


def test_every_event_is_on_exactly_one_page(manager, url, project):
    events = happen(project, n=2 * PER_PAGE + 3)
    seen, before = [], ""
    for _ in range(3):
        context = page_of(manager, url, before=before).context
        seen += [event.pk for event in context["events"]]
        before = context["older"] or ""
    assert not before
    assert seen == [event.pk for event in reversed(events)]


@pytest.mark.parametrize("q", ["user:17", "ROLE_ch", "secret rea", "mona"])
def test_it_finds_by_subject_verb_person_and_details(manager, url, project, mona, q):
    happen(project, verb="task.retired")
    [wanted] = happen(
        project,
        verb="member.role_changed",
        actor=mona,
        subject="user:17",
        data={"why": "a secret reason"},
    )
    assert list(page_of(manager, url, q=q).context["events"]) == [wanted]


def test_it_finds_by_who_did_it(manager, url, project, mona, rita):
    happen(project, actor=rita)
    [wanted] = happen(project, actor=mona)
    found = page_of(manager, url, actor="mona").context["events"]
    assert list(found) == [wanted]


def test_a_search_without_a_match_says_so(manager, url, project):
    happen(project)
    assert "Nothing like that happened" in page_of(manager, url, q="%").content.decode()


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"day": "yesterday"}, "That is no day"),
        ({"actor": "nobody"}, "not one of the available choices"),
        ({"before": "9" * 30}, "less than or equal"),
        ({"q": "x" * 201}, "at most 200"),
    ],
)
def test_bad_input_gets_a_sentence(manager, url, query, sentence):
    r = manager.get(url, query)
    assert r.status_code == 422
    assert sentence in r.content.decode()


def test_the_number_of_queries_does_not_grow(manager, url, project, mona):
    happen(project, actor=mona)
    with CaptureQueriesContext(connection) as few:
        manager.get(url)
    happen(project, n=30, actor=mona)
    with CaptureQueriesContext(connection) as many:
        manager.get(url)
    assert len(many) == len(few)
