"""The site's own settings, with a trainer that costs nothing; for real processes."""

from __future__ import annotations

import sys
from pathlib import Path

from labelhub.settings import *  # noqa: F403

TRAINER_COMMAND = [sys.executable, str(Path(__file__).with_name("fake_trainer.py"))]
