"""What LabelHub reads from the environment, typed and checked in one place."""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

LOOPBACK_HOSTS = {"localhost", "127.0.0.1", "[::1]", "::1"}

PathList = Annotated[list[Path], NoDecode]
StringList = Annotated[list[str], NoDecode]


class Environment(BaseSettings):
    """One field a variable; docs/settings.md lists them, kept true by a test."""

    model_config = SettingsConfigDict(env_ignore_empty=True)

    debug: bool = Field(False, description="Show tracebacks in the browser: 0 or 1.")
    secret_key: str = Field(
        "", description="Signs sessions and cookies; or name a file in SECRET_KEY_FILE."
    )
    secret_key_file: Path | None = Field(
        None, description="A file whose first line is the secret key."
    )
    database_url: str = Field(
        "", description="postgres://user:password@host:port/name; SQLite if empty."
    )
    allowed_hosts: StringList = Field(
        ["localhost", "127.0.0.1", "[::1]"],
        description="Host names the site answers to, comma separated.",
    )
    data_dir: Path = Field(
        Path("var"), description="The embedded database, run directories, artefacts."
    )
    artifact_store: str = Field(
        "", description="Where artefacts live: a folder, s3://… or gs://…."
    )
    model_roots: PathList = Field(
        [], description="Folders, colon separated, from which models may be loaded."
    )
    data_roots: PathList = Field(
        [], description="Folders, colon separated, from which data may be read."
    )
    worker_name: str = Field(
        "", description="This machine among the workers; its host name if empty."
    )

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _split_commas(cls, value: object) -> object:
        if isinstance(value, str):
            return [part.strip() for part in value.split(",") if part.strip()]
        return value

    @field_validator("model_roots", "data_roots", mode="before")
    @classmethod
    def _split_paths(cls, value: object) -> object:
        if isinstance(value, str):
            return [part for part in value.split(os.pathsep) if part]
        return value

    @property
    def is_loopback_only(self) -> bool:
        return set(self.allowed_hosts) <= LOOPBACK_HOSTS


def read_environment() -> Environment:
    try:
        return Environment()
    except ValidationError as exc:
        problems = [
            f"{str(error['loc'][0]).upper()}={error['input']!r}: {error['msg']}"
            for error in exc.errors()
        ]
        raise ImproperlyConfigured("; ".join(problems)) from None


def find_secret_key(env: Environment) -> str:
    """The configured key, or one made once in DATA_DIR for a site on loopback only.

    A key made up at every start would log everybody out and differ between the
    web process and the queue, so it is written down (0600) and read by every command.
    """
    if env.secret_key:
        return env.secret_key
    if env.secret_key_file:
        try:
            return env.secret_key_file.read_text().strip()
        except OSError as exc:
            raise ImproperlyConfigured(
                f"SECRET_KEY_FILE={str(env.secret_key_file)!r} cannot be read: "
                f"{exc.strerror}."
            ) from None
    if not env.is_loopback_only:
        raise ImproperlyConfigured(
            "SECRET_KEY is not set, and ALLOWED_HOSTS="
            f"{','.join(env.allowed_hosts)!r} reaches beyond this machine. "
            "Set SECRET_KEY or SECRET_KEY_FILE."
        )
    return _kept_secret_key(env.data_dir / "secret_key")


def _kept_secret_key(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        handle, draft = tempfile.mkstemp(dir=path.parent)  # 0600 by itself
        with open(handle, "w") as file:
            file.write(secrets.token_urlsafe(50))
        # link() fails if the file is there: of two first starts, one key wins.
        with suppress(FileExistsError):
            os.link(draft, path)
        os.unlink(draft)
    return path.read_text().strip()


def database_settings(env: Environment) -> dict[str, object]:
    """Django's DATABASES entry: PostgreSQL by URL, else SQLite in DATA_DIR.

    IMMEDIATE is what keeps SQLite free of "database is locked": a deferred
    transaction that reads first and writes later fails at once, whatever the
    timeout. CONN_MAX_AGE=None keeps the last close from deleting the WAL.
    """
    if not env.database_url:
        env.data_dir.mkdir(parents=True, exist_ok=True)
        return sqlite_settings(env.data_dir / "labelhub.sqlite3")
    url = urlsplit(env.database_url)
    if url.scheme == "sqlite":
        return sqlite_settings(Path(unquote(url.path)))
    if url.scheme not in {"postgres", "postgresql"}:
        raise ImproperlyConfigured(
            f"DATABASE_URL starts with {url.scheme!r}; use postgres:// or sqlite://."
        )
    options: dict[str, object] = {
        # A host that is frozen or cut off in a transaction keeps its locks until then.
        "options": "-c idle_in_transaction_session_timeout=60000",
    }
    if "qcluster" not in sys.argv[1:2]:
        # Its processes are forks, which would talk through the same connections.
        options["pool"] = {"min_size": 1, "max_size": 8, "timeout": 10}
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(url.path.lstrip("/")),
        "USER": unquote(url.username or ""),
        "PASSWORD": unquote(url.password or ""),
        "HOST": url.hostname or "",
        "PORT": str(url.port or ""),
        "CONN_MAX_AGE": 0,
        "OPTIONS": {**options, **dict(parse_qsl(url.query))},
    }


def sqlite_settings(path: Path) -> dict[str, object]:
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(path),
        "CONN_MAX_AGE": None,
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": (
                "PRAGMA journal_mode=WAL;"
                "PRAGMA synchronous=NORMAL;"
                "PRAGMA mmap_size=134217728;"
                "PRAGMA cache_size=-20000;"
                "PRAGMA temp_store=MEMORY;"
            ),
        },
        # A file, so that threads and processes of a test meet as they do in life.
        "TEST": {"NAME": str(path.with_name(f"test_{path.name}"))},
    }
