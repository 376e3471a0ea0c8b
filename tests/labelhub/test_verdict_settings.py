"""What a manager lets annotators be asked beside the verdict."""

from __future__ import annotations

import pytest
from pytest_django.asserts import assertContains, assertNotContains

from labelhub.models import Event
from tests.builders import add_member, make_judgment, make_project, make_task

pytestmark = pytest.mark.django_db

ASKED = {"strength_points": "3"}


@pytest.fixture
def url(project) -> str:
    return f"{project.get_absolute_url()}settings/verdicts/"


def test_a_change_is_stored_and_told_once(manager, project, url):
    for _ in range(2):
        assert manager.post(url, ASKED | {"strength_points": "7"}).status_code == 302
    project.refresh_from_db()
    assert project.strength_points == 7
    event = Event.objects.get(verb="project.changed")
    assert event.data == {"strength_points": "7"}


def test_a_scale_is_chosen_until_a_strength_was_stored(manager, project, url):
    for points in (7, 5):
        r = manager.post(url, ASKED | {"strength_points": points})
        assert r.status_code == 302
    make_judgment(make_task(project), "a", strength=2)
    assert manager.post(url, ASKED | {"strength_points": 5}).status_code == 302
    r = manager.post(url, ASKED | {"strength_points": 7})
    assertContains(r, "on 5 points already", status_code=422)
    project.refresh_from_db()
    assert project.strength_points == 5


def test_no_other_scale_is_taken(manager, project, url):
    assert manager.post(url, ASKED | {"strength_points": 4}).status_code == 422
    project.refresh_from_db()
    assert project.strength_points == 3


def test_single_responses_have_no_scale(manager, mona):
    project = make_project(kind="binary")
    add_member(project, mona, "manager")
    url = f"{project.get_absolute_url()}settings/verdicts/"
    assertNotContains(manager.get(url), "strength_points")
