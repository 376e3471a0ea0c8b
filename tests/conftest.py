"""Who the tests act as. The database is the one DATABASE_URL names."""

from __future__ import annotations

import os

import pytest
from django.test import Client

from labelhub.models import Membership, Project, User
from tests.builders import make_project, make_user

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(autouse=True)
def _folders(settings, tmp_path):
    """Nothing a test writes outlives it."""
    settings.DATA_DIR = tmp_path / "var"
    settings.RUNS_DIR = settings.DATA_DIR / "runs"
    settings.UPLOADS_DIR = settings.DATA_DIR / "uploads"
    settings.ARTIFACT_STORE = str(settings.DATA_DIR / "artifacts")
    settings.MODEL_ROOTS = [settings.DATA_DIR / "models"]
    settings.DATA_ROOTS = [settings.DATA_DIR / "data"]
    # Real password hashing takes a tenth of a second a person.
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {
            "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        },
    }


@pytest.fixture
def project(db) -> Project:
    """A pairwise project. alice and bob annotate, vera reads, mona manages."""
    return make_project()


def _member(project: Project, name: str, role: str) -> User:
    user = make_user(name)
    Membership.objects.create(project=project, user=user, role=role)
    return user


@pytest.fixture
def alice(project) -> User:
    """An annotator. Tests act as alice unless they say otherwise."""
    return _member(project, "alice", Membership.Role.ANNOTATOR)


@pytest.fixture
def bob(project) -> User:
    """Another annotator, who must see nothing of alice's."""
    return _member(project, "bob", Membership.Role.ANNOTATOR)


@pytest.fixture
def vera(project) -> User:
    """A viewer: reads runs, judges nothing, changes nothing."""
    return _member(project, "vera", Membership.Role.VIEWER)


@pytest.fixture
def rita(project) -> User:
    """A reviewer: judges and reads everything."""
    return _member(project, "rita", Membership.Role.REVIEWER)


@pytest.fixture
def mona(project) -> User:
    """The project's manager."""
    return _member(project, "mona", Membership.Role.MANAGER)


@pytest.fixture
def charlie(db) -> User:
    """Somebody with an account and no project: everything is 404."""
    return make_user("charlie")


@pytest.fixture
def root(db) -> User:
    """A site admin."""
    return make_user("root", is_superuser=True)


@pytest.fixture
def client(alice) -> Client:
    """A browser logged in as alice."""
    return client_of(alice)


@pytest.fixture
def manager(mona) -> Client:
    """A browser logged in as mona."""
    return client_of(mona)


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def django_client() -> Client:
    """A browser that nobody is logged in to."""
    return Client()
