"""Who may open what: every address of the site, by every role. An address that is not
in the table fails here, so that nobody adds one without saying whose it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from labelhub import queue
from labelhub.models import ApiToken, Assignment, ImportBatch, Project, User
from tests.builders import (
    add_member,
    make_attempt,
    make_project,
    make_run,
    make_snapshot,
    make_task,
    make_user,
)
from tests.conftest import client_of
from training.core.choices import RLHFAlgorithm
from training.recipes import Ledger, Recipe
from training.storage import open_store

WORLD = {"nobody", "stranger", "annotator", "viewer", "reviewer", "manager", "admin"}
PEOPLE = WORLD - {"nobody"}
MEMBERS = PEOPLE - {"stranger"}
JUDGES = MEMBERS - {"viewer"}
READERS = MEMBERS - {"annotator"}
REVIEWERS = READERS - {"viewer"}
MANAGERS = {"manager", "admin"}
ADMINS = {"admin"}
OWNER = {"annotator"}
"""The item that is open here, and the token, are the annotator's."""

TABLE: dict[str, dict[str, set[str]]] = {
    "login": {"GET": WORLD, "POST": WORLD},
    "logout": {"POST": WORLD},
    "labelhub:healthz": {"GET": WORLD},
    "labelhub:projects": {"GET": PEOPLE},
    "labelhub:preferences": {"POST": PEOPLE},
    "labelhub:create_project": {"GET": ADMINS, "POST": ADMINS},
    "labelhub:tokens": {"GET": PEOPLE, "POST": PEOPLE},
    "labelhub:revoke_token": {"POST": OWNER},
    "labelhub:project": {"GET": MEMBERS},
    "labelhub:project_settings": {"GET": MANAGERS, "POST": MANAGERS},
    "labelhub:verdict_settings": {"GET": MANAGERS, "POST": MANAGERS},
    "labelhub:imports": {"GET": MANAGERS},
    "labelhub:import_data": {"GET": MANAGERS, "POST": MANAGERS},
    "labelhub:import_batch": {"GET": MANAGERS},
    "labelhub:start_import": {"POST": MANAGERS},
    "labelhub:audit": {"GET": MANAGERS},
    "labelhub:quality": {"GET": REVIEWERS},
    "labelhub:measure_quality": {"POST": REVIEWERS},
    "labelhub:data": {"GET": REVIEWERS},
    "labelhub:guidelines": {"GET": REVIEWERS},
    "labelhub:task": {"GET": REVIEWERS},
    "labelhub:probes": {"GET": MANAGERS, "POST": MANAGERS},
    "labelhub:gold": {"GET": MANAGERS, "POST": MANAGERS},
    "labelhub:withdraw_gold": {"POST": MANAGERS},
    "labelhub:members": {"GET": MANAGERS},
    "labelhub:add_member": {"POST": MANAGERS},
    "labelhub:change_role": {"POST": MANAGERS},
    "labelhub:remove_member": {"GET": MANAGERS, "POST": MANAGERS},
    # To a viewer this page says that they are no annotator, with a 403.
    "labelhub:judge": {"GET": JUDGES},
    "labelhub:judging_history": {"GET": JUDGES},
    "labelhub:judge_item": {"GET": OWNER, "POST": OWNER},
    "labelhub:extend_item": {"POST": OWNER},
    "training:snapshots": {"GET": READERS},
    "training:freeze": {"GET": MANAGERS, "POST": MANAGERS},
    "training:snapshot": {"GET": READERS},
    "training:freeze_again": {"POST": MANAGERS},
    "training:snapshot_file": {"GET": READERS},
    "training:runs": {"GET": READERS},
    "training:launch": {"GET": MANAGERS, "POST": MANAGERS},
    "training:launch_summary": {"POST": MANAGERS},
    "training:run": {"GET": READERS},
    "training:run_head": {"GET": READERS},
    "training:metrics": {"GET": READERS},
    "training:metrics_csv": {"GET": READERS},
    "training:run_log": {"GET": READERS},
    "training:log_more": {"GET": READERS},
    "training:run_samples": {"GET": READERS},
    "training:run_data": {"GET": READERS},
    "training:run_rows": {"GET": READERS},
    "training:run_config": {"GET": READERS},
    "training:run_history": {"GET": READERS},
    "training:stop": {"POST": MANAGERS},
    "training:cancel": {"POST": MANAGERS},
    "training:retry": {"POST": MANAGERS},
}
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}
SERVED = {200, 204, 286, 302, 409, 422}
"""What an allowed request may be answered with; the forms are sent empty."""
ABSURD = (0, 2**31, 2**63 + 1, 10**30, "9" * 5000)


def _routes(
    patterns: list[URLPattern | URLResolver], prefix: str = "", space: str = ""
) -> Iterator[tuple[str, str]]:
    for pattern in patterns:
        route = f"{prefix}{pattern.pattern}"
        if isinstance(pattern, URLResolver):
            inner = f"{pattern.namespace}:" if pattern.namespace else space
            yield from _routes(pattern.url_patterns, route, inner)
        else:
            yield f"{space}{pattern.name}", f"/{route}"


ALL_ROUTES = dict(_routes(get_resolver().url_patterns))
"""{name: "/projects/<slug:slug>/…"} of every address there is."""
API_ROUTES = {n: route for n, route in ALL_ROUTES.items() if route.startswith("/api/")}
"""Those of programs; tests/test_api_access.py has their table."""
ROUTES = {n: route for n, route in ALL_ROUTES.items() if n not in API_ROUTES}
REQUESTS = [
    pytest.param(name, method, who, id=f"{method}-{name}")
    for name, methods in TABLE.items()
    for method, who in methods.items()
]
INSIDE = [name for name, route in ROUTES.items() if "<slug:" in route]
NUMBERED = [name for name, route in ROUTES.items() if "<int:" in route]


@pytest.fixture
def people(alice, vera, rita, mona, charlie, root) -> dict[str, User]:
    return {
        "stranger": charlie,
        "annotator": alice,
        "viewer": vera,
        "reviewer": rita,
        "manager": mona,
        "admin": root,
    }


@pytest.fixture
def clients(people) -> dict[str, Client]:
    return {"nobody": Client()} | {who: client_of(user) for who, user in people.items()}


@pytest.fixture
def house(project, alice) -> dict[str, str]:
    """The addresses of a project that has one of everything."""
    return _addresses(project, alice)


@pytest.fixture
def other_house(db) -> dict[str, str]:
    """The same of a project in which nobody of the first is."""
    owner = make_user("olga")
    project = make_project("Other")
    add_member(project, owner)
    return _addresses(project, owner)


def _addresses(project: Project, owner: User) -> dict[str, str]:
    make_task(project)
    item = queue.claim(project, owner)
    assert isinstance(item, Assignment)
    snapshot = make_snapshot(
        project,
        uri=f"store:{project.slug}",
        files=[{"name": "snapshot.json"}],
        recipe=Recipe(algorithm=RLHFAlgorithm.DPO).as_dict(),
        ledger=Ledger().as_dict(),
    )
    _keep(f"{snapshot.uri}/snapshot.json")
    run = make_run(project, state="running", snapshot=snapshot)
    batch = ImportBatch.objects.create(project=project, sha256="a" * 64, state="failed")
    pks = {
        "imports": batch.pk,
        "members": project.memberships.get(user=owner).pk,
        "probes": make_task(project, status="retired").pk,
        "judge": item.pk,
        "data": item.task_id,
        "snapshots": snapshot.pk,
        "runs": run.pk,
        "account": ApiToken.make(owner, name="x", scopes=["read"])[0].pk,
    }
    known = {
        "slug": project.slug,
        "name": "snapshot.json",
        "rest": "nothing",
        "fence": make_attempt(run).fence,
    }
    return {
        name: _filled(route, known | {"pk": pks.get(_room(route))})
        for name, route in ALL_ROUTES.items()
    }


def _room(route: str) -> str:
    """`runs` of `/projects/<slug:slug>/runs/<int:pk>/`."""
    if "<slug:" not in route:
        return route.split("/")[1]
    room = route.partition(">/")[2].split("/")[0]
    return {"judging": "judge"}.get(room, room)


def _filled(route: str, values: dict[str, Any]) -> str:
    return re.sub(r"<\w+:(\w+)>", lambda found: str(values[found[1]]), route)


def _keep(uri: str) -> None:
    store = open_store()
    path = Path(f"{store.root}/{uri.removeprefix('store:')}")
    path.parent.mkdir(parents=True)
    path.write_text("{}")


def test_every_address_is_in_the_table():
    assert set(ROUTES) == set(TABLE)


@pytest.mark.parametrize(("name", "method", "who"), REQUESTS)
def test_who_may_ask_for_it(name, method, who, house, clients):
    # Those who may come last: what they do may change what the others would see.
    for role in sorted(clients, key=lambda role: role in who):
        response = clients[role].generic(method, house[name])
        if role in who:
            assert response.status_code in SERVED, role
        elif role == "nobody":
            assert response.status_code == 302, role
            assert response["Location"].startswith("/login/?next="), role
        else:
            assert response.status_code in _refusals(role, name, who), role


def _refusals(role: str, name: str, who: set[str]) -> set[int]:
    """What is outside must not even show that it is there; inside, a role is told."""
    if name not in INSIDE:
        return {404} if who == OWNER else {403}
    if role in {"stranger", "annotator"} or who == OWNER:
        return {404} if role != "viewer" else {403}
    return {403}


@pytest.mark.parametrize("name", INSIDE)
def test_no_other_method_does_anything(name, house, clients):
    served = set(TABLE[name]) | ({"HEAD"} if "GET" in TABLE[name] else set())
    for method in METHODS - served:
        response = clients["admin"].generic(method, house[name])
        assert response.status_code in {403, 404, 405}, method


@pytest.mark.parametrize("name", INSIDE)
def test_a_viewer_changes_nothing(name, house, clients):
    assert clients["viewer"].post(house[name]).status_code in {403, 404, 405}


@pytest.mark.parametrize("name", INSIDE)
def test_another_projects_pages_are_not_there(name, other_house, people, clients):
    for role in PEOPLE - {"admin"}:
        for method in TABLE[name]:
            response = clients[role].generic(method, other_house[name])
            assert response.status_code == 404, (role, method)


@pytest.mark.parametrize("name", [n for n in INSIDE if ":pk>" in ROUTES[n]])
def test_another_projects_rows_are_not_under_ones_own_address(
    name, house, other_house, clients
):
    """Also a site admin, who may read both, finds each row under its project only."""
    own, theirs = house["labelhub:project"], other_house["labelhub:project"]
    borrowed = other_house[name].replace(theirs, own)
    for role in PEOPLE:
        for method in TABLE[name]:
            response = clients[role].generic(method, borrowed)
            assert response.status_code in {403, 404}, (role, method)
            if role in TABLE[name][method]:
                assert response.status_code == 404, (role, method)


@pytest.mark.parametrize("name", NUMBERED)
def test_a_number_that_no_row_has_is_not_found(name, house, clients):
    for number in ABSURD:
        values = {"slug": house["labelhub:project"].split("/")[2]}
        address = _filled(
            ROUTES[name], values | {"pk": number, "fence": number, "name": "x"}
        )
        for method in TABLE[name]:
            response = clients["admin"].generic(method, address)
            assert response.status_code == 404, (number, method)
