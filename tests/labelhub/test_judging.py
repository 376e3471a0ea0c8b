from __future__ import annotations

import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django.asserts import assertContains, assertNotContains, assertRedirects

from labelhub import queue
from labelhub.models import Assignment, Judgment, Project, Response, Task
from tests.builders import add_member, make_project, make_task, make_user
from tests.conftest import client_of

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}


@pytest.fixture
def url(project) -> str:
    return f"/projects/{project.slug}/judge/"


def item_of(project, person) -> Assignment:
    item = queue.claim(project, person)
    assert isinstance(item, Assignment)
    return item


def address(item: Assignment) -> str:
    return f"/projects/{item.project.slug}/judge/{item.pk}/"


# --- one item


def test_judging_leads_to_an_item(client, project, url):
    make_task(project, "What is ice?", "Frozen water.", "A metal.")
    r = client.get(url)
    item = Assignment.objects.get()
    assertRedirects(r, address(item))
    r = client.get(address(item))
    assertContains(r, "What is ice?")
    assertContains(r, "Frozen water.")
    assertContains(r, "A metal.")
    assert "no-store" in r["Cache-Control"]


def test_reload_and_back_give_the_same_item(client, project, url):
    for _ in range(4):
        make_task(project)
    assert client.get(url).url == client.get(url).url
    assert Assignment.objects.count() == 1


def test_left_is_the_side_that_was_stored(client, project, alice):
    for _ in range(8):
        make_task(project, "", "It says a.", "It says b.")
        item = item_of(project, alice)
        html = client.get(address(item)).content.decode()
        first = "It says b." if item.swapped else "It says a."
        assert min(html.index("It says a."), html.index("It says b.")) == html.index(
            first
        )
        client.post(address(item), {"verdict": "left"})
        assert Judgment.objects.latest("pk").verdict == ("b" if item.swapped else "a")


def test_the_page_names_no_model_and_no_side_of_the_data(client, project, alice):
    make_task(project)
    Response.objects.update(model_name="secret-model-7b", external_id="ext-secret")
    item = item_of(project, alice)
    pages = [
        client.get(address(item)),
        client.post(address(item), {"verdict": "left"}, headers=HTMX),
        client.get(address(item)),
        client.get(f"/projects/{project.slug}/judge/"),
        client.get(f"/projects/{project.slug}/judge/history/"),
    ]
    for page in pages:
        html = page.content.decode()
        assert "secret" not in html
        assert "swapped" not in html
        assert "response_a" not in html
        for value in re.findall(r'(?:value|data-\w+)="([^"]*)"', html):
            assert value not in {"a", "b"}


def test_the_verdicts_stand_in_the_order_of_the_columns(client, project, alice):
    make_task(project)
    html = client.get(address(item_of(project, alice))).content.decode()
    verdicts = re.findall(r'name="verdict" value="(\w+)"', html)
    assert verdicts == ["left", "tie", "both_bad", "right"]


@pytest.mark.parametrize("points", [5, 7])
def test_a_scale_stands_from_left_to_right(client, project, alice, points):
    project.strength_points = points
    project.save()
    make_task(project)
    html = client.get(address(item_of(project, alice))).content.decode()
    shown = re.findall(r'name="verdict" value="([\w-]+)"', html)
    strengths = range(1, points // 2 + 1)
    assert shown == [
        *(f"left-{n}" for n in reversed(strengths)),
        *("tie", "both_bad"),
        *(f"right-{n}" for n in strengths),
    ]


def test_a_strength_belongs_to_the_response_on_either_side(client, project, alice):
    """What is left on the page wins by what was pressed, however the sides lie."""
    project.strength_points = 7
    project.save()
    seen = set()
    for _ in range(12):
        make_task(project)
        item = item_of(project, alice)
        client.post(address(item), {"verdict": "left-3"})
        judgment = Judgment.objects.latest("pk")
        assert judgment.verdict == ("b" if item.swapped else "a")
        assert judgment.verdict == judgment.shown_left
        assert judgment.strength == 3
        html = client.get(address(item)).content.decode()
        pressing = r'name="verdict" value="([\w-]+)"[^>]*aria-pressed="true"'
        [pressed] = re.findall(pressing, html)
        assert pressed == "left-3"
        seen.add(item.swapped)
    assert seen == {True, False}
    history = client.get(f"/projects/{project.slug}/judge/history/")
    assertContains(history, "A is much better", count=12)


def test_an_answer_on_another_scale_is_refused_and_its_note_kept(
    client, project, alice
):
    project.strength_points = 5
    project.save()
    make_task(project)
    item = item_of(project, alice)
    r = client.post(address(item), {"verdict": "left", "note": "Because."})
    assert r.status_code == 422
    assertContains(r, "is no verdict here", status_code=422)
    assertContains(r, "Because.", status_code=422)
    assert not Judgment.objects.exists()


def test_binary_asks_good_or_bad(client, alice):
    project = make_project(kind="binary")
    add_member(project, alice)
    make_task(project, a="Only this.")
    item = item_of(project, alice)
    html = client.get(address(item)).content.decode()
    assert re.findall(r'name="verdict" value="(\w+)"', html) == ["bad", "good"]
    client.post(address(item), {"verdict": "good"})
    assert Judgment.objects.get().verdict == "good"


def test_the_conversation_is_shown_in_order(client, project, alice):
    task = make_task(project)
    task.prompt.messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "First question"},
        {"role": "assistant", "content": "First answer"},
        {"role": "user", "content": "Last question"},
    ]
    task.prompt.save()
    html = client.get(address(item_of(project, alice))).content.decode()
    places = [html.index(turn["content"]) for turn in task.prompt.messages]
    assert places == sorted(places)
    assert "2 earlier turns" in html


def test_as_written_shows_the_source(client, project, alice):
    make_task(project, "", "**bold** & <b>", "x")
    item = item_of(project, alice)
    assertContains(client.get(address(item)), "<strong>bold</strong> &amp; &lt;b&gt;")
    client.post("/preferences/", {"text": "written"})
    r = client.get(address(item))
    assertContains(r, "**bold** &amp; &lt;b&gt;")


def test_an_empty_response_is_said_to_be_empty(client, project, alice):
    make_task(project, "", " \n", "x")
    r = client.get(address(item_of(project, alice)))
    assertContains(r, "The response is empty.")


# --- an answer


def test_without_script_an_answer_leads_on(client, project, alice, url):
    make_task(project)
    make_task(project)
    item = item_of(project, alice)
    r = client.post(address(item), {"verdict": "tie", "note": "Same."}, follow=True)
    assert r.redirect_chain == [(address(item_of(project, alice)), 302)]
    assertContains(r, "Saved")
    judgment = Judgment.objects.get()
    assert (judgment.verdict, judgment.note) == ("tie", "Same.")


def test_htmx_gets_the_next_item_in_the_same_round_trip(client, project, alice):
    make_task(project)
    make_task(project, "And at dusk?")
    first = item_of(project, alice)
    r = client.post(address(first), {"verdict": "left"}, headers=HTMX)
    following = item_of(project, alice)
    assert following != first
    assert r["HX-Push-Url"] == address(following)
    assertNotContains(r, "<html")
    assertContains(r, f'data-item="{following.pk}"')
    assertContains(r, 'id="judge-progress" hx-swap-oob="true"')
    assertContains(r, "Saved")


def test_the_last_answer_leads_to_the_end(client, project, alice, url):
    make_task(project)
    item = item_of(project, alice)
    r = client.post(address(item), {"verdict": "left"}, headers=HTMX)
    assertContains(r, "Everything is judged")
    assert r["HX-Push-Url"] == url


@pytest.mark.parametrize("verdict", ["", "a", "both", "good"])
@pytest.mark.parametrize("headers", [HTMX, {}])
def test_it_rejects_an_unknown_verdict(client, project, alice, verdict, headers):
    make_task(project)
    item = item_of(project, alice)
    data = {"verdict": verdict, "note": "Kept."}
    r = client.post(address(item), data, headers=headers)
    assertContains(r, "is no verdict here", status_code=422)
    assertContains(r, "Kept.", status_code=422)
    assert not Judgment.objects.exists()


@pytest.mark.parametrize(
    ("note", "sentence"),
    [("a\0b", "holds a NUL character"), ("x" * 10_001, "10001 characters; 10000 are")],
)
@pytest.mark.parametrize("answer", [{"verdict": "left"}, {"action": "skip"}])
def test_a_note_that_cannot_be_kept_is_refused_in_words(
    client, project, alice, answer, note, sentence
):
    make_task(project)
    item = item_of(project, alice)
    r = client.post(address(item), answer | {"note": note})
    assert r.status_code == 422
    assert sentence in r.content.decode()
    assert "b</textarea>" in r.content.decode() or "x</textarea>" in r.content.decode()
    item.refresh_from_db()
    assert item.state == "leased"


def test_an_answer_sent_twice_is_one_and_leads_to_the_same_item(client, project, alice):
    for _ in range(3):
        make_task(project)
    item = item_of(project, alice)
    one = client.post(address(item), {"verdict": "left"}, headers=HTMX)
    two = client.post(address(item), {"verdict": "left"}, headers=HTMX)
    assert one["HX-Push-Url"] == two["HX-Push-Url"]
    assert Judgment.objects.count() == 1


def test_two_tabs_that_disagree_are_told(client, project, alice):
    for _ in range(2):
        make_task(project)
    item = item_of(project, alice)
    client.post(address(item), {"verdict": "left"}, headers=HTMX)
    r = client.post(address(item), {"verdict": "tie"}, headers=HTMX)
    assertContains(r, "You had answered this item already")
    assert Judgment.objects.get().verdict != "tie"


def test_a_retired_item_keeps_its_answer_and_says_so(client, project, alice):
    make_task(project)
    item = item_of(project, alice)
    Task.objects.update(status="retired")
    r = client.post(address(item), {"verdict": "left"}, headers=HTMX)
    assertContains(r, "Saved as an extra")
    assert Judgment.objects.get().surplus


def test_a_paused_project_takes_the_answer_and_then_says_it_is_paused(
    client, project, alice
):
    make_task(project)
    item = item_of(project, alice)
    Project.objects.update(status="paused")
    r = client.post(address(item), {"verdict": "left"}, headers=HTMX)
    assertContains(r, "The project is paused")
    assertContains(r, "Saved")
    assert not Judgment.objects.get().surplus


def test_a_skip_leads_on(client, project, alice):
    make_task(project)
    make_task(project)
    item = item_of(project, alice)
    data = {"action": "skip", "note": "Not my language."}
    r = client.post(address(item), data, headers=HTMX)
    assertContains(r, "Skipped")
    item.refresh_from_db()
    assert (item.state, item.skip_reason) == ("skipped", "Not my language.")
    assert not Judgment.objects.exists()


def test_new_guidelines_come_with_the_next_item(client, project, alice):
    for _ in range(3):
        make_task(project)
    project.write_guideline("Prefer *truth*.", None)
    r = client.post(address(item_of(project, alice)), {"verdict": "left"}, headers=HTMX)
    assertNotContains(r, 'id="guidelines"')
    project.write_guideline("Prefer *brevity*.", None)
    client.post(address(item_of(project, alice)), {"verdict": "left"}, headers=HTMX)
    page = client.get(address(item_of(project, alice)))
    assertContains(page, "Prefer <em>brevity</em>.")
    assertContains(page, "version 2")


# --- undo and history


def test_undo_goes_ten_deep_and_answers_again(client, project, alice):
    for _ in range(12):
        make_task(project)
        client.post(address(item_of(project, alice)), {"verdict": "left"})
    page = client.get(f"/projects/{project.slug}/judge/")
    for _ in range(10):
        back = re.search(r'href="([^"]+)"[^>]*data-key="u ', page.content.decode())
        page = client.get(back[1], headers=HTMX)
    assertContains(page, "You answered this")
    assertContains(page, 'value="left" data-key="1 a" aria-pressed="true"')
    third = Assignment.objects.order_by("ended_at")[2]
    assert back[1] == address(third)

    data = {"verdict": "both_bad", "replaces": "1", "note": "On second thought."}
    client.post(back[1], data, headers=HTMX)
    assert third.judgments.standing().get().verdict == "both_bad"
    assert Judgment.objects.count() == 13


def test_a_skipped_item_can_be_reached_and_answered(client, project, alice, url):
    make_task(project)
    item = item_of(project, alice)
    client.post(address(item), {"action": "skip"})
    assertContains(client.get(url), "You skipped the rest")
    assertContains(client.get(f"{url}history/"), address(item))
    client.post(address(item), {"verdict": "left"})
    assert Judgment.objects.get().surplus is False


def test_history_shows_my_answers_and_nobody_elses(client, project, alice, bob, url):
    project.judgments_per_task = 2
    make_task(project, "The only prompt")
    assertContains(client.get(f"{url}history/"), "Nothing judged yet")
    queue.submit(item_of(project, bob).pk, bob, "tie", note="bob's note")
    assertNotContains(client.get(f"{url}history/"), "The only prompt")
    queue.submit(item_of(project, alice).pk, alice, "left", note="my note")
    r = client.get(f"{url}history/")
    assertContains(r, "The only prompt")
    assertContains(r, "A is better")
    assertNotContains(r, "bob")


# --- who may


def test_it_requires_login(project, url):
    from django.test import Client

    r = Client().get(url)
    assertRedirects(r, f"/login/?next={url}", fetch_redirect_response=False)


@pytest.mark.parametrize("path", ["", "history/"])
def test_strangers_find_nothing(charlie, project, url, path):
    make_task(project)
    assert client_of(charlie).get(f"{url}{path}").status_code == 404


def test_viewers_are_told_that_they_may_not_judge(vera, project, url):
    make_task(project)
    r = client_of(vera).get(url)
    assertContains(r, "You are not an annotator here", status_code=403)
    assert not Assignment.objects.exists()
    assert client_of(vera).get(f"{url}history/").status_code == 403


def test_another_persons_item_does_not_exist(project, alice, bob, mona):
    make_task(project)
    item = item_of(project, alice)
    for person in (bob, mona):
        other = client_of(person)
        assert other.get(address(item)).status_code == 404
        assert other.post(address(item), {"verdict": "left"}).status_code == 404
        assert other.post(f"{address(item)}extend/").status_code == 404
    assert not Judgment.objects.exists()


def test_an_item_of_another_project_is_not_found_here(client, project, alice):
    elsewhere = make_project()
    add_member(elsewhere, alice)
    make_task(elsewhere)
    item = item_of(elsewhere, alice)
    r = client.get(f"/projects/{project.slug}/judge/{item.pk}/")
    assert r.status_code == 404


def test_a_removed_member_loses_the_page(client, project, alice):
    make_task(project)
    item = item_of(project, alice)
    project.memberships.filter(user=alice).delete()
    assert client.post(address(item), {"verdict": "left"}).status_code == 404


@pytest.mark.parametrize("pk", ["x", "00000000-0000-0000-0000-000000000000"])
def test_a_missing_item_is_404(client, url, pk):
    assert client.get(f"{url}{pk}/").status_code == 404


def test_wrong_methods_are_refused(client, project, alice, url):
    make_task(project)
    item = item_of(project, alice)
    assert client.post(url).status_code == 405
    assert client.delete(address(item)).status_code == 405
    assert client.get(f"{address(item)}extend/").status_code == 405


def test_reviewers_and_site_admins_judge_too(project, rita, root, url):
    for _ in range(2):
        make_task(project)
    for person in (rita, root):
        assert client_of(person).get(url).status_code == 302


# --- while reading


def test_reading_on_keeps_the_item(client, project, alice):
    make_task(project)
    item = item_of(project, alice)
    assert client.post(f"{address(item)}extend/").status_code == 204
    Assignment.objects.update(state="expired")
    Task.objects.update(n_leased=0)
    assert client.post(f"{address(item)}extend/").status_code == 409


@pytest.mark.parametrize(
    ("status", "words"), [("paused", "is paused"), ("closed", "is closed")]
)
def test_a_stopped_project_says_so(client, project, url, status, words):
    make_task(project)
    Project.objects.update(status=status)
    assertContains(client.get(url), words)


def test_nothing_imported_is_said(client, url):
    assertContains(client.get(url), "Nothing to judge yet")


def test_held_items_are_said_to_come_back(client, project, bob, url):
    make_task(project)
    item = item_of(project, bob)
    item.refresh_from_db()
    assertContains(client.get(url), f"{item.lease_expires_at:%H:%M} UTC")


def test_queries_do_not_grow_with_the_project(client, project, alice, monkeypatch):
    monkeypatch.setattr(queue._dice, "random", lambda: 0.0)  # No wrapping around.

    def queries() -> int:
        item = item_of(project, alice)
        with CaptureQueriesContext(connection) as captured:
            client.post(address(item), {"verdict": "left"}, headers=HTMX)
        return len(captured)

    for _ in range(4):
        make_task(project)
    queries()
    few = queries()
    for _ in range(10):
        make_task(project)
        person = add_member(project, make_user()).user
        queue.submit(item_of(project, person).pk, person, "left")
    for _ in range(20):
        make_task(project)
        queries()
    assert queries() == few <= 22
