from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from training import storage
from training.storage import StorageError, Store, open_store, sha256_of


@pytest.fixture(params=["folder", "objects"])
def store(request, settings, tmp_path) -> Store:
    """A local folder, and a store of objects as s3:// and gs:// are."""
    if request.param == "objects":
        MemoryFileSystem.store.clear()
        settings.ARTIFACT_STORE = "memory://bucket/labelhub"
    return open_store()


@pytest.fixture
def model(tmp_path) -> Path:
    folder = tmp_path / "final"
    (folder / "tokenizer").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 100)
    (folder / "tokenizer" / "vocab.json").write_text("{}")
    (folder / ".gitattributes").write_text("")
    return folder


def test_a_file_comes_back(store, tmp_path):
    source = tmp_path / "a.txt"
    source.write_text("hello")
    uri = store.put_file(source, "notes/a.txt")
    assert uri == "store:notes/a.txt"

    store.get_file(uri, tmp_path / "b.txt", sha256_of(source))
    assert (tmp_path / "b.txt").read_text() == "hello"
    with store.open(uri) as file:
        assert file.read() == b"hello"


def test_a_tree_comes_back(store, model, tmp_path):
    uri = store.put_tree(model, "runs/7/final")
    assert store.has_tree(uri)

    store.get_tree(uri, tmp_path / "inputs" / "model")
    back = tmp_path / "inputs" / "model"
    assert storage.manifest_of(back) == storage.manifest_of(model)


def test_a_checkpoint_comes_back_without_the_manifest_of_its_own(
    store, model, tmp_path
):
    (model / storage.MANIFEST).write_text('{"step": 3, "files": {}}')
    uri = store.put_tree(model, "runs/7/final")
    store.get_tree(uri, tmp_path / "back")
    (model / storage.MANIFEST).unlink()
    assert storage.manifest_of(tmp_path / "back") == storage.manifest_of(model)


def test_some_files_of_a_tree_come_alone(store, model, tmp_path):
    uri = store.put_tree(model, "runs/7/final")
    store.get_tree(uri, tmp_path / "some", names=["tokenizer/vocab.json"])
    assert [*storage.manifest_of(tmp_path / "some")] == ["tokenizer/vocab.json"]


def test_a_tree_without_its_manifest_is_not_there(store, model, tmp_path, monkeypatch):
    """Killed in an upload: nobody reads half a model, and a retry works."""
    put, left = Store._put, iter(range(3))

    def die_before_the_manifest(self, path, target):
        if next(left, None) is None:
            raise KeyboardInterrupt
        put(self, path, target)

    monkeypatch.setattr(Store, "_put", die_before_the_manifest)
    with pytest.raises(KeyboardInterrupt):
        store.put_tree(model, "runs/7/final")
    assert not store.has_tree("store:runs/7/final")
    with pytest.raises(StorageError, match="not in the store, or not whole"):
        store.get_tree("store:runs/7/final", tmp_path / "back")
    assert not (tmp_path / "back").exists()

    monkeypatch.undo()
    assert store.has_tree(store.put_tree(model, "runs/7/final"))
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_tree_is_removed_whole_or_half(store, model, monkeypatch):
    uri = store.put_tree(model, "runs/7/final")
    other = store.put_tree(model, "runs/7/other")
    store.remove_tree(uri)
    store.remove_tree(uri)
    assert not store.has_tree(uri)
    with pytest.raises(StorageError, match="not in the store"):
        store.open(f"{uri}/model.safetensors")
    store.filesystem.rm(f"{store.root}/runs/7/other/{storage.MANIFEST}")
    store.remove_tree(other)
    assert not store.filesystem.exists(f"{store.root}/runs/7/other/model.safetensors")


def test_the_same_tree_again_changes_nothing(store, model):
    assert store.put_tree(model, "runs/7/final") == store.put_tree(
        model, "runs/7/final"
    )


def test_another_tree_under_the_same_key_is_refused(store, model, tmp_path):
    uri = store.put_tree(model, "runs/7/final")
    before = store.manifest(uri)
    (model / "tokenizer" / "vocab.json").write_text("[]")
    with pytest.raises(StorageError, match="already holds other files"):
        store.put_tree(model, "runs/7/final")
    assert store.manifest(uri) == before


def test_a_changed_file_is_noticed(store, model, tmp_path):
    uri = store.put_tree(model, "runs/7/final")
    (tmp_path / "evil").write_text("[]")
    store.put_file(tmp_path / "evil", "runs/7/final/tokenizer/vocab.json")
    with pytest.raises(StorageError, match="changed or is damaged"):
        store.get_tree(uri, tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_folder_that_holds_something_is_left_alone(store, model, tmp_path):
    uri = store.put_tree(model, "runs/7/final")
    (tmp_path / "back").mkdir()
    (tmp_path / "back" / "mine.txt").write_text("mine")
    with pytest.raises(StorageError, match="is not empty"):
        store.get_tree(uri, tmp_path / "back")
    assert [path.name for path in (tmp_path / "back").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    "uri",
    [
        "store:../secrets",
        "store:/etc/passwd",
        "store:a//b",
        "store:",
        "a/b",
        "store:..",
    ],
)
def test_no_address_leads_out_of_the_store(store, uri, tmp_path):
    with pytest.raises(StorageError, match="no address in the store"):
        store.open(uri)
    with pytest.raises(StorageError, match="no address in the store"):
        store.get_tree(uri, tmp_path / "back")


def test_a_store_may_move(model, tmp_path, settings):
    uri = open_store().put_tree(model, "runs/7/final")
    shutil.move(settings.ARTIFACT_STORE, tmp_path / "elsewhere")
    settings.ARTIFACT_STORE = str(tmp_path / "elsewhere")
    open_store().get_tree(uri, tmp_path / "back")
    assert storage.manifest_of(tmp_path / "back") == storage.manifest_of(model)


def test_an_unknown_kind_of_store_is_refused(settings):
    settings.ARTIFACT_STORE = "ftq://x"
    with pytest.raises(StorageError, match="'ftq://x' is not a folder, s3://… or gs"):
        open_store()


def test_a_missing_driver_is_named(settings, monkeypatch):
    def no_driver(address):
        raise ImportError

    monkeypatch.setattr(storage, "url_to_fs", no_driver)
    settings.ARTIFACT_STORE = "s3://bucket/labelhub"
    with pytest.raises(StorageError, match=r"pip install 'labelhub\[s3\]'"):
        open_store()
