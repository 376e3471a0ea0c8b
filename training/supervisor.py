"""Owns one attempt: prepares it, starts the trainer, ships what it writes, ends it.

The supervisor is a process of its own (`manage.py supervise`), so that neither a web
process nor the queue is in the way of a run of days. If it dies, the kernel kills its
trainer, and the host's agent queues the run again.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import psutil
import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, OperationalError, connection

from training import attempts, failures, inputs, processes, runs, storage
from training.core.run_directory import RunDirectory
from training.models import Attempt, Run
from training.redaction import storable
from training.shipping import Shipper

log = structlog.get_logger("training.supervisor")

T = TypeVar("T")

BEAT_SECONDS = 15.0
LISTEN_SECONDS = 1.0
"""How soon a wish is heard."""
SHIP_SECONDS = 1.0
LOOK_SECONDS = 0.1
SILENCE_SECONDS = 900.0
"""A trainer that has written nothing for so long is remarked upon."""
DATABASE_PATIENCE = 3600.0
"""How long a run waits, to be begun or accepted, while the database is away."""

GRACE = {"stop": (300.0, 60.0), "shutdown": (40.0, 8.0), "cancel": (3.0, 5.0)}
"""Seconds from being asked to SIGTERM, and from there to SIGKILL."""

PASSED_ON = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "OMP_NUM_THREADS",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_DATASETS_CACHE",
    "XDG_CACHE_HOME",
)
"""All that a trainer inherits; no address of the database, no key."""
PASSED_ON_FOR_HUB = (
    "HF_ENDPOINT",
    "HF_TOKEN",
    "HF_HUB_OFFLINE",
    "HTTPS_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
)

OWN_GROUP = Path("/proc/self/cgroup")
GROUPS = Path("/sys/fs/cgroup")

AWAY = (OperationalError, InterfaceError)
"""What the database says when it cannot be reached."""


class FencedOut(Exception):
    """The run belongs to another attempt now."""


def trainer_command(directory: RunDirectory, checkpoint: Path | None) -> list[str]:
    resume = [] if checkpoint is None else ["--resume-from", str(checkpoint)]
    return [*settings.TRAINER_COMMAND, str(directory.path), *resume]


def trainer_environment(
    directory: RunDirectory, gpu: int | None, *, needs_hub: bool
) -> dict[str, str]:
    names = PASSED_ON + (PASSED_ON_FOR_HUB if needs_hub else ())
    environment = {name: os.environ[name] for name in names if name in os.environ}
    if not needs_hub:
        environment["HF_HUB_OFFLINE"] = "1"
    return environment | {
        "CUDA_VISIBLE_DEVICES": "" if gpu is None else str(gpu),
        "LABELHUB_DIE_WITH_PARENT": "1",
        "LABELHUB_DIE_WITH_PARENT_PID": str(os.getpid()),
        processes.ATTEMPT_MARK: str(directory.path),
        "PYTHONFAULTHANDLER": "1",
        "PYTHONPATH": str(settings.BASE_DIR),
        # It works in the run directory, and must import nothing from there.
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


class Heart(threading.Thread):
    """Renews the lease and listens for wishes, also while the rest is busy.

    While the database is away the attempt goes on: the fence decides afterwards.
    """

    def __init__(self, attempt: Attempt) -> None:
        super().__init__(name="heart", daemon=True)
        self.attempt = attempt
        self.is_mine = True
        self.wish = ""
        self._beaten_at = time.monotonic()
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(LISTEN_SECONDS):
            try:
                self._listen()
            except AWAY:
                connection.close()
        connection.close()

    def stop(self) -> None:
        self._ended.set()
        self.join(timeout=30)

    def _listen(self) -> None:
        if time.monotonic() - self._beaten_at >= BEAT_SECONDS:
            self.is_mine = attempts.beat(self.attempt)
            self._beaten_at = time.monotonic()
        run = Run.objects.filter(
            pk=self.attempt.run_id, fence=self.attempt.fence, state__in=Run.ACTIVE
        )
        found = run.values_list("wish", flat=True).first()
        self.is_mine = self.is_mine and found is not None
        self.wish = found or ""


class Supervisor:
    """One attempt, from claimed to accepted."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.directory = inputs.attempt_directory(attempt)
        self.heart = Heart(attempt)
        self.shipper = Shipper(attempt, self.directory)
        self.child: subprocess.Popen[bytes] | None = None
        self.asked = ""
        self.is_going_down = False
        self.peak_memory = 0
        self._heard: dict[str, int] = {}
        self._heard_at = time.monotonic()
        self._asked_at = self._shipped_at = self._weighed_at = 0.0
        self._is_terminated = self._has_killed = False
        self._killed_before = _killed_for_memory()

    def supervise(self) -> None:
        """Bring the attempt to its end, whatever that is."""
        if not self._register():
            log.info("not mine", attempt=str(self.attempt))
            return
        self.heart.start()
        try:
            self._end(self._train())
        except FencedOut:
            self._kill()
            log.warning("fenced out: nothing is kept", attempt=str(self.attempt))
        except AWAY:
            # No fault of the run's. While it trains, this is borne, not raised.
            self._kill()
            persist(self._lose)
        except Exception as error:
            log.exception("supervisor failed", attempt=str(self.attempt))
            self._kill()
            self._fail(failures.ours(error))
            self._withdraw()
        finally:
            self.heart.stop()

    def go_down(self, number: int, frame: FrameType | None) -> None:
        """The host is stopping: save, end, and leave the run to be queued again."""
        self.is_going_down = True

    def _register(self) -> bool:
        me = processes.own_identity()
        mine = Attempt.objects.filter(pk=self.attempt.pk, state=Attempt.State.RUNNING)
        return bool(persist(lambda: mine.update(supervisor=me)))

    # --- Training ---

    def _train(self) -> int | None:
        """The trainer's exit code, or None where it was not even started."""
        inputs.make_directory(self.attempt)
        needs_hub = self._prepare()
        if needs_hub is None:
            return None
        inputs.carry_starter(self.attempt, self.directory)
        checkpoint = inputs.carry_checkpoint(self.attempt, self.directory)
        self.child = self._start(needs_hub, checkpoint)
        trainer = processes.identity(self.child.pid)
        persist(
            lambda: Attempt.objects.filter(pk=self.attempt.pk).update(
                trainer=trainer or {}
            )
        )
        return self._watch(self.child)

    def _prepare(self) -> bool | None:
        """Whether the hub is needed, or None where a wish came before all was fetched.

        A thread fetches, for a model may take the store minutes, and a cancel is to be
        heard meanwhile. What it has not done then ends with this process.
        """
        fetched: Future[bool] = Future()

        def fetch() -> None:
            try:
                fetched.set_result(inputs.fetch_inputs(self.attempt, self.directory))
            except Exception as error:  # noqa: BLE001 raised again below
                fetched.set_exception(error)
            finally:
                connection.close()

        threading.Thread(target=fetch, name="fetch", daemon=True).start()
        while self._wanted() not in ("cancel", "shutdown"):
            self._check_fence()
            if wait([fetched], timeout=LOOK_SECONDS).done:
                return fetched.result()
        return None

    def _start(
        self, needs_hub: bool, checkpoint: Path | None
    ) -> subprocess.Popen[bytes]:
        slot = self.attempt.slot
        has_gpu = self.attempt.worker.device.get("kind") == "cuda"
        environment = trainer_environment(
            self.directory, slot.index if has_gpu else None, needs_hub=needs_hub
        )
        with self.directory.log.open("ab") as output:
            # Into a file: a pipe that nobody empties stops the trainer.
            return subprocess.Popen(  # noqa: S603
                trainer_command(self.directory, checkpoint),
                cwd=self.directory.path,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _watch(self, child: subprocess.Popen[bytes]) -> int:
        while True:
            try:
                return child.wait(timeout=LOOK_SECONDS)
            except subprocess.TimeoutExpired:
                self._check_fence()
                self._obey()
                self._weigh()
                if time.monotonic() - self._shipped_at >= SHIP_SECONDS:
                    self._ship()
                    self._shipped_at = time.monotonic()

    def _check_fence(self) -> None:
        if not self.heart.is_mine:
            raise FencedOut

    def _wanted(self) -> str:
        """What is asked of the attempt now; the most urgent where it is several."""
        if self.heart.wish == Run.Wish.CANCEL:
            return "cancel"
        return "shutdown" if self.is_going_down else self.heart.wish

    def _obey(self) -> None:
        """Ask, then insist, then kill."""
        wanted = self._wanted()
        if wanted != self.asked:
            self.asked, self._asked_at = wanted, time.monotonic()
            self._is_terminated = False
            with contextlib.suppress(OSError):  # a full disk; the signals still come
                self.directory.write_control("stop")
        if not self.asked or self.child is None:
            return
        until_term, until_kill = GRACE[self.asked]
        waited = time.monotonic() - self._asked_at
        if waited > until_term and not self._is_terminated:
            self.child.terminate()
            self._is_terminated = True
        if waited > until_term + until_kill:
            self._has_killed = True
            self._kill()

    def _kill(self) -> None:
        """End every process of the attempt but this one, in whatever session it is."""
        family = processes.tree(self.child.pid) if self.child else []
        processes.send(family, signal.SIGKILL)
        processes.kill(lambda: processes.marked(self.directory.path))
        if self.child:
            self.child.wait()

    def _ship(self, *, last: bool = False) -> None:
        try:
            self.shipper.ship(last=last)
            self._note_silence()
        except AWAY:
            connection.close()
        except (DatabaseError, ValueError, TypeError, OSError):
            # Odd numbers in a file are no reason to lose a day of training.
            log.exception("could not ship", attempt=str(self.attempt))

    def _note_silence(self) -> None:
        """Say once in the history that the trainer may hang; a person decides."""
        now = time.monotonic()
        if self.shipper.shipped != self._heard:
            self._heard, self._heard_at = self.shipper.shipped, now
        elif now - self._heard_at > SILENCE_SECONDS:
            minutes = round(SILENCE_SECONDS / 60)
            runs.record(
                self.attempt.run,
                "silent",
                f"The trainer has written nothing for {minutes} minutes. "
                "If it hangs, cancel the run.",
                attempt=self.attempt,
            )
            self._heard_at = math.inf

    def _weigh(self) -> None:
        if self.child is None or time.monotonic() - self._weighed_at < 2.0:
            return
        self._weighed_at = time.monotonic()
        memory = 0
        for process in processes.tree(self.child.pid):
            with contextlib.suppress(psutil.Error):
                memory += process.memory_info().rss
        self.peak_memory = max(self.peak_memory, memory)

    # --- The end ---

    def _end(self, exit_code: int | None) -> None:
        """Accept what the attempt came to. The exit code alone proves nothing."""
        out_of_memory = _killed_for_memory() > self._killed_before
        self._kill()  # ranks and data loaders may have outlived the trainer
        persist(lambda: self.shipper.ship(last=True), lenient=True)
        self._check_fence()
        result = self._read_result()
        status = str(result.get("status", "")) if result else ""
        facts = {"exit_code": exit_code, "peak_memory_bytes": self._peak(result)}
        wish = self.heart.wish
        if wish == Run.Wish.CANCEL:
            self._finish(runs.State.CANCELED, "Canceled.", **facts)
        elif status == "completed":
            self._keep(runs.State.SUCCEEDED, "Succeeded.", result, facts)
        elif self.is_going_down and status != "failed" and not wish:
            persist(lambda: attempts.interrupt(self.attempt, **facts))
        elif status == "stopped":
            self._keep(runs.State.STOPPED, "Stopped and saved.", result, facts)
        elif result and isinstance(result.get("error"), dict):
            self._fail(failures.told(result["error"]), **facts)
        else:
            error = failures.explain(
                self.directory,
                exit_code,
                phase=self.shipper.phase,
                step=self.shipper.step,
                out_of_memory=out_of_memory and exit_code == -signal.SIGKILL,
            )
            if self._has_killed:
                error["class"] = "NotStopped"
                error["message"] = (
                    "Asked to stop, the trainer did not, and was killed. Retry the run "
                    "to go on from its newest checkpoint."
                )
            self._fail(error, **facts)

    def _keep(
        self, to: runs.State, message: str, result: Any, facts: dict[str, Any]
    ) -> None:
        """Store the model, then have the run accepted: never the other way round."""
        uri = ""
        # final/, or the newest checkpoint of a run that was stopped.
        saved = self.directory.path / str(
            result.get("final_checkpoint_path") or "final"
        )
        if saved.is_dir():
            key = inputs.store_key(self.attempt)
            uri = storage.open_store().put_tree(saved, key)
        if not self._finish(to, message, result=storable(result), uri=uri, **facts):
            self._withdraw()

    def _fail(self, error: dict[str, Any], **facts: Any) -> None:
        self._finish(runs.State.FAILED, str(error["message"]), error=error, **facts)

    def _withdraw(self) -> None:
        persist(lambda: inputs.withdraw(self.attempt), lenient=True)

    def _lose(self) -> None:
        reason = "The database was away while the attempt was prepared."
        if attempts.lose(self.attempt, reason):
            attempts.free_slot(self.attempt)

    def _finish(self, to: runs.State, message: str, **facts: Any) -> bool:
        accepted = persist(
            lambda: attempts.finish(self.attempt, to, message=message, **facts)
        )
        log.info(
            "accepted" if accepted else "rejected by the fence",
            attempt=str(self.attempt),
            state=to.value,
        )
        if accepted and to != runs.State.FAILED:
            inputs.tidy(self.directory)
        return bool(accepted)

    def _read_result(self) -> dict[str, Any] | None:
        try:
            result = self.directory.read_result()
        except (OSError, ValueError):
            return None
        return result if isinstance(result, dict) else None

    def _peak(self, result: dict[str, Any] | None) -> int | None:
        """Bytes of the GPU where there is one, else of main memory."""
        told = result or {}
        gigabytes = told.get("peak_gpu_memory_gb") or told.get("peak_memory_gb")
        if isinstance(gigabytes, int | float):
            return int(gigabytes * 1e9)
        return self.peak_memory or None


def persist(change: Callable[[], T], *, lenient: bool = False) -> T | None:
    """Make a change as soon as the database can be reached."""
    deadline = time.monotonic() + DATABASE_PATIENCE
    while True:
        try:
            return change()
        except AWAY:
            connection.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(LISTEN_SECONDS)
        except (DatabaseError, ValueError, TypeError, OSError):
            if not lenient:
                raise
            log.exception("could not be kept")
            return None


def _killed_for_memory() -> int:
    """How many processes of this control group the kernel has killed for memory."""
    with contextlib.suppress(OSError, ValueError):
        group = OWN_GROUP.read_text().rpartition("::")[2].strip()
        events = GROUPS / group.lstrip("/") / "memory.events"
        for line in events.read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0
