"""Reading the keys and values of a configuration file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.core.errors import RLHFConfigurationError


def read_values(path: Path) -> Mapping[str, Any]:
    """The top-level mapping of a .yaml, .yml or .json file.

    Raises:
        RLHFConfigurationError: RLHF054, with the line where it cannot be understood.
    """
    # Imported here: half of the module's import time, and only files need it.
    import yaml

    suffix = path.suffix.lower()
    if suffix not in (".yaml", ".yml", ".json"):
        raise _file_error(path, "is not a .yaml, .yml or .json file")
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if suffix == ".json" else yaml.safe_load(text)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise _file_error(path, f"cannot be read: {reason}") from error
    except (ValueError, yaml.YAMLError) as error:
        raise _file_error(path, f"cannot be understood: {error}") from error
    if not isinstance(values, Mapping):
        raise _file_error(path, "holds no keys with values")
    return values


def _file_error(path: Path, reason: str) -> RLHFConfigurationError:
    return RLHFConfigurationError(f"{path} {reason}.", code="RLHF054")
