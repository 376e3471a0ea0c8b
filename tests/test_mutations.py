"""The list of errors that must be noticed keeps up with the source."""

from __future__ import annotations

import ast

import pytest

from benchmarks.mutation import ROOT, mutated
from benchmarks.mutations import MUTATIONS


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_every_error_can_still_be_made(mutation):
    """It raises Outdated where the text is gone, or there twice."""
    for path, text in mutated(mutation).items():
        compile(text, path, "exec")
        assert ast.dump(ast.parse(text)) != ast.dump(
            ast.parse((ROOT / path).read_text())
        )


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_the_tests_that_are_to_notice_it_exist(mutation):
    assert mutation.tests
    for test in mutation.tests:
        path, _, name = test.partition("::")
        assert f"def {name}" in (ROOT / path).read_text()


def test_every_error_has_a_name_of_its_own():
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)
