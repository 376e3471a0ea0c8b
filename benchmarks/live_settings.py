"""The site's own settings, with a trainer that only reports; for the benchmarks."""

from __future__ import annotations

import sys
from pathlib import Path

from labelhub.settings import *  # noqa: F403

TRAINER_COMMAND = [sys.executable, str(Path(__file__).with_name("live_trainer.py"))]
