"""What happens beside the training steps: metrics, samples, checkpoints, control."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from transformers import (
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from training.core.data.text import Text, plain_text
from training.core.device import peak_gpu_memory_gb, peak_memory_gb
from training.core.errors import RLHFTrainingError
from training.core.run_directory import RunDirectory, write_manifest


class Tell(Protocol):
    """Writes an event for the people who watch."""

    def __call__(self, kind: str, message: str, **details: object) -> None: ...


class MetricsCallback(TrainerCallback):  # type: ignore[misc] # untyped base
    """Writes down what the trainer logs, and tells how far it is.

    Raises:
        RLHFTrainingError: RLHF010, as soon as a loss or gradient is no number.
    """

    def __init__(self, run: RunDirectory, tell: Tell) -> None:
        self.run = run
        self.tell = tell
        self.last: dict[str, float] = {}
        """The newest value of every metric."""
        self.best_eval_loss: float | None = None
        self._told_at = 0.0

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        values = {
            name: float(value)
            for name, value in (logs or {}).items()
            if isinstance(value, int | float) and name not in ("epoch", "step")
        }
        self.last.update(values)
        memory = {"peak_memory_gb": round(peak_memory_gb(), 3)}
        gpu = peak_gpu_memory_gb()
        if gpu is not None:
            memory["peak_gpu_memory_gb"] = round(gpu, 3)
        self.run.append_metrics(
            state.global_step, {**values, **memory}, epoch=state.epoch
        )
        for name in ("loss", "grad_norm", "eval_loss"):
            if not math.isfinite(values.get(name, 0.0)):
                raise RLHFTrainingError(
                    f"Training diverged: {name} is {values[name]} at step "
                    f"{state.global_step}. Lower learning_rate, or mend the rows.",
                    code="RLHF010",
                    context={"step": state.global_step, name: values[name]},
                )

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        loss = (metrics or {}).get("eval_loss")
        if loss is not None:
            best = self.best_eval_loss
            self.best_eval_loss = loss if best is None else min(best, loss)
            self.tell(
                "evaluated",
                f"held-out loss {loss:.4g} at step {state.global_step}",
                step=state.global_step,
                max_steps=state.max_steps,
            )

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        last = state.global_step >= state.max_steps
        if last:
            # So that the final loss is one of the last step, and no older one.
            control.should_log = True
        if last or time.monotonic() - self._told_at >= 1:
            self._told_at = time.monotonic()
            self.tell(
                "progress",
                f"step {state.global_step} of {state.max_steps}",
                step=state.global_step,
                max_steps=state.max_steps,
                epoch=state.epoch,
            )


class ControlCallback(TrainerCallback):  # type: ignore[misc] # untyped base
    """Obeys the supervisor after each step."""

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self.stopped = False
        self._obeyed: int | None = None

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        try:
            written = self.run.control.stat().st_mtime_ns
        except FileNotFoundError:
            return
        if written == self._obeyed:
            return
        self._obeyed = written
        action = self.run.read_control()
        control.should_save = True
        # A wish to stop that comes with the last step is no longer a stop.
        if action == "stop" and state.global_step < state.max_steps:
            self.stopped = True
            control.should_training_stop = True


class CheckpointCallback(TrainerCallback):  # type: ignore[misc] # untyped base
    """Declares a checkpoint complete once all of it is on disk."""

    def __init__(self, run: RunDirectory, tell: Tell) -> None:
        self.run = run
        self.tell = tell

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        folder = self.run.checkpoints / f"checkpoint-{state.global_step}"
        write_manifest(folder, state.global_step)
        # TRL's model card, which knows neither data nor results; ours is in final/.
        (self.run.checkpoints / "README.md").unlink(missing_ok=True)
        self.tell(
            "checkpoint",
            f"checkpoint at step {state.global_step}",
            step=state.global_step,
            max_steps=state.max_steps,
            path=folder.relative_to(self.run.path).as_posix(),
        )


class SampleCallback(TrainerCallback):  # type: ignore[misc] # untyped base
    """Answers a few fixed prompts before, during and after training.

    Greedily, so that two answers differ because the model has changed and for no other
    reason, and no random number is drawn.
    """

    def __init__(
        self,
        run: RunDirectory,
        prompts: Sequence[tuple[Text, list[int]]],
        tokenizer: Any,
        max_new_tokens: int,
        interval: int,
    ) -> None:
        self.run = run
        self.prompts = prompts
        self.tokenizer = tokenizer
        self.max_new_tokens = max_new_tokens
        self.interval = interval

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        if state.global_step == 0:
            self._answer(kwargs["model"], state.global_step)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        step = state.global_step
        if step % self.interval == 0 or step >= state.max_steps:
            self._answer(kwargs["model"], step)

    @torch.no_grad()
    def _answer(self, model: Any, step: int) -> None:
        was_training = model.training
        model.eval()
        for number, (prompt, ids) in enumerate(self.prompts):
            # One at a time: padding would put the answers at the mercy of its side.
            inputs = torch.tensor([ids], device=model.device)
            output = model.generate(
                input_ids=inputs,
                attention_mask=torch.ones_like(inputs),
                max_new_tokens=self.max_new_tokens,
                do_sample=False,
                eos_token_id=self.tokenizer.eos_token_id,
                pad_token_id=self.tokenizer.pad_token_id,
            )
            answer = output[0, len(ids) :].tolist()
            self.run.append_sample(
                step,
                {
                    "sample": number,
                    "prompt": plain_text(prompt),
                    "completion": self.tokenizer.decode(
                        answer, skip_special_tokens=True
                    ),
                    "finished": self.tokenizer.eos_token_id in answer,
                },
            )
        model.train(was_training)
