"""The examples in docstrings are true."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest
from django.conf import settings

MODULES = sorted(
    ".".join(path.relative_to(settings.BASE_DIR).with_suffix("").parts)
    for package in ("labelhub", "training")
    for path in Path(settings.BASE_DIR, package).rglob("*.py")
    if ">>> " in path.read_text()
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_are_true(name):
    done = doctest.testmod(importlib.import_module(name))
    assert done.attempted
    assert not done.failed
