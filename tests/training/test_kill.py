"""Whoever is killed at whatever moment: one accepted result or one honest failure.

KILLS=3000 pytest -m slow tests/training/test_kill.py -k any_process
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request

import psutil
import pytest
from django.db.models import Count
from django_q.models import Task

from tests.builders import make_project
from tests.training.house import VICTIMS, House, all_final, eventually, free_port
from training import attempts, queueing, runs
from training.models import Attempt, GpuSlot, MetricPoint, Run, Worker

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

KILLS = int(os.environ.get("KILLS", "12"))
State = Run.State


@pytest.fixture
def house(tmp_path, transactional_db):
    house = House(tmp_path)
    house.start()
    try:
        yield house
    finally:
        house.burn_down()


def launch(project, plan: str) -> Run:
    config = {"algorithm": "dpo", "base_model": "org/tiny", "dataset_path": "org/pairs"}
    return runs.launch(project, actor=None, name=plan, config=config)


def check_promises(house: House) -> None:
    """What holds when all runs have ended, whatever was done to them."""
    eventually(lambda: not GpuSlot.objects.exclude(attempt=None).exists(), 20)
    assert not Attempt.objects.filter(state=Attempt.State.RUNNING).exists()
    for run in Run.objects.annotate(n=Count("attempts")):
        ends = run.events.filter(kind__in=["succeeded", "failed", "lost"])
        accepted = run.events.filter(kind="succeeded").count()
        story = list(ends.values_list("kind", "message"))
        if run.state == State.SUCCEEDED:
            assert accepted == 1, story
            assert run.uri.endswith(f"attempt-{run.fence}")
            steps = MetricPoint.objects.filter(run=run, name="loss").values("step")
            assert steps.distinct().count() == 10, story
        else:
            assert run.state == State.FAILED, story
            assert accepted == 0, story
            assert run.error["class"] in ("Killed", "Lost"), run.error
        assert run.n == run.fence


def test_any_process_may_be_killed_at_any_time(house):
    project, chance = make_project(), random.Random(KILLS)
    eventually(lambda: Worker.objects.exclude(pid=0).exists())
    killed: dict[str, int] = dict.fromkeys(VICTIMS, 0)
    while sum(killed.values()) < KILLS:
        assert house.main.poll() is None, house.log.read_text()[-2000:]
        if Run.objects.exclude(state__in=Run.FINAL).count() < 4:
            launch(project, "seconds=1")
            runs.ring()  # a doubled trigger does no harm
        # In turn, so that each kind is met however few kills there are.
        victim = min(killed, key=lambda kind: killed[kind])
        if house.kill(victim):
            killed[victim] += 1
            time.sleep(chance.uniform(0, 1))
    eventually(all_final, 60 + KILLS)
    check_promises(house)
    failed = Run.objects.filter(state=State.FAILED).count()
    assert failed <= killed["trainer"] + killed["supervisor"] // attempts.MAX_LOST
    assert house.stop() == 0
    assert house.everybody() == []


def test_stopping_the_site_saves_what_trains_and_leaves_no_process(house):
    eventually(house.serves)
    second = subprocess.run(
        [sys.executable, "manage.py", "start", "--port", str(house.port)],
        env=house.environment,
        capture_output=True,
        text=True,
    )
    assert second.returncode == 1
    assert "choose another with --port" in second.stderr

    run = launch(make_project(), "seconds=5")
    eventually(lambda: MetricPoint.objects.filter(run=run, name="loss").count() > 2)
    assert house.stop() == 0
    assert house.everybody() == []
    run.refresh_from_db()
    assert run.state == State.QUEUED
    assert run.attempts.get().state == Attempt.State.INTERRUPTED
    assert GpuSlot.objects.filter(attempt=None).count() == 3

    house.start()
    eventually(all_final)
    run.refresh_from_db()
    assert run.state == State.SUCCEEDED
    first = run.events.get(kind="resumed", attempt__fence=2).data["first"]
    assert first > 2  # it went on, and did not begin anew
    house.stop()


def test_killing_the_site_itself_leaves_no_process(house):
    run = launch(make_project(), "seconds=60")
    eventually(lambda: MetricPoint.objects.filter(run=run).exists())
    house.main.kill()
    # A goodbye may take its full minute.
    with contextlib.suppress(AssertionError):
        eventually(lambda: house.everybody() == [], seconds=90)
    assert [process.cmdline() for process in house.everybody()] == []
    run.refresh_from_db()
    assert run.state == State.QUEUED


def test_ctrl_c_ends_a_web_server_that_runs_alone(house):
    """The terminal tells the whole group, and the server tells its worker again."""
    port = free_port()
    web = subprocess.Popen(
        [sys.executable, "manage.py", "start", "--only", "web", "--port", str(port)],
        env=house.environment,
        start_new_session=True,
    )
    try:
        eventually(lambda: answers(port))
        os.killpg(web.pid, signal.SIGINT)
        assert web.wait(timeout=60) == 0
        assert members_of(web.pid) == []
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(web.pid, signal.SIGKILL)
        web.wait()


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz") as page:
            return page.status == 200
    except OSError:
        return False


def members_of(group: int) -> list[int]:
    return [
        process.pid
        for process in psutil.process_iter(["status"])
        if process.info["status"] != psutil.STATUS_ZOMBIE
        and os.getpgid(process.pid) == group
    ]


def test_a_queue_that_looks_alive_and_does_nothing_is_started_again(
    tmp_path, transactional_db, monkeypatch
):
    """As after idle workers were killed: all processes are there, and stand still."""
    house = House(tmp_path)
    for name in ("DATA_DIR", "DATABASE_URL", "DJANGO_SETTINGS_MODULE", "SECRET_KEY"):
        monkeypatch.setenv(name, house.environment[name])
    monkeypatch.setattr(queueing.settings, "DATA_DIR", house.data_dir)
    monkeypatch.setattr(queueing, "CANARY_SECONDS", 1.5)
    keeper = queueing.QueueKeeper()
    try:
        keeper.restart()
        eventually(lambda: sings(keeper))
        assert keeper.cluster is not None
        os.killpg(keeper.cluster.pid, signal.SIGSTOP)
        eventually(lambda: keeper.listen() or keeper.restarts == 1)
        eventually(lambda: sings(keeper))
    finally:
        keeper.end()
        house.burn_down()


def sings(keeper: queueing.QueueKeeper) -> bool:
    """Whether a canary of this cluster has come back."""
    keeper.listen()
    return bool(Task.objects.filter(pk=keeper._canary).exists())
