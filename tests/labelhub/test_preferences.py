from __future__ import annotations

import pytest
from pytest_django.asserts import assertContains, assertNotContains, assertRedirects

from labelhub import queue
from labelhub.models import Assignment
from labelhub.preferences import PREFERENCES, preferences_of
from tests.builders import add_member, make_project, make_task
from tests.conftest import client_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def address(project, alice) -> str:
    make_task(project, "Why?", "One **two** three.", "One **four** three.")
    item = queue.claim(project, alice)
    assert isinstance(item, Assignment)
    return f"/projects/{project.slug}/judge/{item.pk}/"


def choose(client, **choices):
    return client.post("/preferences/", choices)


@pytest.mark.parametrize(
    ("name", "value"), [(p.name, value) for p in PREFERENCES for value in p.choices]
)
def test_every_choice_is_remembered(client, alice, name, value):
    choose(client, **{name: value})
    alice.refresh_from_db()
    assert preferences_of(alice)[name] == value


def test_one_choice_leaves_the_others(client, alice):
    choose(client, layout="tabs", size="large")
    choose(client, size="larger")
    alice.refresh_from_db()
    assert alice.preferences == {"layout": "tabs", "size": "larger"}


def test_without_script_it_leads_back(client, address):
    r = client.post("/preferences/", {"layout": "stacked", "next": address})
    assertRedirects(r, address)
    assertContains(client.get(address), 'data-layout="stacked"')


@pytest.mark.parametrize("place", ["https://elsewhere.example/", "//e.org", ""])
def test_it_leads_nowhere_else(client, place):
    r = client.post("/preferences/", {"size": "large", "next": place})
    assertRedirects(r, "/")


def test_script_gets_no_page(client):
    r = client.post("/preferences/", {"size": "large"}, headers={"HX-Request": "true"})
    assert (r.status_code, r.content) == (204, b"")


def test_an_unknown_choice_is_refused_in_words(client, alice):
    r = choose(client, size="large", layout="upside down")
    assertContains(r, "“upside down” is no choice for layout", status_code=422)
    alice.refresh_from_db()
    assert alice.preferences == {}


def test_a_choice_that_is_gone_counts_as_none(client, alice, address):
    alice.preferences = {"layout": "spiral", "gone": "x"}
    alice.save()
    assertContains(client.get(address), 'data-layout="side"')


def test_they_are_the_persons_own(client, alice, bob, address):
    choose(client, layout="tabs")
    bob.refresh_from_db()
    assert preferences_of(bob)["layout"] == "side"


def test_differences_are_marked_in_the_source(client, address):
    choose(client, differences="on")
    r = client.get(address)
    assertContains(r, "**<mark>two</mark>**")
    assertContains(r, "**<mark>four</mark>**")


def test_marks_do_not_let_markup_through(client, project, alice):
    make_task(project, "", "<b>x</b> y", "<i>z</i> y")
    choose(client, differences="on")
    queue.claim(project, alice)
    r = client.get(f"/projects/{project.slug}/judge/", follow=True)
    assertNotContains(r, "<b>x</b>")
    assertNotContains(r, "<i>z</i>")


def test_a_single_response_has_nothing_to_compare(alice):
    project = make_project(kind="binary")
    add_member(project, alice)
    make_task(project, a="Only **this**.")
    client = client_of(alice)
    choose(client, differences="on", layout="tabs")
    r = client.get(f"/projects/{project.slug}/judge/", follow=True)
    assertContains(r, "Only <strong>this</strong>.")
    assertNotContains(r, "Words that differ")


def conversation(client, project, alice, messages, **metadata) -> str:
    task = make_task(project)
    task.prompt.messages = messages
    task.prompt.metadata = metadata
    task.prompt.save()
    queue.claim(project, alice)
    r = client.get(f"/projects/{project.slug}/judge/", follow=True)
    return r.content.decode()


def test_a_system_prompt_stands_apart_with_its_first_line(client, project, alice):
    messages = [
        {"role": "system", "content": "Be brief.\nSecond rule."},
        {"role": "user", "content": "Why?"},
    ]
    html = conversation(client, project, alice, messages)
    assert '<span class="turn-first-line" dir="auto">Be brief.</span>' in html
    assert "Second rule." in html
    assert "earlier turn" not in html


def test_a_system_prompt_alone_is_the_turn(client, project, alice):
    messages = [{"role": "system", "content": "Say something."}]
    html = conversation(client, project, alice, messages)
    assert "turn-system turn-last" in html


def test_what_a_tool_gave_is_shown_as_it_was(client, project, alice):
    messages = [
        {"role": "user", "content": "Weather?"},
        {"role": "tool", "content": '{"sky": "*clear*"}'},
        {"role": "user", "content": "And then?"},
    ]
    html = conversation(client, project, alice, messages)
    assert "*clear*" in html
    assert "Tool</h2>" in html


@pytest.mark.parametrize("metadata", [{"language": "ar"}, {"lang": "ar"}])
def test_the_language_that_the_import_names_is_said(client, project, alice, metadata):
    messages = [{"role": "user", "content": "مرحبا"}]
    html = conversation(client, project, alice, messages, **metadata)
    assert html.count('lang="ar"') == 3


@pytest.mark.parametrize("named", ["", 7, None, ["ar"], 'ar" onclick="x', "Arabic!"])
def test_what_is_no_language_tag_is_not(client, project, alice, named):
    messages = [{"role": "user", "content": "مرحبا"}]
    html = conversation(client, project, alice, messages, language=named)
    assert html.count("lang=") == 1, "the page's own"
