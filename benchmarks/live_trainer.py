"""A trainer that learns nothing and reports as a DPO run does, four times a second.

`python live_trainer.py DIR`, as `training.core.run`. How long is said in the name of
the job: "live seconds=900". It ends early when it is asked to stop.
"""

from __future__ import annotations

import json
import math
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from training.core import process
from training.core.run_directory import RunDirectory

INTERVAL = 0.25
NAMES = (
    *("loss", "grad_norm", "learning_rate", "entropy", "mean_token_accuracy"),
    *("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies"),
    *("logps/chosen", "logps/rejected", "num_tokens"),
)


def main(path: str) -> None:
    process.die_with_parent()
    run = RunDirectory(path)
    words = json.loads(run.config.read_text())["job_name"].split()
    seconds = float(dict(word.split("=") for word in words if "=" in word)["seconds"])
    steps = math.ceil(seconds / INTERVAL)
    dice = random.Random(0)
    run.append_event("phase", "training", detail=f"{steps} steps")
    started, status, step = time.monotonic(), "completed", 0
    for step in range(1, steps + 1):
        time.sleep(max(0.0, started + step * INTERVAL - time.monotonic()))
        values = {name: dice.gauss(1 / math.sqrt(step), 0.1) for name in NAMES}
        run.append_metrics(step, values, epoch=step / steps)
        if step % 4 == 0:
            run.append_event("progress", "", step=step, max_steps=steps)
            print(f"step {step} of {steps}", flush=True)
        if step % 40 == 0:
            held_out = {"eval_loss": values["loss"], "eval_rewards/accuracies": 0.6}
            run.append_metrics(step, held_out, epoch=step / steps)
        if run.read_control() == "stop":
            status = "stopped"
            break
    run.final.mkdir()
    (run.final / "weights").write_text("none")
    run.write_result(
        {
            "status": status,
            "total_steps": step,
            "final_loss": 1.0,
            "final_checkpoint_path": "final",
        }
    )


if __name__ == "__main__":
    main(sys.argv[1])
