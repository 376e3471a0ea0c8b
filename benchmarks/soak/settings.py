"""The site's own settings, with a trainer that says which slot it works on."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from labelhub.settings import *  # noqa: F403
from labelhub.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "benchmarks.soak.pace.Pace"]
TRAINER_COMMAND = [
    sys.executable,
    str(Path(__file__).with_name("trainer.py")),
    os.environ.get("SOAK_TRAINER", "fake"),
]
