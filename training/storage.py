"""The artefact store: a local folder, s3:// or gs://, reached through fsspec.

An address in the store is written `store:KEY`. It names no bucket and no folder, so
it holds on every host and after the store has moved.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import fsspec
from django.conf import settings
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

MANIFEST = "manifest.json"
SCHEME = "store:"
_NAME = r"(?!\.{1,2}(?:/|$))[\w.=+@-]+"
KEY = re.compile(f"{_NAME}(?:/{_NAME})*")

Manifest = dict[str, dict[str, Any]]
"""{name: {"size": bytes, "sha256": hex}} of every file of a tree."""


class StorageError(Exception):
    """The store cannot do what was asked; the message is one sentence for a person."""


def open_store() -> Store:
    """The store that ARTIFACT_STORE names."""
    address = str(settings.ARTIFACT_STORE)
    try:
        filesystem, root = url_to_fs(address)
    except ImportError:
        extra = "s3" if address.startswith("s3") else "gcs"
        raise StorageError(
            f"ARTIFACT_STORE={address!r} needs a driver: "
            f"pip install 'labelhub[{extra}]'."
        ) from None
    except ValueError:
        raise StorageError(
            f"ARTIFACT_STORE={address!r} is not a folder, s3://… or gs://…."
        ) from None
    return Store(filesystem, root.rstrip("/"))


class Store:
    """Files by key. What is put under a key stays as it is."""

    def __init__(self, filesystem: fsspec.AbstractFileSystem, root: str) -> None:
        self.filesystem = filesystem
        self.root = root

    def put_file(self, path: Path, key: str) -> str:
        """Copy one file to the store, whole or not at all; answer its address."""
        self._put(path, self._locate(SCHEME + key))
        return SCHEME + key

    def get_file(self, uri: str, path: Path, sha256: str) -> None:
        """Copy one file from the store, whole or not at all, if its hash is right."""
        draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            try:
                self.filesystem.get_file(self._locate(uri), str(draft))
            except FileNotFoundError:
                raise StorageError(f"{uri} is not in the store.") from None
            found = sha256_of(draft)
            if found != sha256:
                raise StorageError(
                    f"{uri} has the sha256 {found[:12]}… where {sha256[:12]}… was "
                    "written down: it has been changed or is damaged."
                )
            os.replace(draft, path)
        finally:
            draft.unlink(missing_ok=True)

    def put_tree(self, folder: Path, key: str) -> str:
        """Copy a folder to the store; answer its address.

        The manifest is put last, so a tree that has one is whole. Putting the same
        tree again changes nothing; another tree under the same key is refused.
        """
        uri = SCHEME + key
        manifest = manifest_of(folder)
        # A checkpoint brings its own: here the name is taken.
        manifest.pop(MANIFEST, None)
        if self.has_tree(uri):
            if self.manifest(uri) != manifest:
                raise StorageError(f"{uri} already holds other files: use another key.")
            return uri
        for name in manifest:
            self._put(folder / name, f"{self._locate(uri)}/{name}")
        told = json.dumps({"files": manifest}, indent=2).encode()
        self._put(told, f"{self._locate(uri)}/{MANIFEST}")
        return uri

    def remove_tree(self, uri: str) -> None:
        """Remove a tree, also half of one; nothing where there is none."""
        for path in (f"{self._locate(uri)}/{MANIFEST}", self._locate(uri)):
            # The manifest first: what is left if we are killed is no tree.
            with contextlib.suppress(FileNotFoundError):
                self.filesystem.rm(path, recursive=True)

    def has_tree(self, uri: str) -> bool:
        """Whether a whole tree is there."""
        return bool(self.filesystem.exists(f"{self._locate(uri)}/{MANIFEST}"))

    def manifest(self, uri: str) -> Manifest:
        try:
            raw = self.filesystem.cat_file(f"{self._locate(uri)}/{MANIFEST}")
        except FileNotFoundError:
            raise StorageError(f"{uri} is not in the store, or not whole.") from None
        files: Manifest = json.loads(raw)["files"]
        return files

    def get_tree(
        self, uri: str, folder: Path, names: Iterable[str] | None = None
    ) -> None:
        """Copy a tree (or these files of it) into a folder, every hash checked.

        The folder appears whole or not at all; it must not hold anything yet.
        """
        manifest = self.manifest(uri)
        draft = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
        draft.mkdir(parents=True)
        try:
            for name in manifest if names is None else names:
                path = draft / name
                path.parent.mkdir(parents=True, exist_ok=True)
                self.get_file(f"{uri}/{name}", path, manifest[name]["sha256"])
            if folder.is_dir() and any(folder.iterdir()):
                raise StorageError(f"{folder} is not empty.")
            draft.replace(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def open(self, uri: str) -> IO[bytes]:
        """One file, to be read as a stream."""
        try:
            file: IO[bytes] = self.filesystem.open(self._locate(uri), "rb")
        except FileNotFoundError:
            raise StorageError(f"{uri} is not in the store.") from None
        return file

    def _put(self, source: Path | bytes, target: str) -> None:
        if not isinstance(self.filesystem, LocalFileSystem):
            # An object store shows an object when it is complete, not before.
            if isinstance(source, bytes):
                self.filesystem.pipe_file(target, source)
            else:
                self.filesystem.put_file(str(source), target)
            return
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        draft = f"{target}.{uuid.uuid4().hex}.part"
        try:
            if isinstance(source, bytes):
                Path(draft).write_bytes(source)
            else:
                shutil.copyfile(source, draft)
            os.replace(draft, target)
        finally:
            Path(draft).unlink(missing_ok=True)

    def _locate(self, uri: str) -> str:
        key = uri.removeprefix(SCHEME)
        if key == uri or not KEY.fullmatch(key):
            raise StorageError(
                f"{uri!r} is no address in the store: it reads store:name/name, "
                "of letters, digits and any of . _ - = + @."
            )
        return f"{self.root}/{key}"


def manifest_of(folder: Path) -> Manifest:
    """Every file in a folder, by its path there."""
    return {
        path.relative_to(folder).as_posix(): {
            "size": path.stat().st_size,
            "sha256": sha256_of(path),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
