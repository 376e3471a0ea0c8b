"""One file a format, the more particular first: the first that fits is taken."""

from __future__ import annotations

from labelhub.importing.formats import (
    demonstrations,
    labelhub,
    labelled,
    preference,
    responses,
    vicuna,
)

FORMATS = (
    *vicuna.FORMATS,
    *preference.FORMATS,
    *labelled.FORMATS,
    *responses.FORMATS,
    *labelhub.FORMATS,
    *demonstrations.FORMATS,
)
NAMES = tuple(dict.fromkeys(known.name for known in FORMATS))
TARGETS = tuple(
    sorted({name for known in FORMATS for name in known.columns | known.optional})
)
"""What --map may rename a column to."""
