"""Files that came through the browser, kept until they are imported.

Each upload is a folder under UPLOADS_DIR: the files as 0, 1, 2 … and their names in
names.json. Its token names the project and the person, so that nobody can import what
somebody else uploaded.
"""

from __future__ import annotations

import json
import re
import shutil
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from django.conf import settings
from django.core.files.uploadedfile import TemporaryUploadedFile, UploadedFile

from labelhub.models import ImportBatch, Project, User

NamedFile = tuple[Path, str]
"""Where a file lies, and what the person who gave it calls it."""

PASTED = "pasted rows"
_KEPT_FOR = 2 * 24 * 60 * 60
_TOKEN = re.compile(r"\d+-\d+-[0-9a-f]{32}")


def keep(
    project: Project, user: User, files: Sequence[UploadedFile[bytes]], token: str = ""
) -> str:
    """Move the files to UPLOADS_DIR, in place of those under the token; a new token."""
    discard(token)
    _sweep()
    token = f"{_owner(project, user)}{uuid.uuid4().hex}"
    folder = _folder(token)
    folder.mkdir(parents=True)
    for number, file in enumerate(files):
        path = folder / str(number)
        if isinstance(file, TemporaryUploadedFile):
            shutil.move(file.temporary_file_path(), path)
            continue
        with path.open("wb") as kept:
            for chunk in file.chunks():
                kept.write(chunk)
    names = [Path(file.name or "upload").name[:200] for file in files]
    (folder / "names.json").write_text(json.dumps(names))
    return token


def keep_pasted(token: str, text: str) -> None:
    """Let these rows, or none, stand beside the files of the upload."""
    (_folder(token) / PASTED).write_text(text)


def kept_files(token: str) -> list[NamedFile]:
    """What was kept under a token; nothing if it is gone or is none."""
    if not _TOKEN.fullmatch(token):
        return []
    folder = _folder(token)
    try:
        names = json.loads((folder / "names.json").read_text())
    except FileNotFoundError:
        return []
    files = [(folder / str(number), name) for number, name in enumerate(names)]
    pasted = folder / PASTED
    if pasted.exists() and pasted.stat().st_size:
        files.append((pasted, PASTED))
    return files


def is_owned(token: str, project: Project, user: User) -> bool:
    return token.startswith(_owner(project, user)) and bool(kept_files(token))


def discard(token: str) -> None:
    if _TOKEN.fullmatch(token):
        shutil.rmtree(_folder(token), ignore_errors=True)


def _owner(project: Project, user: User) -> str:
    return f"{project.pk}-{user.pk}-"


def _folder(token: str) -> Path:
    return Path(settings.UPLOADS_DIR) / token


def _sweep() -> None:
    """Delete old uploads that no unfinished import needs."""
    root = Path(settings.UPLOADS_DIR)
    root.mkdir(parents=True, exist_ok=True)
    old = {
        folder.name
        for folder in root.iterdir()
        if _TOKEN.fullmatch(folder.name)
        and time.time() - folder.stat().st_mtime > _KEPT_FOR
    }
    if not old:
        return
    unfinished = ImportBatch.objects.exclude(
        state__in=(ImportBatch.State.COMPLETE, ImportBatch.State.REMOVED)
    )
    needed = set(unfinished.values_list("options__upload", flat=True))
    for token in old - needed:
        discard(token)
