"""What judgments are worth: pure functions, arrays in, numbers with intervals out."""

from __future__ import annotations
