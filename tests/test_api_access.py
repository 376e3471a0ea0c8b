"""Who may do what through the API: every route, by every role and by every scope."""

# Fixtures are imported by name, and then named again as arguments.
# ruff: noqa: F401, F811

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import resolve

from labelhub.models import ApiToken
from tests.api import Api, check_error_shape
from tests.test_access_table import (
    ABSURD,
    API_ROUTES,
    JUDGES,
    MANAGERS,
    MEMBERS,
    OWNER,
    PEOPLE,
    READERS,
    _filled,
    house,
    other_house,
    people,
)

REVIEWERS = READERS - {"viewer"}

TABLE: dict[str, dict[str, tuple[str, set[str]]]] = {
    "api:me": {"GET": ("", PEOPLE)},
    "api:projects": {"GET": ("read", PEOPLE)},
    "api:project": {"GET": ("read", MEMBERS)},
    "api:guidelines": {"GET": ("read", MEMBERS), "POST": ("manage", MANAGERS)},
    "api:members": {"GET": ("read", MANAGERS)},
    "api:events": {"GET": ("read", MANAGERS)},
    "api:imports": {"GET": ("read", MANAGERS), "POST": ("manage", MANAGERS)},
    "api:import": {"GET": ("read", MANAGERS)},
    "api:prompts": {"GET": ("read", REVIEWERS)},
    "api:responses": {"GET": ("read", REVIEWERS)},
    "api:tasks": {"GET": ("read", REVIEWERS)},
    "api:judgments": {"GET": ("read", REVIEWERS)},
    "api:feedback": {"POST": ("feedback", MANAGERS)},
    "api:claim": {"POST": ("judge", JUDGES)},
    "api:item": {"GET": ("judge", OWNER)},
    "api:submit": {"POST": ("judge", OWNER)},
    "api:skip": {"POST": ("judge", OWNER)},
    "api:release": {"POST": ("judge", OWNER)},
    "api:extend": {"POST": ("judge", OWNER)},
    "training_api:snapshots": {
        "GET": ("read", READERS),
        "POST": ("manage", MANAGERS),
    },
    "training_api:snapshot": {"GET": ("read", READERS)},
    "training_api:snapshot_file": {"GET": ("read", READERS)},
    "training_api:runs": {"GET": ("read", READERS), "POST": ("launch", MANAGERS)},
    "training_api:run": {"GET": ("read", READERS)},
    "training_api:metrics": {"GET": ("read", READERS)},
    "training_api:log": {"GET": ("read", READERS)},
    "training_api:stop": {"POST": ("launch", MANAGERS)},
    "training_api:cancel": {"POST": ("launch", MANAGERS)},
    "training_api:retry": {"POST": ("launch", MANAGERS)},
}
OPEN = {"api:schema", "api:reference", "api_not_there"}
"""No data; the schema is anybody's, the reference a page for who is signed in."""
SERVED = {200, 201, 202, 204, 400, 409, 422}
"""What an allowed request may be answered with; the bodies are sent empty."""
REQUESTS = [
    pytest.param(name, method, *needs, id=f"{method}-{name}")
    for name, methods in TABLE.items()
    for method, needs in methods.items()
]
INSIDE = [name for name in TABLE if "<slug:" in API_ROUTES[name]]


@pytest.fixture
def apis(people) -> dict[str, Api]:
    return {who: Api(user) for who, user in people.items()}


def _ask(api: Api, method: str, address: str):
    return api.ask(method.lower(), address, {} if method == "POST" else None)


def test_every_route_is_in_the_table():
    assert set(API_ROUTES) - OPEN == set(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_the_views_say_the_same_as_the_table(name, house):
    view = resolve(house[name]).func.cls
    said = {method: needs.scope or "" for method, needs in view.needs.items()}
    assert said == {method: scope for method, (scope, _) in TABLE[name].items()}


@pytest.mark.parametrize(("name", "method", "scope", "who"), REQUESTS)
def test_who_may_ask_for_it(name, method, scope, who, house, apis):
    for role in sorted(apis, key=lambda role: role in who):
        status = _ask(apis[role], method, house[name]).status_code
        if role in who:
            assert status in SERVED, role
        elif role in {"stranger", "annotator"}:
            assert status == 404, role
        else:
            assert status == (404 if who == OWNER and role != "viewer" else 403), role


@pytest.mark.parametrize(("name", "method", "scope", "who"), REQUESTS)
def test_it_takes_its_scope_and_no_other(name, method, scope, who, house, people):
    if not scope:
        return
    others = set(ApiToken.Scope.values) - {scope}
    for role, user in people.items():
        status = _ask(Api(user, *others), method, house[name]).status_code
        assert status == 403, role
    allowed = next(role for role in people if role in who)
    api = Api(people[allowed], scope)
    assert _ask(api, method, house[name]).status_code in SERVED


@pytest.mark.parametrize(("name", "method", "scope", "who"), REQUESTS)
def test_without_a_token_nothing_is_there(name, method, scope, who, house):
    for address in (house[name], f"{house[name]}0"):
        response = Client().generic(method, address)
        check_error_shape(response)
        assert response.status_code == 401


@pytest.mark.parametrize("name", INSIDE)
def test_another_projects_rows_are_not_there(name, house, other_house, apis):
    own, theirs = house["api:project"], other_house["api:project"]
    borrowed = other_house[name].replace(theirs, own)
    for method in TABLE[name]:
        for role in PEOPLE - {"admin"}:
            assert _ask(apis[role], method, other_house[name]).status_code == 404, role
        if ":pk>" in API_ROUTES[name]:
            for role in PEOPLE:
                status = _ask(apis[role], method, borrowed).status_code
                assert status in {403, 404}, role
            assert _ask(apis["admin"], method, borrowed).status_code == 404


@pytest.mark.parametrize("name", [n for n in TABLE if "<int:" in API_ROUTES[n]])
def test_a_number_that_no_row_has_is_not_found(name, house, apis):
    slug = house["api:project"].rpartition("/")[2]
    for number in ABSURD:
        values = {"slug": slug, "pk": number, "name": "x"}
        address = _filled(API_ROUTES[name], values)
        for method in TABLE[name]:
            assert _ask(apis["admin"], method, address).status_code == 404
