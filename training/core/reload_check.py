"""Does the saved model do as the live one did? Asked of a fresh process.

A model that is saved wrongly (an adapter without its head, weights under other names)
loads without an error and answers at random, so loading it is no proof. The fresh
process shares nothing with the trainer but the files under final/ and the base model.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from training.core.errors import RLHFEvaluationError
from training.core.evaluation.scoring import measuring
from training.core.models import Task, load_trained
from training.core.process import die_with_parent, package_environment

TOKENS = 64
"""Tokens of each input that are compared; a saved model is wrong at once or not."""

# Bits are expected to be the same. The tolerance leaves room for a GPU that chooses
# another kernel in another process.
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2}


def outputs(model: Any, inputs: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
    """For each input, the logits of its last eight tokens, or its one score."""
    found = {}
    with measuring(model):
        for number, ids in enumerate(inputs):
            batch = torch.tensor([list(ids[:TOKENS])], device=model.device)
            logits = model(
                input_ids=batch, attention_mask=torch.ones_like(batch)
            ).logits
            kept = logits[0, -8:] if logits.ndim == 3 else logits[0]
            found[str(number)] = kept.float().cpu().contiguous()
    return found


def check_reload(
    live: dict[str, torch.Tensor],
    inputs: Sequence[Sequence[int]],
    *,
    final: Path,
    base: Path,
    task: Task,
    dtype: torch.dtype,
    device: str,
) -> dict[str, Any]:
    """Compare the live model's outputs with those of final/ in a fresh process.

    Returns:
        equal, max_abs_diff (of logits or scores) and n_inputs.

    Raises:
        RLHFEvaluationError: RLHF057, where they differ or it cannot be loaded.
    """
    with tempfile.TemporaryDirectory() as folder:
        spec, out = Path(folder, "spec.json"), Path(folder, "outputs.safetensors")
        spec.write_text(
            json.dumps(
                {
                    "final": str(final),
                    "base": str(base),
                    "task": task,
                    "dtype": str(dtype).removeprefix("torch."),
                    "device": device,
                    "inputs": [list(ids) for ids in inputs],
                    "threads": torch.get_num_threads(),
                    "out": str(out),
                }
            )
        )
        done = subprocess.run(  # noqa: S603 # our own module
            [sys.executable, "-m", "training.core.reload_check", str(spec)],
            env=package_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            last = done.stderr.strip().rpartition("\n")[2]
            raise RLHFEvaluationError(
                f"The saved model cannot be loaded again: {last}", code="RLHF057"
            )
        reloaded = load_file(out)
    difference = max(float((live[name] - reloaded[name]).abs().max()) for name in live)
    # A comparison with NaN is false, and rightly fails.
    if not difference <= _TOLERANCE[dtype]:
        raise RLHFEvaluationError(
            "The saved model, loaded again, gives other outputs than the live one.",
            code="RLHF057",
            context={"max_abs_diff": difference, "inputs": len(inputs)},
        )
    return {"equal": True, "max_abs_diff": difference, "n_inputs": len(inputs)}


def main(spec_path: str) -> None:
    """The fresh process: load final/, answer the inputs, write the answers."""
    die_with_parent()
    spec = json.loads(Path(spec_path).read_text())
    torch.set_num_threads(spec["threads"])
    model = load_trained(
        Path(spec["final"]),
        Path(spec["base"]),
        spec["task"],
        getattr(torch, spec["dtype"]),
    ).to(spec["device"])
    save_file(outputs(model, spec["inputs"]), spec["out"])


if __name__ == "__main__":
    main(sys.argv[1])
