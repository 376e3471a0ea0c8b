"""Training with us beside a plain TRL script that does the same steps.

    python benchmarks/bench_training.py [--quick] [--pairs N] [--steps N]

Makes a tiny starter model and preference pairs from the sample project's files, then
alternates `benchmarks/plain_trl.py` and `python -m training.core.run` with the same
rows, model, settings, evaluations and checkpoints; their losses must be the same. All
of it once with one thread of torch, and once with as many as torch takes. What we do
beyond plain TRL (greedy samples, measuring, the reload check) is timed apart.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from conditions import ROOT, aim, conditions

sys.path.insert(0, str(ROOT))

from training.core.run_directory import iter_lines

SAMPLE = ROOT / "labelhub" / "sample"
N_ROWS = 300
HELD_OUT = 12
"""Prompts whose pairs are held out."""
BATCH, MAX_LENGTH, RATE, SEED = 8, 256, 1e-3, 42
POLL_SECONDS = 0.02
DRAWS = 10_000


@dataclass
class Measured:
    """One training process, from its start to its end."""

    to_first_step: float
    steps_per_second: float
    cpu_per_step: float
    cpu_to_first_step: float
    cpu_to_last_step: float
    cpu: float
    wall: float
    peak_mb: float
    losses: list[float]
    eval_losses: list[float]
    after: dict[str, float]
    """Seconds of each phase after the last step, where the run tells them."""


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--pairs", type=int, default=10)
    options.add_argument("--steps", type=int, default=150)
    options.add_argument("--quick", action="store_true", help="3 pairs of 60 steps")
    given = options.parse_args()
    pairs, steps = (3, 60) if given.quick else (given.pairs, given.steps)
    with conditions(), tempfile.TemporaryDirectory() as name:
        world = Path(name)
        train, held_out = write_rows(world)
        print(f"DPO, {train} pairs, {held_out} held out, {steps} steps, batch {BATCH}")
        make_model(world)
        for threads in (1, None):
            compare(world, pairs, steps, threads)


def compare(world: Path, pairs: int, steps: int, threads: int | None) -> None:
    print(f"\n{pairs} pairs of runs, threads of torch: {threads or 'its own choice'}")
    plain, ours, default = [], [], []
    # The first run of all reads the libraries from disk.
    run_plain(world, 2, threads)
    for number in range(pairs):
        # Turn about, so that neither has always the warmer machine.
        for who in ("plain", "ours") if number % 2 else ("ours", "plain"):
            if who == "plain":
                plain.append(run_plain(world, steps, threads))
                print(f"  plain {plain[-1].cpu:.1f} s of CPU", flush=True)
            else:
                ours.append(run_ours(world, steps, threads, samples=0))
                print(f"  ours  {ours[-1].cpu:.1f} s of CPU", flush=True)
        check_same_training(plain[-1], ours[-1])
    for _ in range(math.ceil(pairs / 3)):
        default.append(run_ours(world, steps, threads, samples=4))
    report(plain, ours, default)


def report(
    plain: list[Measured], ours: list[Measured], default: list[Measured]
) -> None:
    print(f"{'':<28} {'plain TRL':>10} {'ours':>10} {'ratio':>7}  95 % interval")
    for name, label, unit in (
        ("steps_per_second", "steps/s", ""),
        ("cpu_per_step", "CPU ms a step", "ms"),
        ("to_first_step", "start to first step, s", ""),
        ("cpu_to_first_step", "CPU s up to the first step", ""),
        ("cpu_to_last_step", "CPU s up to the last step", ""),
        ("cpu", "CPU s in all", ""),
        ("wall", "seconds in all", ""),
        ("peak_mb", "peak memory, MB", ""),
    ):
        theirs = [getattr(run, name) for run in plain]
        mine = [getattr(run, name) for run in ours]
        scale = 1000 if unit == "ms" else 1
        ratio, low, high = paired_ratio(mine, theirs)
        print(
            f"{label:<28} {statistics.median(theirs) * scale:>10.2f} "
            f"{statistics.median(mine) * scale:>10.2f} {ratio:>7.3f}  "
            f"{low:.3f} to {high:.3f}"
        )
        if name in ("steps_per_second", "cpu_per_step"):
            aim("ratio 1.00 ± 0.03", abs(ratio - 1) <= 0.03)
    later = statistics.median(
        mine.to_first_step - theirs.to_first_step
        for mine, theirs in zip(ours, plain, strict=True)
    )
    print(f"first step {later:+.2f} s beside plain TRL")
    aim("at most 3 s later", later <= 3)
    gap = max(
        abs(a - b)
        for mine, theirs in zip(ours, plain, strict=True)
        for a, b in pairwise_of(mine, theirs)
    )
    print(f"largest difference of any logged loss: {gap:.2g}")
    after = ", ".join(
        f"{name} {statistics.median(run.after[name] for run in ours):.2f} s"
        for name in ours[0].after
    )
    print(f"after the last step we do more: {after}")
    slower = statistics.median(run.cpu_per_step for run in ours)
    with_samples = statistics.median(run.cpu_per_step for run in default)
    print(
        "with the default of 4 greedy samples at each of 10 evaluations: "
        f"{statistics.median(run.steps_per_second for run in default):.2f} steps/s, "
        f"CPU {with_samples / slower:.2f} times as much a step"
    )


def paired_ratio(ours: list[float], plain: list[float]) -> tuple[float, float, float]:
    """The geometric mean of the ratios of the pairs, and its bootstrapped interval."""
    logs = [math.log(a / b) for a, b in zip(ours, plain, strict=True)]
    rng = random.Random(SEED)
    means = sorted(
        statistics.fmean(rng.choices(logs, k=len(logs))) for _ in range(DRAWS)
    )
    low, high = means[int(DRAWS * 0.025)], means[int(DRAWS * 0.975)]
    return math.exp(statistics.fmean(logs)), math.exp(low), math.exp(high)


def pairwise_of(ours: Measured, plain: Measured) -> Iterator[tuple[float, float]]:
    yield from zip(ours.losses, plain.losses, strict=True)
    yield from zip(ours.eval_losses, plain.eval_losses, strict=True)


def check_same_training(plain: Measured, ours: Measured) -> None:
    for a, b in pairwise_of(ours, plain):
        # Printed figures are rounded by transformers in one of the two.
        if not math.isclose(a, b, rel_tol=1e-3, abs_tol=1e-4):
            raise SystemExit(
                f"Not the same training: a loss is {a} here and {b} there."
            )


# --- What is trained ----------------------------------------------------------


def write_rows(world: Path) -> tuple[int, int]:
    """The pairs that the sample's judges decided, in conversations."""
    prompts = {row["id"]: row["prompt"] for row in read(SAMPLE / "prompts.jsonl")}
    texts = {row["id"]: row["response"] for row in read(SAMPLE / "responses.jsonl")}
    held_out = set(sorted(prompts)[:HELD_OUT])
    seen: set[tuple[str, str]] = set()
    rows: dict[str, list[dict[str, Any]]] = {"train": [], "eval": []}
    for judgment in read(SAMPLE / "judgments.jsonl"):
        if judgment["verdict"] not in ("a", "b"):
            continue
        pair = (judgment["response_a"], judgment["response_b"])
        chosen, rejected = pair if judgment["verdict"] == "a" else pair[::-1]
        if (chosen, rejected) in seen or (rejected, chosen) in seen:
            continue
        seen.add((chosen, rejected))
        split = "eval" if judgment["prompt_id"] in held_out else "train"
        rows[split].append(
            {
                "prompt": prompts[judgment["prompt_id"]],
                "chosen": [{"role": "assistant", "content": texts[chosen]}],
                "rejected": [{"role": "assistant", "content": texts[rejected]}],
            }
        )
    (world / "data").mkdir()
    for split, found in rows.items():
        lines = "".join(json.dumps(row) + "\n" for row in found[:N_ROWS])
        (world / "data" / f"{split}.jsonl").write_text(lines)
    return len(rows["train"]), len(rows["eval"])


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def make_model(world: Path) -> None:
    spec = {
        "data": [str(world / "data" / "train.jsonl")],
        "out_dir": str(world / "model"),
        "size": "tiny",
    }
    (world / "starter.json").write_text(json.dumps(spec))
    subprocess.run(
        [
            sys.executable,
            "-m",
            "training.core.data.starter_model",
            str(world / "starter.json"),
        ],
        env=environment(world, 1),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )


# --- One run ------------------------------------------------------------------


def run_plain(world: Path, steps: int, threads: int | None) -> Measured:
    with tempfile.TemporaryDirectory(dir=world) as name:
        out = Path(name)
        spec = {
            "model": str(world / "model"),
            "train": str(world / "data" / "train.jsonl"),
            "eval": str(world / "data" / "eval.jsonl"),
            "out": str(out),
            "arguments": plain_arguments(steps),
        }
        (out / "spec.json").write_text(json.dumps(spec))
        script = str(ROOT / "benchmarks" / "plain_trl.py")
        found = measure(
            [sys.executable, script, str(out / "spec.json")], world, threads, out
        )
        return summed_up(read_json(out / "lines.json"), {}, *found)


def plain_arguments(steps: int) -> dict[str, Any]:
    evaluate = max(1, round(steps / 10))
    return {
        "max_steps": steps,
        "per_device_train_batch_size": BATCH,
        "per_device_eval_batch_size": BATCH,
        "learning_rate": RATE,
        "lr_scheduler_type": "linear",
        "warmup_steps": 0.1,
        "seed": SEED,
        "max_length": MAX_LENGTH,
        "logging_steps": 1,
        "eval_strategy": "steps",
        "eval_steps": evaluate,
        "eval_on_start": True,
        "save_strategy": "steps",
        "save_steps": 2 * evaluate,
        "save_total_limit": 2,
        "metric_for_best_model": "eval_loss",
        "gradient_checkpointing": False,
        "use_cpu": True,
        "bf16": False,
        "dataloader_pin_memory": False,
        "disable_tqdm": True,
        "report_to": "none",
    }


def run_ours(world: Path, steps: int, threads: int | None, *, samples: int) -> Measured:
    with tempfile.TemporaryDirectory(dir=world) as name:
        out = Path(name)
        evaluate = max(1, round(steps / 10))
        config = {
            "job_name": "bench",
            "algorithm": "dpo",
            "base_model": str(world / "model"),
            "dataset_path": str(world / "data"),
            "output_dir": ".",
            "max_steps": steps,
            "per_device_batch_size": BATCH,
            "learning_rate": RATE,
            "max_length": MAX_LENGTH,
            "gradient_checkpointing": False,
            "seed": SEED,
            "num_sample_prompts": samples,
            "logging": {
                "log_interval": 1,
                "eval_interval": evaluate,
                "save_interval": 2 * evaluate,
            },
        }
        (out / "config.json").write_text(json.dumps(config))
        found = measure(
            [sys.executable, "-m", "training.core.run", str(out)], world, threads, out
        )
        lines = [line for line, _ in iter_lines(out / "metrics.jsonl")]
        for line in lines:
            line["time"] = seconds(line["time"])
        return summed_up(lines, phases_after(out), *found)


def phases_after(out: Path) -> dict[str, float]:
    """Seconds of each phase from the end of training on."""
    marks = [
        (event["message"], seconds(event["time"]))
        for event, _ in iter_lines(out / "events.jsonl")
        if event["kind"] in ("phase", "completed")
    ]
    first = [message for message, _ in marks].index("evaluating")
    return {name: end - start for (name, start), (_, end) in pairwise(marks[first:])}


def measure(
    command: list[str], world: Path, threads: int | None, out: Path
) -> tuple[float, list[tuple[float, float]], float, float, float]:
    """Start, CPU seconds of the process over time, CPU of it and its children, wall
    seconds, and the largest process in MB."""
    cpu_over_time = []
    with (out / "log.txt").open("wb") as log:
        began = time.time()
        child = subprocess.Popen(
            command, env=environment(world, threads), stdout=log, stderr=log, cwd=out
        )
        # The kernel's own figures, so that nothing needs to be added to either side.
        while True:
            pid, status, usage = os.wait4(child.pid, os.WNOHANG)
            if pid:
                break
            cpu_over_time.append((time.time(), cpu_of(child.pid)))
            time.sleep(POLL_SECONDS)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit((out / "log.txt").read_text()[-3000:])
    cpu = usage.ru_utime + usage.ru_stime
    return began, cpu_over_time, cpu, time.time() - began, usage.ru_maxrss / 1024


def cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def summed_up(
    lines: list[dict[str, Any]],
    after: dict[str, float],
    began: float,
    cpu_over_time: list[tuple[float, float]],
    cpu: float,
    wall: float,
    peak_mb: float,
) -> Measured:
    steps = [line for line in lines if "loss" in line]
    first, last = steps[0], steps[-1]
    n = last["step"] - first["step"]
    cpu_at_first = cpu_at(first["time"], cpu_over_time)
    cpu_at_last = cpu_at(last["time"], cpu_over_time)
    return Measured(
        to_first_step=first["time"] - began,
        steps_per_second=n / (last["time"] - first["time"]),
        cpu_per_step=(cpu_at_last - cpu_at_first) / n,
        cpu_to_first_step=cpu_at_first,
        cpu_to_last_step=cpu_at_last,
        cpu=cpu,
        wall=wall,
        peak_mb=peak_mb,
        losses=[float(line["loss"]) for line in steps],
        eval_losses=[float(line["eval_loss"]) for line in lines if "eval_loss" in line],
        after=after,
    )


def cpu_at(moment: float, over_time: list[tuple[float, float]]) -> float:
    return next(cpu for when, cpu in over_time if when >= moment)


def environment(world: Path, threads: int | None) -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"
    }
    return kept | {
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(world / "hub"),
        "TOKENIZERS_PARALLELISM": "false",
        "CUDA_VISIBLE_DEVICES": "",
        **({"OMP_NUM_THREADS": str(threads)} if threads else {}),
    }


def seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()


def read_json(path: Path) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = json.loads(path.read_text())
    return lines


if __name__ == "__main__":
    main()
