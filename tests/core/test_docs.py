"""What docs/ says about the training core is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from training.core.config import RLHFConfig
from training.core.data.ledger import NOTES, REASONS
from training.core.errors import ERROR_CODES
from training.core.run_directory import RunDirectory

DOCS = Path(__file__).parents[2] / "docs"


def errors_page():
    lines = [
        "# Errors of training jobs",
        "",
        "Each has a stable code. The message of a failed run names the value that is "
        "wrong; this page says what the code means.",
        "",
        "| code | raised as | meaning | what to do |",
        "|---|---|---|---|",
    ]
    for code, error in ERROR_CODES.items():
        name = error.raised_as.__name__
        lines.append(f"| {code} | `{name}` | {error.meaning} | {error.remedy} |")
    return "\n".join(lines) + "\n"


def test_the_page_of_errors_is_the_table():
    # To write it anew: python -m tests.core.test_docs
    assert (DOCS / "errors.md").read_text() == errors_page()


def test_codes_are_in_order_and_mean_something():
    assert list(ERROR_CODES) == sorted(ERROR_CODES)
    for error in ERROR_CODES.values():
        assert error.meaning.endswith(".")
        assert error.remedy.endswith(".")


def test_the_page_of_the_core_names_what_there_is():
    page = (DOCS / "training-core.md").read_text()
    run = RunDirectory("")
    for name in vars(RunDirectory):
        if isinstance(getattr(RunDirectory, name), property):
            assert f"`{getattr(run, name)}" in page, name
    for reason in [*REASONS, *NOTES]:
        assert f"`{reason}`" in page, reason


def test_its_example_of_a_library_can_be_built():
    page = (DOCS / "training-core.md").read_text()
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL).group(1)
    lines = [line for line in code.splitlines() if ".run()" not in line]
    names = {}
    exec("\n".join(line for line in lines if "result" not in line), names)
    assert isinstance(names["config"], RLHFConfig)


@pytest.mark.slow
def test_every_metric_of_a_run_is_explained(trained):
    page = (DOCS / "training-core.md").read_text()
    for algorithm, method in [
        ("sft", "full"),
        ("reward_model", "lora"),
        ("dpo", "full"),
    ]:
        _, result, run = trained(algorithm, method)
        logged = {name for line, _ in run.iter_metrics() for name in line}
        names = {name.removeprefix("eval_") for name in logged - {"step", "time"}}
        for name in names | set(result.eval_metrics):
            assert f"`{name}`" in page, name


if __name__ == "__main__":
    (DOCS / "errors.md").write_text(errors_page())
