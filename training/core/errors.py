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
    "RLHF054": ErrorCode(
        RLHFConfigurationError,
        "The configuration file is missing, or is not valid YAML or JSON.",
        "Check the path, or the line that the message names.",
    ),
}
