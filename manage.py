#!/usr/bin/env python
"""Django's command line for LabelHub."""

from __future__ import annotations

import os
import sys

from django.core.management import execute_from_command_line

# The guard matters: a child process started by multiprocessing imports this file again.
if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "labelhub.settings")
    execute_from_command_line(sys.argv)
