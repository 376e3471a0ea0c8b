"""A small client of LabelHub's API: one file, the standard library, Python 3.11.

hub = LabelHub("https://label.example", "lh_…")
hub.import_rows("helpful", [{"prompt": "Why?", "chosen": "…", "rejected": "…"}])
for item in hub.items("helpful"):
    hub.submit("helpful", item, decide(item.left, item.right))
dataset = hub.freeze("helpful", algorithm="dpo")
Path("train.jsonl").write_bytes(hub.download("helpful", dataset, "train.jsonl"))
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

Row = dict[str, Any]
RETRIES = 5


class ApiError(Exception):
    """What the site answered: `status`, `code`, a sentence, and `fields`."""

    def __init__(self, status: int, error: Row) -> None:
        super().__init__(f"{status} {error['code']}: {error['message']}")
        self.status = status
        self.code: str = error["code"]
        self.fields: dict[str, list[str]] = error.get("fields", {})


@dataclass(frozen=True)
class Item:
    """One item to judge. `right` is None in a binary project."""

    id: str
    messages: list[dict[str, str]]
    left: str
    right: str | None
    verdicts: list[str]
    revision: int


class LabelHub:
    def __init__(self, url: str, token: str, *, timeout: float = 60) -> None:
        self.base = f"{url.rstrip('/')}/api/v1"
        self.token = token
        self.timeout = timeout

    # --- Reading ----------------------------------------------------------

    def me(self) -> Row:
        return self._json("GET", "/me")

    def projects(self) -> Iterator[Row]:
        return self._rows("/projects")

    def rows(self, project: str, what: str, **filters: object) -> Iterator[Row]:
        """All tasks, judgments, prompts, responses, events, runs, snapshots …"""
        return self._rows(f"/projects/{project}/{what}?{urlencode(filters)}")

    # --- Importing --------------------------------------------------------

    def import_rows(self, project: str, rows: list[Row], **options: object) -> Row:
        """Import and wait until the rows can be judged."""
        sent = {"rows": rows, **options}
        begun = self._json("POST", f"/projects/{project}/imports", sent)
        path = f"/projects/{project}/imports/{begun['id']}"
        return self._wait(path, {"complete"}, {"failed", "removed"})

    # --- Judging ----------------------------------------------------------

    def claim(self, project: str) -> Item | None:
        """The item to judge now; None if there is none."""
        found = self._json("POST", f"/projects/{project}/judging/claim")["item"]
        if found is None:
            return None
        return Item(**{name: found[name] for name in Item.__dataclass_fields__})

    def items(self, project: str) -> Iterator[Item]:
        """One after another; submit or skip each before the next."""
        while item := self.claim(project):
            yield item

    def submit(self, project: str, item: Item, verdict: str, note: str = "") -> Row:
        path = f"/projects/{project}/judging/{item.id}/submit"
        sent = {"verdict": verdict, "note": note, "replaces": item.revision}
        return self._json("POST", path, sent)

    def skip(self, project: str, item: Item, reason: str = "") -> None:
        path = f"/projects/{project}/judging/{item.id}/skip"
        self._request("POST", path, {"reason": reason})

    def feedback(self, project: str, task: int, verdict: str, user: str) -> Row:
        """What an end user thought of the responses of a task."""
        sent = {"task": task, "verdict": verdict, "user": user}
        return self._json("POST", f"/projects/{project}/feedback", sent)

    # --- Datasets and runs --------------------------------------------------

    def freeze(self, project: str, *, algorithm: str, **recipe: object) -> Row:
        """Freeze a dataset and wait until it is ready."""
        path = f"/projects/{project}/snapshots"
        begun = self._json("POST", path, {"algorithm": algorithm, **recipe})
        return self._wait(f"{path}/{begun['id']}", {"ready"}, {"failed"})

    def download(self, project: str, dataset: Row, name: str) -> bytes:
        path = f"/projects/{project}/snapshots/{dataset['id']}/files/{name}"
        return self._request("GET", path)

    def launch(self, project: str, name: str, config: Row, snapshot: int) -> Row:
        sent = {"name": name, "config": config, "snapshot": snapshot}
        return self._json("POST", f"/projects/{project}/runs", sent)

    # --- Underneath -------------------------------------------------------

    def _rows(self, path: str) -> Iterator[Row]:
        """A list, page by page: memory stays flat at any length."""
        while path:
            page = self._json("GET", path)
            yield from page["results"]
            path = (page["next"] or "").partition("/api/v1")[2]

    def _wait(self, path: str, good: set[str], bad: set[str]) -> Row:
        while True:
            row = self._json("GET", path)
            if row["state"] in good:
                return row
            if row["state"] in bad:
                sentence = row["error"] or f"It is {row['state']}."
                raise ApiError(200, {"code": row["state"], "message": sentence})
            time.sleep(0.5)

    def _json(self, method: str, path: str, sent: Row | None = None) -> Row:
        answer: Row = json.loads(self._request(method, path, sent))
        return answer

    def _request(self, method: str, path: str, sent: Row | None = None) -> bytes:
        """Ask; again where the site is busy. The key makes that safe."""
        request = Request(  # noqa: S310 (the address is the caller's own)
            f"{self.base}{path}",
            method=method,
            data=json.dumps(sent or {}).encode() if method == "POST" else None,
            headers={
                "Authorization": f"Bearer {self.token}",
                "Content-Type": "application/json",
                "Idempotency-Key": uuid.uuid4().hex,
            },
        )
        for attempt in range(RETRIES):
            try:
                with urlopen(request, timeout=self.timeout) as response:  # noqa: S310
                    answer: bytes = response.read()
                    return answer
            except HTTPError as exc:
                if exc.code not in (429, 502, 503) or attempt == RETRIES - 1:
                    raise _error(exc) from None
                time.sleep(float(exc.headers.get("Retry-After") or 2**attempt))
        raise AssertionError("unreachable")


def _error(exc: HTTPError) -> ApiError:
    try:
        return ApiError(exc.code, json.loads(exc.read())["error"])
    except (ValueError, KeyError, TypeError):
        return ApiError(exc.code, {"code": "http", "message": str(exc.reason)})
