"""Files of prompts, responses and verdicts -> rows, in two passes.

Pass 1 (`checking`) reads everything and writes nothing; pass 2 (`writing`) writes short
transactions that may be cut off anywhere and run again. A format is one file in
`formats/`.
"""

from __future__ import annotations

from labelhub.importing.options import ImportOptions, ImportRefused, parse_map
from labelhub.importing.removing import remove_import
from labelhub.importing.running import (
    check_files,
    import_files,
    offer_upload,
    ring,
    run_batch,
    start,
)

__all__ = [
    "ImportOptions",
    "ImportRefused",
    "check_files",
    "import_files",
    "offer_upload",
    "parse_map",
    "remove_import",
    "ring",
    "run_batch",
    "start",
]
