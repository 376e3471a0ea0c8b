from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection

from labelhub.environment import (
    Environment,
    database_settings,
    find_secret_key,
    read_environment,
)


@pytest.fixture
def env(monkeypatch, tmp_path):
    def read(**variables: str) -> Environment:
        for name in Environment.model_fields:
            monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.setenv("DATA_DIR", str(tmp_path / "var"))
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return read_environment()

    return read


def test_a_fresh_checkout_needs_no_variable(env):
    settings = env()
    assert not settings.debug
    assert settings.is_loopback_only
    assert "sqlite3" in database_settings(settings)["ENGINE"]


def test_the_key_is_made_once_and_only_for_its_owner(env):
    settings = env()
    first = find_secret_key(settings)
    assert len(first) >= 50
    assert find_secret_key(settings) == first
    mode = os.stat(settings.data_dir / "secret_key").st_mode
    assert stat.S_IMODE(mode) == 0o600


def test_commands_that_start_together_agree_on_the_key(env):
    settings = env()
    with ThreadPoolExecutor(16) as pool:
        keys = set(pool.map(lambda _: find_secret_key(settings), range(64)))
    assert len(keys) == 1
    assert [p.name for p in settings.data_dir.iterdir()] == ["secret_key"]


def test_a_site_beyond_this_machine_must_bring_a_key(env):
    with pytest.raises(ImproperlyConfigured, match=r"example\.org.*SECRET_KEY"):
        find_secret_key(env(ALLOWED_HOSTS="example.org,localhost"))


def test_the_key_may_come_from_a_file(env, tmp_path):
    (tmp_path / "key").write_text("from the vault\n")
    settings = env(SECRET_KEY_FILE=str(tmp_path / "key"), ALLOWED_HOSTS="example.org")
    assert find_secret_key(settings) == "from the vault"


def test_a_missing_key_file_is_named(env):
    with pytest.raises(ImproperlyConfigured, match="/nowhere/key"):
        find_secret_key(env(SECRET_KEY_FILE="/nowhere/key"))


def test_a_bad_value_is_named(env):
    with pytest.raises(ImproperlyConfigured, match="DEBUG='perhaps'"):
        env(DEBUG="perhaps")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
def test_postgres_by_url(env, scheme):
    url = f"{scheme}://ann:p%40ss@db.example:6543/hub?sslmode=require"
    database = database_settings(env(DATABASE_URL=url))
    assert database["ENGINE"].endswith("postgresql")
    assert (database["USER"], database["PASSWORD"]) == ("ann", "p@ss")
    assert (database["HOST"], database["PORT"]) == ("db.example", "6543")
    assert database["OPTIONS"]["sslmode"] == "require"


def test_another_database_is_refused_by_name(env):
    with pytest.raises(ImproperlyConfigured, match="'mysql'"):
        database_settings(env(DATABASE_URL="mysql://localhost/x"))


def test_every_variable_is_documented():
    page = (Path(__file__).parents[2] / "docs" / "settings.md").read_text()
    missing = [
        n.upper() for n in Environment.model_fields if f"`{n.upper()}`" not in page
    ]
    assert not missing


def test_the_forks_of_the_queue_share_no_connection(env, monkeypatch):
    url = "postgres://localhost/x"
    assert "pool" in database_settings(env(DATABASE_URL=url))["OPTIONS"]
    monkeypatch.setattr("sys.argv", ["manage.py", "qcluster"])
    assert "pool" not in database_settings(env(DATABASE_URL=url))["OPTIONS"]


@pytest.mark.skipif(
    connection.vendor != "postgresql", reason="SQLite has no such thing"
)
@pytest.mark.django_db
def test_who_is_frozen_in_a_transaction_does_not_keep_its_locks_for_ever():
    with connection.cursor() as cursor:
        cursor.execute("SHOW idle_in_transaction_session_timeout")
        assert cursor.fetchone() == ("1min",)
