"""Training from human feedback, as a plain library: no Django, no database.

Names are resolved when first asked for, because a web process imports the
configuration and the errors and must not pay for torch (1.1 s and 200 MB).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.core.config import (
        DPOConfig,
        ExperimentTracker,
        LoggingConfig,
        LRScheduler,
        PEFTConfig,
        PEFTMethod,
        Precision,
        RLHFAlgorithm,
        RLHFConfig,
    )
    from training.core.errors import (
        ERROR_CODES,
        RLHFConfigurationError,
        RLHFDatasetError,
        RLHFError,
        RLHFEvaluationError,
        RLHFModelError,
        RLHFStorageError,
        RLHFTrainingError,
    )
    from training.core.result import RLHFJobResult
    from training.core.run_directory import RunDirectory
    from training.core.runner import RLHFJobRunner
    from training.core.trainers import get_trainer_class

_MODULE_OF = {
    "DPOConfig": "config",
    "ERROR_CODES": "errors",
    "ExperimentTracker": "config",
    "LRScheduler": "config",
    "LoggingConfig": "config",
    "PEFTConfig": "config",
    "PEFTMethod": "config",
    "Precision": "config",
    "RLHFAlgorithm": "config",
    "RLHFConfig": "config",
    "RLHFConfigurationError": "errors",
    "RLHFDatasetError": "errors",
    "RLHFError": "errors",
    "RLHFEvaluationError": "errors",
    "RLHFJobResult": "result",
    "RLHFJobRunner": "runner",
    "RLHFModelError": "errors",
    "RLHFStorageError": "errors",
    "RLHFTrainingError": "errors",
    "RunDirectory": "run_directory",
    "get_trainer_class": "trainers",
}

__all__ = [
    "ERROR_CODES",
    "DPOConfig",
    "ExperimentTracker",
    "LRScheduler",
    "LoggingConfig",
    "PEFTConfig",
    "PEFTMethod",
    "Precision",
    "RLHFAlgorithm",
    "RLHFConfig",
    "RLHFConfigurationError",
    "RLHFDatasetError",
    "RLHFError",
    "RLHFEvaluationError",
    "RLHFJobResult",
    "RLHFJobRunner",
    "RLHFModelError",
    "RLHFStorageError",
    "RLHFTrainingError",
    "RunDirectory",
    "get_trainer_class",
]


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
