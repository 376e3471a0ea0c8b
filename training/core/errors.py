"""What can go wrong in a training job: a stable code, a meaning and a way out for each.

Codes RLHF001 to RLHF053 keep the meanings they were published with. The table holds
only codes that this version can raise: a code is added in the commit that raises it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


class RLHFError(Exception):
    """Base of every error that a training job reports on purpose.

    >>> print(RLHFError("No rows.", code="RLHF023", context={"rows": 0}))
    [RLHF023] No rows. Context: rows=0
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        context: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.context = dict(context or {})

    def format(self) -> str:
        """One line: the code, the sentence, and the values it is about."""
        line = f"[{self.code}] {self.message}"
        if self.context:
            pairs = ", ".join(f"{key}={value}" for key, value in self.context.items())
            line = f"{line} Context: {pairs}"
        return line

    def __str__(self) -> str:
        return self.format()


class RLHFConfigurationError(RLHFError):
    """The configuration cannot be run as it is written."""


class RLHFTrainingError(RLHFError):
    """Training started and could not go on."""


class RLHFDatasetError(RLHFError):
    """The data cannot be found, read or trained on."""


class RLHFModelError(RLHFError):
    """The model or its tokenizer cannot be loaded or used for this job."""


class RLHFEvaluationError(RLHFError):
    """A measurement could not be made, or did not hold."""


class RLHFStorageError(RLHFError):
    """Files of the run cannot be written or are not what was written."""


@dataclass(frozen=True)
class ErrorCode:
    """A row of the error table: what a code means and what a person can do."""

    raised_as: type[RLHFError]
    meaning: str
    remedy: str


ERROR_CODES: dict[str, ErrorCode] = {
    "RLHF001": ErrorCode(
        RLHFConfigurationError,
        "A required field is missing.",
        "Add the field that the message names.",
    ),
    "RLHF002": ErrorCode(
        RLHFConfigurationError,
        "The algorithm or tuning method is unknown, or this version cannot run it.",
        "Choose one of those that the message lists.",
    ),
    "RLHF003": ErrorCode(
        RLHFConfigurationError,
        "A key is unknown, or a value is of the wrong type or out of range.",
        "Correct it; the message gives the nearest right key, or the range.",
    ),
    "RLHF004": ErrorCode(
        RLHFConfigurationError,
        "Two options exclude each other, or one would have no effect.",
        "Remove one of the two that the message names.",
    ),
    "RLHF010": ErrorCode(
        RLHFTrainingError,
        "Training diverged: a loss or a gradient is no number.",
        "Lower learning_rate or max_grad_norm, or look for broken rows.",
    ),
    "RLHF011": ErrorCode(
        RLHFTrainingError,
        "The device ran out of memory.",
        "Lower per_device_batch_size and raise gradient_accumulation_steps by as much, "
        "or lower max_length.",
    ),
    "RLHF012": ErrorCode(
        RLHFTrainingError,
        "A checkpoint or the final model could not be written.",
        "Make room on the disk, then resume from the last checkpoint.",
    ),
    "RLHF013": ErrorCode(
        RLHFModelError,
        "The files of the model are damaged, or are not safetensors.",
        "Download the model again, or convert its weights to safetensors.",
    ),
    "RLHF020": ErrorCode(
        RLHFDatasetError,
        "The data, or a split of it, is not there or cannot be read.",
        "Check the path or hub id and the split; the message lists what is there.",
    ),
    "RLHF021": ErrorCode(
        RLHFDatasetError,
        "The data is in a format that is not read.",
        "Convert it to Parquet, JSON Lines, JSON or CSV.",
    ),
    "RLHF022": ErrorCode(
        RLHFDatasetError,
        "Columns that the algorithm needs are not there.",
        "Rename them, or map them under columns.",
    ),
    "RLHF023": ErrorCode(
        RLHFDatasetError,
        "No row is left to train on.",
        "The message says what became of the rows.",
    ),
    "RLHF024": ErrorCode(
        RLHFDatasetError,
        "A data file is damaged.",
        "Mend the line that the message names, or write the file again.",
    ),
    "RLHF025": ErrorCode(
        RLHFDatasetError,
        "A label says neither good nor bad.",
        "Use true and false in the label column.",
    ),
    "RLHF030": ErrorCode(
        RLHFModelError,
        "There is no such model.",
        "Check the path or the hub id and revision.",
    ),
    "RLHF031": ErrorCode(
        RLHFModelError,
        "The model is of a kind that cannot be used for this job.",
        "Choose a causal language model, or the algorithm that fits the model.",
    ),
    "RLHF033": ErrorCode(
        RLHFModelError,
        "The tokenizer does not fit the model or the data.",
        "Use the model's own tokenizer, with a chat template for conversations.",
    ),
    "RLHF041": ErrorCode(
        RLHFEvaluationError,
        "A measurement on held-out rows is no number.",
        "The model is broken, most often by divergence: lower learning_rate.",
    ),
    "RLHF051": ErrorCode(
        RLHFStorageError,
        "The run directory cannot be written, or holds a finished run.",
        "Choose another output_dir.",
    ),
    "RLHF053": ErrorCode(
        RLHFStorageError,
        "A checkpoint is not what was written.",
        "Resume from an older checkpoint, or start again.",
    ),
    "RLHF054": ErrorCode(
        RLHFConfigurationError,
        "The configuration file is missing, or is not valid YAML or JSON.",
        "Check the path, or the line that the message names.",
    ),
    "RLHF055": ErrorCode(
        RLHFTrainingError,
        "The job met an error that has no code of its own.",
        "The message names it, and the log has its traceback: please report it.",
    ),
    "RLHF056": ErrorCode(
        RLHFDatasetError,
        "Rows disappeared between reading and training.",
        "This is a fault of the program: please report it with the ledger.",
    ),
    "RLHF057": ErrorCode(
        RLHFEvaluationError,
        "The saved model, loaded again, does not do as the live one did.",
        "Do not use it. This is a fault of the program: please report it.",
    ),
}
