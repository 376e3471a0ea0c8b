"""The client of docs/examples against a running server: from rows to a dataset."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from labelhub.importing import run_batch
from labelhub.models import ApiToken, ImportBatch
from training import exporting
from training.models import Snapshot

ROOT = Path(__file__).parents[2]
PATH = ROOT / "docs" / "examples" / "labelhub_client.py"


@pytest.fixture
def module(monkeypatch):
    """The client, on a site whose queue does its work while the client sleeps."""
    spec = importlib.util.spec_from_file_location("labelhub_client", PATH)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "labelhub_client", module)
    spec.loader.exec_module(module)

    def work(seconds):
        for batch in ImportBatch.objects.filter(state="waiting"):
            run_batch(batch)
        for snapshot in Snapshot.objects.filter(state="freezing"):
            exporting.complete(snapshot)

    monkeypatch.setattr(module.time, "sleep", work)
    return module


@pytest.fixture
def connect(module, live_server):
    def connect(user, *scopes):
        _, secret = ApiToken.make(user, name="client", scopes=scopes)
        return module.LabelHub(live_server.url, secret)

    return connect


def test_from_rows_to_a_dataset(connect, mona, alice, project):
    rows = [
        {"prompt": f"Why {n}?", "responses": ["Because.", f"No, {n}."]}
        for n in range(4)
    ]
    manager, annotator = connect(mona, "read", "manage"), connect(alice, "judge")
    done = manager.import_rows(project.slug, rows)
    assert done["counts"]["tasks"] == 4

    for item in annotator.items(project.slug):
        side = "left" if item.left == "Because." else "right"
        annotator.submit(project.slug, item, side, note="It answers.")
    judged = list(manager.rows(project.slug, "judgments", source="human", limit=3))
    assert len(judged) == 4

    dataset = manager.freeze(project.slug, algorithm="dpo", eval_share=0)
    lines = manager.download(project.slug, dataset, "train.jsonl").splitlines()
    chosen = [json.loads(line)["chosen"][-1]["content"] for line in lines]
    assert chosen == ["Because."] * 4


def test_what_the_site_refuses_is_an_error_with_its_sentence(module, connect, rita):
    hub = connect(rita, "read")
    with pytest.raises(module.ApiError) as caught:
        hub.import_rows("nowhere", [{"prompt": "Why?"}])
    assert (caught.value.status, caught.value.code) == (403, "permission_denied")
    assert "“manage”" in str(caught.value)


def test_the_client_is_typed_and_short():
    assert len(PATH.read_text().splitlines()) < 200
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", str(PATH)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
