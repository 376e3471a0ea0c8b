from __future__ import annotations

import pytest

from labelhub import exploring, queue, searching
from labelhub.models import Assignment, ImportBatch, Judgment, Task
from tests.builders import (
    add_member,
    make_judgment,
    make_project,
    make_prompt,
    make_response,
    make_task,
    make_user,
)
from tests.conftest import client_of


@pytest.fixture
def url(project):
    return f"/projects/{project.slug}/data/"


def shown(client, url, **query):
    r = client.get(url, query)
    assert r.status_code == 200
    return [task.pk for task in r.context["page"].tasks]


def judge(project, user, verdict="left"):
    item = queue.claim(project, user)
    assert isinstance(item, Assignment)
    return queue.submit(item.pk, user, verdict)


def test_a_reviewer_sees_tasks_with_models_and_verdicts(project, rita, url):
    prompt = make_prompt(project, "What is the capital of Peru?")
    task = Task.objects.create(
        project=project,
        prompt=prompt,
        response_a=make_response(prompt, "Lima.", model_name="llama-9"),
        response_b=make_response(prompt, "Cusco.", model_name="mistral-8"),
        shuffle_key=0.5,
        status="open",
    )
    make_judgment(task, "a")
    make_judgment(task, "a")
    page = client_of(rita).get(url).content.decode()
    assert "capital of Peru" in page
    assert "llama-9" in page and "mistral-8" in page
    assert "A <strong>2</strong>" in page


def test_every_task_is_on_exactly_one_page(manager, project, url, monkeypatch):
    monkeypatch.setattr(exploring, "PER_PAGE", 3)
    tasks = [make_task(project).pk for _ in range(8)]
    seen, before = [], ""
    for _ in range(3):
        page = manager.get(url, {"before": before}).context["page"]
        seen += [task.pk for task in page.tasks]
        before = page.older
    assert seen == tasks[::-1]
    assert before is None


def test_a_rare_thing_is_looked_for_window_by_window(
    manager, project, url, monkeypatch
):
    monkeypatch.setattr(exploring, "WINDOW", 3)
    tasks = [make_task(project) for _ in range(8)]
    make_judgment(tasks[0], "tie")
    seen, before, n = [], "", 0
    while before is not None:
        page = manager.get(url, {"before": before, "verdict": "tie"}).context["page"]
        seen += [task.pk for task in page.tasks]
        before, n = page.older, n + 1
    assert seen == [tasks[0].pk]
    assert n == 3


def test_it_shows_nothing_of_other_projects(manager, url):
    other = make_project("Other")
    make_task(other, "A secret question about zebras")
    assert shown(manager, url) == []
    assert shown(manager, url, q="zebras") == []


def test_nor_the_private_copies_that_one_person_saw_again(manager, project, url):
    task = make_task(project)
    Task.objects.create(
        project=project,
        prompt=task.prompt,
        response_a=task.response_a,
        response_b=task.response_b,
        repeat_of=task,
        shuffle_key=0.1,
    )
    assert shown(manager, url) == [task.pk]


# --- Filters ------------------------------------------------------------------


def test_state_priority_and_import(manager, project, url):
    batch = ImportBatch.objects.create(project=project, sha256="b" * 64)
    done = make_task(project, status="done", n_done=1)
    urgent = make_task(project, priority=5)
    imported = make_task(project, batch=batch)
    assert shown(manager, url, state="done") == [done.pk]
    assert shown(manager, url, priority=5) == [urgent.pk]
    assert shown(manager, url, priority=0) == [imported.pk, done.pk]
    assert shown(manager, url, batch=batch.pk) == [imported.pk]
    assert shown(manager, url, batch=batch.pk, state="done") == []


def test_model(manager, project, url):
    task, _ = make_task(project), make_task(project)
    task.response_b.model_name = "gpt-x"
    task.response_b.save()
    assert shown(manager, url, model="gpt-x") == [task.pk]
    assert shown(manager, url, model="gpt") == []


@pytest.mark.parametrize("few", [0, 2_000])
def test_who_judged(manager, project, alice, bob, url, monkeypatch, few):
    monkeypatch.setattr(exploring, "FEW", few)
    make_task(project), make_task(project), make_task(project)
    [by_alice, by_bob] = [judge(project, who).task_id for who in (alice, bob)]
    assert shown(manager, url, annotator="alice") == [by_alice]
    assert shown(manager, url, annotator="bob") == [by_bob]


def test_a_verdict_that_was_replaced_is_not_found(manager, project, alice, url):
    task = make_task(project)
    first = judge(project, alice, "tie")
    queue.submit(first.assignment_id, alice, "both_bad", replaces=1)
    assert shown(manager, url, verdict="tie") == []
    assert shown(manager, url, verdict="both_bad") == [task.pk]


def test_disagreement_is_between_people(manager, project, url):
    agreed, split, machine = [make_task(project) for _ in range(3)]
    for task, verdicts in ((agreed, "aa"), (split, "ab"), (machine, "a")):
        for verdict in verdicts:
            make_judgment(task, verdict)
    make_judgment(machine, "b", source=Judgment.Source.MODEL)
    assert shown(manager, url, disagree="on") == [split.pk]


def test_filters_narrow_each_other(manager, project, url):
    wanted = make_task(project, "zebras and lions", priority=3)
    make_task(project, "zebras and lions at night")
    make_task(project, priority=3)
    assert shown(manager, url, q="zebras", priority=3) == [wanted.pk]


@pytest.mark.parametrize(
    "query",
    [
        {"state": "lost"},
        {"verdict": "good"},
        {"annotator": "nobody-here"},
        {"priority": "high"},
        {"priority": 10**30},
        {"batch": "x"},
        {"before": 10**30},
        {"q": "!!!"},
        {"q": "nul\0"},
    ],
)
def test_what_cannot_be_asked_is_said(manager, project, url, query):
    make_task(project)
    r = manager.get(url, query)
    assert r.status_code == 422
    assert r.context["page"].tasks == []
    assert 'role="alert"' in r.content.decode()


# --- Words --------------------------------------------------------------------

FOUND = [
    ("peru", True),
    ("PERU", True),
    ("capital peru", True),
    ("peru capital", True),
    ("cap", False),
    ("cap*", True),
    ("peru zebra", False),
    ("Größe", True),
    ("größe", True),
    ("grosse", False),
    ("state-of-the-art", True),
    ("art", True),
    ("snake_case", True),
    ("snake", True),
    ("3.14", True),
    ("14", True),
    ("quoted", True),
    ("example", True),
    ("user", False),
    ("role", False),
    ("it's", True),
    ("' OR 1=1 --", False),
    ("NOT", False),
    ('"peru', True),
    ("東京", True),
]


@pytest.mark.parametrize(("text", "is_found"), FOUND)
@pytest.mark.parametrize("place", ["prompt", "a", "b"])
def test_the_same_words_find_the_same_on_both_databases(project, place, text, is_found):
    words = (
        "What is the capital of Peru? It's state-of-the-art snake_case, 3.14 and the"
        " Größe of “quoted” things at https://www.example.org/x?y=1 in 東京\nnow"
    )
    task = make_task(project, **{place: words})
    make_task(project)
    found = searching.tasks_holding(project, text)
    assert found.task_ids == ([task.pk] if is_found else [])


def test_all_words_stand_in_one_text(project):
    make_task(project, "apples here", a="oranges there")
    assert searching.tasks_holding(project, "apples oranges").task_ids == []


def test_every_turn_is_searched(project):
    turns = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hello!"},
    ]
    prompt = make_prompt(project, "x", messages=turns)
    task = make_task(project, prompt)
    assert searching.tasks_holding(project, "kind").task_ids == [task.pk]
    assert searching.tasks_holding(project, "hello").task_ids == [task.pk]


def test_what_was_added_since_the_last_search_is_found(project):
    first = make_task(project, "about zebras")
    assert searching.tasks_holding(project, "zebras").task_ids == [first.pk]
    second = make_task(project, "more about zebras")
    assert searching.tasks_holding(project, "zebras").task_ids == [second.pk, first.pk]


def test_a_search_that_finds_too_much_says_so(manager, project, url, monkeypatch):
    monkeypatch.setattr(searching, "MOST", 2)
    for _ in range(3):
        make_task(project, f"zebra number {_}")
    assert searching.tasks_holding(project, "zebra").is_cut
    r = manager.get(url, {"q": "zebra"})
    assert len(r.context["page"].tasks) == 2
    assert "Too many texts hold these words" in r.content.decode()


def test_a_text_of_a_million_characters_is_searched_in_its_beginning(project):
    long = "zebra " + "word%d " * 1 + " ".join(f"w{n}" for n in range(150_000))
    task = make_task(project, a=long)
    assert searching.tasks_holding(project, "zebra").task_ids == [task.pk]
    assert searching.tasks_holding(project, "w149999").task_ids == []


# --- One task -----------------------------------------------------------------


def test_a_task_shows_who_judged_it_how_and_by_which_guidelines(
    manager, project, alice, bob, mona, url
):
    project.write_guideline("Be fair.", mona)
    project.write_guideline("Be very fair.", mona)
    task = make_task(project, "Why?", "Because.", "No reason.", n_required=2)
    first = judge(project, alice, "tie")
    queue.submit(first.assignment_id, alice, "both_bad", note="Hm.", replaces=1)
    item = queue.claim(project, bob)
    queue.skip(item.pk, bob, "I cannot read it")
    page = manager.get(f"{url}{task.pk}/").content.decode()
    for text in ("Because.", "No reason.", "alice", "Both bad", "Hm.", "replaced"):
        assert text in page
    assert "version 2" in page
    assert "I cannot read it" in page


def test_a_task_of_one_response(mona):
    project = make_project(kind="binary")
    add_member(project, mona, "manager")
    task = make_task(project, a="<b>Only</b> this")
    page = client_of(mona).get(f"/projects/{project.slug}/data/{task.pk}/?raw=1")
    assert "&lt;b&gt;Only&lt;/b&gt; this" in page.content.decode()


def test_annotators_do_not_learn_that_there_is_a_page(client, project, url):
    task = make_task(project)
    assert client.get(url).status_code == 404
    assert client.get(f"{url}{task.pk}/").status_code == 404
    assert url not in client.get(f"/projects/{project.slug}/").content.decode()


def test_somebody_who_left_is_not_offered_but_their_judgments_stay(
    manager, project, url
):
    zoe = make_user("zoe")
    membership = add_member(project, zoe)
    task = make_task(project)
    judge(project, zoe)
    membership.delete()
    assert "zoe" in manager.get(f"{url}{task.pk}/").content.decode()
