"""One training job from configuration to result, in the order things happen."""

from __future__ import annotations

import gc
import importlib.metadata
import json
import logging
import platform
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.core.config import RLHFConfig
from training.core.errors import RLHFError, RLHFStorageError
from training.core.process import prepare_environment
from training.core.result import RLHFJobResult
from training.core.run_directory import (
    RunDirectory,
    read_valid_manifest,
    write_json,
)

if TYPE_CHECKING:
    from training.core.callbacks import ControlCallback, MetricsCallback
    from training.core.trainers.base import BaseTrainer, Job, Schedule

logger = logging.getLogger("training.core")

_LIBRARIES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate")


class RLHFJobRunner:
    """Runs a job in this process and writes its run directory, which is output_dir.

    Args:
        config: What to do. It need not be resolved.
        resume_from: The checkpoint folder to go on from, wherever it is. By default the
            newest valid one in the run directory, if there is one.
    """

    def __init__(self, config: RLHFConfig, *, resume_from: Path | None = None) -> None:
        self.config = config
        self.resume_from = resume_from
        self.run_directory = RunDirectory(config.output_dir)
        self.phase = "starting"
        self.result = RLHFJobResult(
            job_name=config.job_name,
            algorithm=str(config.algorithm),
            status="failed",
            start_time=datetime.now(UTC),
            end_time=datetime.now(UTC),
            output_dir=str(self.run_directory.path),
        )

    def run(self) -> RLHFJobResult:
        """Train, save, prove that what was saved is what was trained, and report.

        Returns:
            The result, also written to result.json: completed, or stopped where the
            supervisor asked for it.

        Raises:
            RLHFError: whatever went wrong, under the code that says so; result.json
                then holds a failed result with the same code.
        """
        try:
            self._open_directory()
        except OSError as error:
            raise RLHFStorageError(
                f"The run directory {self.run_directory.path} cannot be written: "
                f"{error.strerror}.",
                code="RLHF051",
            ) from error
        try:
            self._run()
        except Exception as error:
            raise self._failed(error) from error
        self._finish()
        return self.result

    def _open_directory(self) -> None:
        run = self.run_directory
        run.path.mkdir(parents=True, exist_ok=True)
        if run.result.exists():
            raise RLHFStorageError(
                f"{run.path} holds a finished run already: choose another output_dir.",
                code="RLHF051",
            )
        if not run.config.exists():
            write_json(run.config, self._portable(self.config).to_dict())
        self._enter("starting", f"{self.config.algorithm}: {self.config.job_name}")

    def _run(self) -> None:
        config = self.config = self.config.resolved()
        if self.resume_from is None:
            # Left by an attempt that was killed, or brought by the supervisor.
            self.resume_from = self.run_directory.newest_valid_checkpoint()
        elif read_valid_manifest(self.resume_from) is None:
            raise RLHFStorageError(
                f"{self.resume_from} is no whole checkpoint: its manifest is missing "
                "or does not hold.",
                code="RLHF053",
            )
        prepare_environment()
        # The ML libraries take seconds and hundreds of MB to import: only now are they
        # certain to be needed.
        import datasets
        import torch
        import transformers

        from training.core import models
        from training.core.base_model import ready_base_model
        from training.core.callbacks import ControlCallback, MetricsCallback
        from training.core.device import choose_device
        from training.core.trainers import get_trainer_class

        # Bars of a progress that the events tell already.
        datasets.disable_progress_bars()
        transformers.utils.logging.disable_progress_bar()
        device = choose_device(config)
        self.result.device, self.result.precision = device.name, device.precision
        self.result.versions = _versions()
        if config.cpu_threads:
            torch.set_num_threads(config.cpu_threads)

        trainer_class = get_trainer_class(config.algorithm)
        base = ready_base_model(config, self.run_directory, self._tell)
        job = self._job(base, device)
        trainer = trainer_class(job)
        schedule = self._read(trainer)

        self._enter("loading model", config.base_model)
        torch.manual_seed(config.seed)
        dtype = device.weights_dtype(config.method)
        model = models.load_model(base, trainer.task, dtype)
        models.check_vocabulary(model, job.tokenizer)
        model.to(device.kind)
        self.result.eval_metrics = trainer.measure_before(model)

        metrics = MetricsCallback(self.run_directory, self._tell)
        control = ControlCallback(self.run_directory)
        trl_trainer = self._build(trainer, model, schedule, metrics, control)
        self._train(trl_trainer, metrics, control)
        if self.result.status == "stopped":
            return

        model = trl_trainer.accelerator.unwrap_model(
            trl_trainer.model, keep_fp32_wrapper=False
        )
        self._enter("evaluating", "the held-out rows")
        self.result.eval_metrics |= trainer.measure(trl_trainer, model)
        self._save(trainer, model)
        probes = trainer.probes()
        self._enter("checking the saved model", "in a fresh process")
        from training.core.reload_check import check_reload, outputs

        live = outputs(model, probes)
        # Room for the second copy on the device.
        del model, trl_trainer, metrics, control
        gc.collect()
        if device.kind == "cuda":
            torch.cuda.empty_cache()
        self.result.reload_check = check_reload(
            live,
            probes,
            final=self.run_directory.final,
            base=base,
            task=trainer.task,
            dtype=dtype,
            device=device.kind,
        )
        self._tell("reload_verified", "the saved model does as the live one did")
        self.result.status = "completed"

    def _job(self, base: Path, device: Any) -> Job:
        from training.core import models
        from training.core.data.tokens import Encoder
        from training.core.trainers.base import Job

        positions = models.position_limit(base)
        tokenizer = models.load_tokenizer(base)
        limit = self.config.max_length or min(1024, positions or 1024)
        self.config = RLHFConfig.from_dict(
            {**self.config.to_dict(), "max_length": limit}
        )
        return Job(
            config=self.config,
            run=self.run_directory,
            device=device,
            tokenizer=tokenizer,
            encoder=Encoder(tokenizer),
            max_length=limit,
            positions=positions,
        )

    def _read(self, trainer: BaseTrainer) -> Schedule:
        from training.core.data.loaders import load_source
        from training.core.trainers.base import plan

        self._enter("reading data", self.config.dataset_path)
        rows = trainer.read(load_source(self.config))
        ledgers = trainer.ledgers
        self.result.ledger = ledgers.to_dict()
        self.result.data = f"{ledgers.source}; {ledgers.columns.describe()}"
        schedule = plan(self.config, rows)
        self.result.max_steps = schedule.max_steps
        self._tell(
            "data_ready",
            f"{self.result.data}; train: {ledgers.train.describe()}; "
            f"eval: {ledgers.eval.describe()}",
            ledger=self.result.ledger,
            max_steps=schedule.max_steps,
        )
        return schedule

    def _build(
        self,
        trainer: BaseTrainer,
        model: Any,
        schedule: Schedule,
        metrics: MetricsCallback,
        control: ControlCallback,
    ) -> Any:
        from transformers import PrinterCallback

        from training.core.callbacks import CheckpointCallback, SampleCallback
        from training.core.trainers.base import common_arguments

        callbacks: list[Any] = [
            metrics,
            control,
            CheckpointCallback(self.run_directory, self._tell),
        ]
        if trainer.sample_prompts:
            callbacks.append(
                SampleCallback(
                    self.run_directory,
                    trainer.sample_prompts,
                    trainer.job.tokenizer,
                    self.config.sample_max_new_tokens,
                    schedule.evaluate,
                )
            )
        arguments = common_arguments(
            trainer.job,
            schedule,
            evaluates=trainer.ledgers.eval.kept > 0,
            resumes=self.resume_from is not None,
        )
        built = trainer.build(model, arguments, callbacks)
        built.remove_callback(PrinterCallback)
        self.result.trainable_parameters = _count(built.model, trainable=True)
        self.result.total_parameters = _count(built.model, trainable=False)
        return built

    def _train(
        self, trainer: Any, metrics: MetricsCallback, control: ControlCallback
    ) -> None:
        result = self.result
        self._enter("training", f"{result.max_steps} steps")
        if self.resume_from:
            self._tell("resumed", f"going on from {self.resume_from.name}")
        started = datetime.now(UTC)
        resume = str(self.resume_from) if self.resume_from else None
        try:
            trainer.train(resume_from_checkpoint=resume)
        finally:
            self._record(trainer, metrics, started)
        best = trainer.state.best_model_checkpoint
        if best and Path(best).is_dir():
            result.best_checkpoint_path = best
        if control.stopped:
            result.status = "stopped"
            newest = self.run_directory.newest_valid_checkpoint()
            result.final_checkpoint_path = str(newest) if newest else None

    def _record(
        self, trainer: Any, metrics: MetricsCallback, started: datetime
    ) -> None:
        """What training did, also where it did not reach its end."""
        from training.core.device import peak_gpu_memory_gb, peak_memory_gb

        result, last = self.result, metrics.last
        result.metrics = dict(last)
        result.total_steps = trainer.state.global_step
        result.final_loss = last.get("loss")
        result.best_loss = metrics.best_eval_loss
        result.final_learning_rate = last.get("learning_rate")
        result.tokens = int(last["num_tokens"]) if "num_tokens" in last else None
        result.peak_memory_gb = peak_memory_gb()
        result.peak_gpu_memory_gb = peak_gpu_memory_gb()
        if result.peak_gpu_memory_gb is not None:
            hours = (datetime.now(UTC) - started).total_seconds() / 3600
            result.total_gpu_hours = hours * trainer.accelerator.num_processes

    def _save(self, trainer: BaseTrainer, model: Any) -> None:
        from training.core.model_card import model_card

        final = self.run_directory.final
        self._enter("saving", "the model")
        model.save_pretrained(final)
        trainer.job.tokenizer.save_pretrained(final)
        self._name_base(final / "adapter_config.json")
        settings = self._portable(self.config)
        write_json(final / "rlhf_config.json", settings.to_dict())
        card = model_card(settings, self.result)
        (final / "README.md").write_text(card, encoding="utf-8")
        self.result.final_checkpoint_path = str(final)

    def _name_base(self, adapter_config: Path) -> None:
        """Let an adapter name its base as the configuration does, where that is a hub
        id, and not by the folder of this machine's cache."""
        from training.core.locations import local_path

        if adapter_config.exists() and local_path(self.config.base_model) is None:
            values = json.loads(adapter_config.read_text(encoding="utf-8"))
            base, _, revision = self.config.base_model.partition("@")
            values["base_model_name_or_path"] = base
            values["revision"] = revision or values.get("revision")
            write_json(adapter_config, values)

    def _finish(self) -> None:
        self.result.end_time = datetime.now(UTC)
        status = self.result.status
        self._tell(status, f"{status} at step {self.result.total_steps}")
        self.run_directory.write_result(self.result.to_run_dict())

    def _failed(self, error: Exception) -> RLHFError:
        from training.core.failures import classify, describe

        known = classify(error, self.phase)
        self._remove_half_checkpoints()
        result = self.result
        result.status = "failed"
        result.error = describe(error, known, self.phase, result.total_steps)
        result.final_checkpoint_path = None
        try:
            self._tell("failed", known.format(), code=known.code)
            result.end_time = datetime.now(UTC)
            self.run_directory.write_result(result.to_run_dict())
        except OSError as second:
            # A full disk: the exit code and the log are all that is left to tell by.
            logger.error("result.json could not be written: %s", second)
        return known

    def _remove_half_checkpoints(self) -> None:
        """On a full disk this makes the room that the result needs."""
        for folder in self.run_directory.checkpoints.glob("checkpoint-*"):
            if read_valid_manifest(folder) is None:
                shutil.rmtree(folder, ignore_errors=True)

    def _enter(self, phase: str, detail: str) -> None:
        self.phase = phase
        self._tell("phase", phase, detail=detail)

    def _tell(self, kind: str, message: str, **details: object) -> None:
        self.run_directory.append_event(kind, message, **details)
        detail = details.get("detail")
        logger.info("%s: %s%s", kind, message, f", {detail}" if detail else "")

    def _portable(self, config: RLHFConfig) -> RLHFConfig:
        """The configuration with paths inside the run directory relative to it."""
        # Not resolved: inputs may be links to folders elsewhere.
        root = self.run_directory.path.absolute()
        values = config.to_dict()
        for name in ("base_model", "dataset_path", "eval_dataset_path", "output_dir"):
            path = Path(values[name] or "").absolute()
            if values[name] and path.is_relative_to(root):
                values[name] = path.relative_to(root).as_posix()
        return RLHFConfig.from_dict(values)


def _count(model: Any, *, trainable: bool) -> int:
    return sum(
        parameter.numel()
        for parameter in model.parameters()
        if parameter.requires_grad or not trainable
    )


def _versions() -> dict[str, str]:
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return {"python": platform.python_version(), **versions}
