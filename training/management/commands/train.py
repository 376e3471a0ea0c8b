"""manage.py train SPEC: queue a training run, or train in this terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from django.core.management.base import BaseCommand, CommandError, CommandParser

from labelhub.management.projects import project_named
from training import failures, foreground, runs
from training.core.config import RLHFConfig, read_values
from training.core.errors import RLHFConfigurationError
from training.core.run_directory import RunDirectory, write_json

_PATHS = ("base_model", "reward_model", "dataset_path", "eval_dataset_path")


class Command(BaseCommand):
    help = "Queue a training run of a project, or train now in this terminal."

    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("spec", type=Path, help=".yaml or .json")
        parser.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="another value, as in --set peft.r=16",
        )
        parser.add_argument(
            "--now", action="store_true", help="in this terminal; needs no database"
        )
        parser.add_argument("--project", help="whose run it is, when queued")
        parser.add_argument("--json", action="store_true", help="print the outcome")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            values = _values(options["spec"], options["set"])
            if options["now"]:
                values.pop("project", None)
                self._train(RLHFConfig.from_dict(values), as_json=options["json"])
            else:
                self._queue(values, options["project"], as_json=options["json"])
        except (RLHFConfigurationError, runs.RunRefused) as error:
            raise CommandError(str(error)) from None

    # --- Queued ---

    def _queue(self, values: dict[str, Any], project: str, *, as_json: bool) -> None:
        named = project or values.get("project")
        if not named:
            raise CommandError(
                "A queued run belongs to a project: name it with --project, or train "
                "in this terminal with --now."
            )
        config = {k: v for k, v in values.items() if k not in ("project", "job_name")}
        run = runs.launch(
            project_named(named),
            actor=None,
            name=str(values.get("job_name", "")),
            config=config,
        )
        if as_json:
            self.stdout.write(json.dumps({"run": run.pk, "state": run.state}))
        else:
            self.stdout.write(f"Run {run.pk} ({run.name}) is queued.")

    # --- In this terminal ---

    def _train(self, config: RLHFConfig, *, as_json: bool) -> None:
        directory = _make_directory(config)
        bar = foreground.ProgressBar(self.stderr)
        result = foreground.train(directory, bar.show)
        bar.clear()
        if result is None:
            error = failures.explain(
                directory, None, phase="", step=0, out_of_memory=False
            )
            raise CommandError(f"{error['message']} The log is {directory.log}.")
        if as_json:
            self.stdout.write(json.dumps(result, allow_nan=False))
        if result["status"] == "failed":
            error = failures.told(result["error"])
            raise CommandError(
                f"[{error['code']}] {error['message']} ({error['where']}) "
                f"The log is {directory.log}."
            )
        if not as_json:
            self.stdout.write("\n".join(summary(result, directory)))


def summary(result: dict[str, Any], directory: RunDirectory) -> list[str]:
    """What a person wants to know first: how far, how good, against what, where."""
    saved = result.get("final_checkpoint_path")
    loss = result.get("final_loss")
    lines = [
        f"{result['status']} after {result.get('total_steps', 0)} of "
        f"{result.get('max_steps', 0)} steps, {result.get('duration_seconds', 0):.0f} s"
        + ("" if loss is None else f", final loss {_number(loss)}")
    ]
    measured = result.get("eval_metrics") or {}
    lines += [
        f"  {name.replace('_', ' '):<28} {_number(value)}{_interval(measured, name)}"
        for name, value in measured.items()
        if not name.endswith(("_low", "_high"))
    ]
    if not measured:
        lines.append("  nothing was held out, so nothing was measured")
    if saved:
        lines.append(f"{directory.path / saved}")
    return lines


def _interval(measured: dict[str, Any], name: str) -> str:
    low, high = measured.get(f"{name}_low"), measured.get(f"{name}_high")
    if low is None or high is None:
        return ""
    return f"  (95 %: {_number(low)} to {_number(high)})"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _values(spec: Path, changes: list[str]) -> dict[str, Any]:
    if spec.suffix.lower() == ".ai":
        raise CommandError(
            f"{spec}: N3 files cannot be read yet. Write the job as .yaml or .json."
        )
    values = dict(read_values(spec))
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals or not key:
            raise CommandError(f"--set {change!r} is not of the form KEY=VALUE.")
        _put(values, key, yaml.safe_load(text))
    return values


def _put(values: dict[str, Any], key: str, value: object) -> None:
    """Set a dotted key; the parts on the way are made where they are missing."""
    *parts, last = key.split(".")
    for part in parts:
        inner = values.get(part)
        values[part] = dict(inner) if isinstance(inner, dict) else {}
        values = values[part]
    values[last] = value


def _make_directory(config: RLHFConfig) -> RunDirectory:
    directory = RunDirectory(Path(config.output_dir).absolute())
    if directory.config.exists() or directory.result.exists():
        raise CommandError(
            f"{directory.path} holds a run already: choose another output_dir."
        )
    values = {**config.to_dict(), "output_dir": "."}
    for name in _PATHS:
        # Named from here, read from there. What is not here is a hub id.
        if values.get(name) and Path(values[name]).expanduser().exists():
            values[name] = str(Path(values[name]).expanduser().absolute())
    try:
        directory.path.mkdir(parents=True, exist_ok=True)
        write_json(directory.config, values)
    except OSError as error:
        raise CommandError(
            f"{directory.path} cannot be written: {(error.strerror or '').lower()}."
        ) from None
    return directory
