"""A trainer that costs nothing: the other side of the run directory.

`python fake_trainer.py DIR [--resume-from CHECKPOINT]`, as `training.core.run`. What it
does is said in the name of the job: "do=crash seconds=0.5".
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from training.core.run_directory import RunDirectory, write_manifest

STEPS = 10


def main(path: str, resume_from: str = "") -> int:
    die_with_parent()
    run = RunDirectory(path)
    words = json.loads(run.config.read_text())["job_name"].split()
    plan = dict(word.split("=") for word in words if "=" in word)
    do, seconds = plan.get("do", "train"), float(plan.get("seconds", 0.2))
    print("environment:", *sorted(os.environ), flush=True)
    run.append_event("phase", "starting", detail="dpo", max_steps=STEPS)
    if do == "fail":
        where = {"phase": "reading data", "step": 0, "place": None}
        error = {"code": "RLHF020", "class": "RLHFDatasetError", "message": "No rows."}
        run.write_result(
            {"status": "failed", "error": {**error, "where": where, "lines": ["x"]}}
        )
        return 1
    if do == "crash":
        raise RuntimeError("token hf_abcdefghijklmnopqrstu was refused")
    if do == "silent":
        return 0
    if do == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if do == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: run.write_control("stop"))
    first = 1 + int(resume_from.rpartition("-")[2] or 0)
    return train(run, first, do, seconds)


def die_with_parent() -> None:
    if "LABELHUB_DIE_WITH_PARENT" in os.environ:
        from training.core import process

        process.die_with_parent()


def train(run: RunDirectory, first: int, do: str, seconds: float) -> int:
    run.append_event("phase", "training", detail=f"{STEPS} steps")
    if first > 1:
        run.append_event("resumed", f"going on at step {first}", first=first)
    run.append_sample(0, {"sample": 0, "prompt": "Hi?", "completion": "Hello."})
    for step in range(first, STEPS + 1):
        time.sleep(seconds / STEPS)
        run.append_metrics(step, {"loss": 1 / step, "odd": float("nan")}, epoch=None)
        run.append_event("progress", "", step=step, max_steps=STEPS)
        checkpoint = save(run, step)
        if run.read_control() == "stop" and do != "deaf":
            return end(run, "stopped", checkpoint, step)
    run.final.mkdir()
    (run.final / "weights").write_text("trained")
    return end(run, "completed", run.final, STEPS)


def save(run: RunDirectory, step: int) -> Path:
    folder = run.checkpoints / f"checkpoint-{step}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights").write_text(str(step))
    write_manifest(folder, step)
    return folder


def end(run: RunDirectory, status: str, saved: Path, step: int) -> int:
    run.write_result(
        {
            "status": status,
            "total_steps": step,
            "final_loss": 1 / step,
            "final_checkpoint_path": saved.relative_to(run.path).as_posix(),
        }
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], *sys.argv[3:]))
