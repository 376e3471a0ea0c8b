from __future__ import annotations

import pytest

from labelhub import progress, queue
from tests.builders import make_project, make_task
from tests.conftest import client_of


@pytest.fixture
def url(project):
    return f"/projects/{project.slug}/guidelines/"


@pytest.fixture
def three(project, mona):
    for text in ("Be kind.", "Be kind.\nBe brief.", "Be kind.\nBe clear."):
        project.write_guideline(text, mona)


def lines(client, url, **query):
    r = client.get(url, query)
    assert r.status_code == 200
    return r.context["lines"]


def test_the_last_two_are_compared(manager, url, three):
    assert lines(manager, url) == [
        ("kept", "Be kind."),
        ("removed", "Be brief."),
        ("added", "Be clear."),
    ]
    page = manager.get(url).content.decode()
    assert "<del>" in page and "<ins>" in page
    assert "mona" in page
    assert '<option value="2" selected>' in page
    assert '<option value="3" selected>' in page


def test_any_two_are_compared(manager, url, three):
    added = [("kept", "Be kind."), ("added", "Be clear.")]
    assert lines(manager, url, old=1, new=3) == added
    assert lines(manager, url, old=3, new=1) == [
        ("kept", "Be kind."),
        ("removed", "Be clear."),
    ]


def test_a_version_alone_is_compared_with_the_one_before(manager, url, three):
    assert lines(manager, url, new=2)[-1] == ("added", "Be brief.")


def test_the_first_version_is_shown_whole(manager, url, three):
    r = manager.get(url, {"new": 1})
    assert r.context["old"] is None
    assert "<p>Be kind.</p>" in r.content.decode()


def test_a_project_without_any_says_so(manager, url):
    assert "No guidelines yet" in manager.get(url).content.decode()


@pytest.mark.parametrize("query", [{"old": 9}, {"new": "x"}, {"new": 10**30}])
def test_a_version_that_is_not_there(manager, url, three, query):
    r = manager.get(url, query)
    assert r.status_code == 422
    assert "There is no version" in r.content.decode()


def test_what_was_written_is_no_html(manager, url, project, mona):
    project.write_guideline("Be kind.", mona)
    project.write_guideline("<script>alert(1)</script>", mona)
    assert "<script>alert(1)" not in manager.get(url).content.decode()


def test_judgments_are_found_by_the_version_they_were_made_by(
    manager, url, project, alice, bob, mona
):
    make_task(project, n_required=2)
    for person, text in ((alice, "Be kind."), (bob, "Be brief.")):
        project.write_guideline(text, mona)
        item = queue.claim(project, person)
        queue.submit(item.pk, person, "left")
    versions = {g.version: str(g.pk) for g in project.guidelines.all()}
    counted = progress.count(project)["by_guideline"]
    assert counted == {versions[1]: 1, versions[2]: 1}
    assert "/data/?guideline=2" in manager.get(url).content.decode()

    data = f"/projects/{project.slug}/data/"
    found = manager.get(data, {"guideline": 2}).context["page"].tasks
    assert len(found) == 1
    assert manager.get(data, {"guideline": 3}).context["page"].tasks == []


def test_what_is_being_counted_is_not_called_none(manager, url, three, monkeypatch):
    monkeypatch.setattr(progress, "SMALL", -1)
    assert "being counted" in manager.get(url).content.decode()


def test_versions_of_another_project_are_not_shown(manager, url, mona):
    make_project("Other").write_guideline("Secret.", mona)
    assert "Secret" not in manager.get(url).content.decode()


def test_annotators_read_the_guidelines_where_they_judge(client, url, three):
    assert client.get(url).status_code == 404


def test_a_reviewer_reads_them(url, three, rita):
    assert client_of(rita).get(url).status_code == 200
