"""One attempt: `python -m training.core.run DIR [--resume-from CHECKPOINT]`.

DIR holds config.json, whose paths are relative to DIR, and gets everything else. Exits
with 0 when the run completed or was stopped, with 1 when it failed; result.json says
which. SIGINT and SIGTERM stop the run as a supervisor would, with a checkpoint.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from pathlib import Path
from types import FrameType

from training.core.config import RLHFConfig
from training.core.errors import RLHFConfigurationError, RLHFError
from training.core.process import die_with_parent, prepare_environment
from training.core.run_directory import RunDirectory
from training.core.runner import RLHFJobRunner

# Names in config.json that are files of the run directory, there or not.
_OWN_FOLDERS = ("data", "inputs")


def main(arguments: list[str] | None = None) -> int:
    """Run one attempt; return the exit status."""
    die_with_parent()
    prepare_environment()
    parser = argparse.ArgumentParser(prog="python -m training.core.run")
    parser.add_argument("directory", type=Path, metavar="DIR")
    parser.add_argument("--resume-from", type=Path, metavar="CHECKPOINT")
    options = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr
    )
    for noisy in ("httpx", "datasets", "transformers", "trl"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    run = RunDirectory(options.directory.resolve())
    try:
        config = anchored(RLHFConfig.from_file(run.config), run)
    except RLHFConfigurationError as error:
        return _refuse(run, error)
    _stop_on_signals(run)
    try:
        RLHFJobRunner(config, resume_from=options.resume_from).run()
    except RLHFError as error:
        logging.getLogger("training.core").error("%s", error)
        return 1
    return 0


def anchored(config: RLHFConfig, run: RunDirectory) -> RLHFConfig:
    """The configuration with its relative paths taken from the run directory.

    Raises:
        RLHFConfigurationError: RLHF004, where output_dir is another directory.
    """
    values = config.to_dict()
    if (run.path / values["output_dir"]).resolve() != run.path.resolve():
        raise RLHFConfigurationError(
            f"output_dir {values['output_dir']} is not the run directory: write '.'.",
            code="RLHF004",
        )
    values["output_dir"] = str(run.path)
    for name in ("base_model", "dataset_path", "eval_dataset_path"):
        value = values[name]
        if not value or Path(value).is_absolute():
            continue
        path = run.path / value
        # What is not there is a hub id, unless it names our own folders.
        if path.exists() or Path(value).parts[0] in (*_OWN_FOLDERS, "..", "."):
            values[name] = str(path)
    return RLHFConfig.from_dict(values)


def _refuse(run: RunDirectory, error: RLHFConfigurationError) -> int:
    """Record a configuration that cannot be run, where there is a directory for it."""
    logging.getLogger("training.core").error("%s", error)
    if run.path.is_dir() and not run.result.exists():
        run.write_result(
            {
                "status": "failed",
                "error": {
                    "code": error.code,
                    "class": type(error).__name__,
                    "message": error.message,
                    "where": "starting, step 0",
                    "lines": [],
                },
            }
        )
    return 1


def _stop_on_signals(run: RunDirectory) -> None:
    def ask_to_stop(number: int, frame: FrameType | None) -> None:
        # A second signal does what it always does.
        signal.signal(number, signal.SIG_DFL)
        run.write_control("stop")

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask_to_stop)


if __name__ == "__main__":
    sys.exit(main())
