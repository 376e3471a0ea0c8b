"""Every error that `mutate_meaning.py` makes to see whether a test notices.

tests/test_mutations.py sees to it that they keep up with the source.
"""

from __future__ import annotations

from benchmarks.mutations_of_core import MEASURED, READ, TRAINED
from benchmarks.mutations_of_site import FROZEN, JUDGED

MUTATIONS = (*JUDGED, *FROZEN, *READ, *TRAINED, *MEASURED)
