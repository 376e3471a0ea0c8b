"""DPO as TRL's own pages show it: the baseline of bench_training.py.

    python benchmarks/plain_trl.py SPEC

SPEC is JSON: model, train, eval, out (paths) and arguments (of trl.DPOConfig). The one
addition is a callback that notes the time of each line that is logged.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from datasets import load_dataset
from transformers import AutoTokenizer, TrainerCallback
from trl import DPOConfig, DPOTrainer


class NoteTimes(TrainerCallback):
    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        now = {"step": state.global_step, "time": time.time()}
        self.lines.append(now | kwargs["logs"])


spec = json.loads(Path(sys.argv[1]).read_text())
files = {"train": spec["train"], "eval": spec["eval"]}
dataset = load_dataset("json", data_files=files)
times = NoteTimes()
trainer = DPOTrainer(
    model=spec["model"],
    args=DPOConfig(output_dir=f"{spec['out']}/checkpoints", **spec["arguments"]),
    train_dataset=dataset["train"],
    eval_dataset=dataset["eval"],
    processing_class=AutoTokenizer.from_pretrained(spec["model"]),
    callbacks=[times],
)
trainer.train()
trainer.save_model(f"{spec['out']}/final")
Path(spec["out"], "lines.json").write_text(json.dumps(times.lines))
