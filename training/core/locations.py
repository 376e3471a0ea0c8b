"""Telling a folder or file from a hub id, for models and data alike."""

from __future__ import annotations

import os
import re
from pathlib import Path

_HUB_ID = re.compile(r"(?P<id>[\w.-]+(/[\w.-]+)?)(@(?P<revision>[\w./-]+))?")


def local_path(name: str) -> Path | None:
    """The file or folder that a name means, or None where it can only be a hub id.

    A path that is written as one is returned although nothing is there, so that the
    caller can say that it is missing.

    >>> local_path("/no/such/folder")
    PosixPath('/no/such/folder')
    >>> local_path("org/name@v1.0")
    """
    # Those of os.path do not raise for a person or a length that cannot be.
    path = Path(os.path.expanduser(name))
    if os.path.exists(path) or name.startswith((".", "~")) or path.is_absolute():
        return path
    return None if _HUB_ID.fullmatch(name) else path


def hub_id(name: str) -> tuple[str, str | None]:
    """Repository and revision of a hub id.

    >>> hub_id("org/name@v1.0"), hub_id("org/name")
    (('org/name', 'v1.0'), ('org/name', None))
    """
    repository, _, revision = name.partition("@")
    return repository, revision or None
