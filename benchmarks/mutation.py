"""An error that leaves every count right, as a change to the source."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Edit:
    """One place of the source, and what stands there instead."""

    path: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutation:
    """One error. `wrong` says what it would do to somebody's data or model."""

    name: str
    wrong: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]
    """Where it is most likely noticed: these run before everything else."""


class Outdated(Exception):
    """The text to be changed is not in the source, or there more than once."""


def mutated(mutation: Mutation, root: Path = ROOT) -> dict[str, str]:
    """The new text of each file that the mutation changes, by path."""
    texts: dict[str, str] = {}
    for edit in mutation.edits:
        text = texts.get(edit.path) or (root / edit.path).read_text(encoding="utf-8")
        if (found := text.count(edit.old)) != 1:
            raise Outdated(
                f"{mutation.name}: {edit.path} holds {edit.old!r} {found} times, not "
                "once. Mend it under benchmarks/, so that it makes the same error "
                "in the new source."
            )
        texts[edit.path] = text.replace(edit.old, edit.new)
    return texts


def one(name: str, wrong: str, path: str, old: str, new: str, *tests: str) -> Mutation:
    return Mutation(name, wrong, (Edit(path, old, new),), tests)
