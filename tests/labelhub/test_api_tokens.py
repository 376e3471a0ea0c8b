"""Tokens: who made them, what they open, and how they end."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.core.cache import cache
from django.test import Client
from django.utils import timezone
from rest_framework.throttling import SimpleRateThrottle

from labelhub.models import ApiToken, Event
from tests.api import Api, check_error_shape
from tests.builders import add_member, make_project
from tests.conftest import client_of

URL = "/account/tokens/"


def _made(client, **fields):
    data = {"name": "nightly", "scopes": ["read"], "days": 30} | fields
    return client.post(URL, data)


def _secret(response):
    return re.search(r"<code>(lh_[^<…]+)</code>", response.content.decode())[1]


def test_a_token_is_shown_once_and_opens_the_api(client, project):
    secret = _secret(_made(client))
    r = Client().get("/api/v1/me", headers={"Authorization": f"Bearer {secret}"})
    assert r.json() | {"expires_at": ""} == {
        "user": "alice",
        "name": "nightly",
        "scopes": ["read"],
        "project": None,
        "expires_at": "",
    }
    assert secret not in client.get(URL).content.decode()
    assert Event.objects.get(verb="token.made").data["name"] == "nightly"


def test_only_a_hash_of_it_is_stored(client):
    secret = _secret(_made(client))
    (stored,) = ApiToken.objects.values()
    assert not [value for value in stored.values() if value == secret]
    assert secret.startswith(stored["prefix"])
    assert len(stored["prefix"]) < len(secret) / 4


def test_a_revoked_token_opens_nothing(client, alice):
    api = Api(alice)
    client.post(f"{URL}{api.token.pk}/revoke/")
    client.post(f"{URL}{api.token.pk}/revoke/")
    r = api.get("me")
    assert r.status_code == 401
    assert "revoked" in r.json()["error"]["message"]
    assert Event.objects.filter(verb="token.revoked").count() == 1


def test_nobody_revokes_the_token_of_another(client, bob):
    api = Api(bob)
    assert client.post(f"{URL}{api.token.pk}/revoke/").status_code == 404
    assert api.get("me").status_code == 200


def test_an_expired_token_opens_nothing(alice):
    api = Api(alice)
    ApiToken.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    r = api.get("me")
    assert r.status_code == 401
    assert "expired" in r.json()["error"]["message"]


def test_a_token_ends_with_the_account(alice):
    api = Api(alice)
    alice.is_active = False
    alice.save()
    assert api.get("me").status_code == 401


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer lh_wrong", "Basic YTpi", "lh_x", "Bearer \x80"]
)
def test_what_is_no_token_is_told_so(db, header):
    r = Client().get("/api/v1/me", headers={"Authorization": header} if header else {})
    check_error_shape(r)
    assert r.status_code == 401
    assert r["WWW-Authenticate"] == "Bearer"


def test_a_session_opens_nothing(manager, project):
    """So no other site can make a browser ask for its person."""
    assert manager.get("/api/v1/projects").status_code == 401


def test_its_use_is_noted_once_a_minute(alice, django_assert_num_queries):
    api = Api(alice)
    api.get("me")
    first = ApiToken.objects.get().last_used_at
    with django_assert_num_queries(1):
        api.get("me")
    assert ApiToken.objects.get().last_used_at == first
    ApiToken.objects.update(last_used_at=first - timedelta(minutes=2))
    api.get("me")
    assert ApiToken.objects.get().last_used_at >= first


def test_a_token_of_one_project_knows_no_other(alice, project):
    other = make_project("Other")
    add_member(other, alice)
    api = Api(alice, project=project)
    assert [row["slug"] for row in api.rows("projects")] == [project.slug]
    assert api.get(f"projects/{project.slug}").status_code == 200
    assert api.get(f"projects/{other.slug}").status_code == 404


def test_a_scope_that_is_missing_is_named(mona, project):
    r = Api(mona, "judge").get("projects")
    assert r.status_code == 403
    assert "“read”" in r.json()["error"]["message"]


def test_too_many_requests_are_told_when_to_come_again(alice, monkeypatch):
    monkeypatch.setattr(SimpleRateThrottle, "THROTTLE_RATES", {"token": "2/min"})
    cache.clear()
    api = Api(alice)
    assert [api.get("me").status_code for _ in range(3)] == [200, 200, 429]
    assert int(api.get("me")["Retry-After"]) <= 60


@pytest.mark.parametrize(
    "fields", [{"name": ""}, {"scopes": []}, {"days": 0}, {"days": 366}]
)
def test_a_token_that_is_not_whole_is_not_made(client, fields):
    assert _made(client, **fields).status_code == 422
    assert not ApiToken.objects.exists()


def test_a_token_is_not_made_for_a_project_one_is_not_in(charlie, project):
    r = _made(client_of(charlie), project=project.pk)
    assert r.status_code == 422
