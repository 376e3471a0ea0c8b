"""How a person likes to read while judging. Kept with the person, on every machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from django.db import transaction

from labelhub.models import User


class Preference(NamedTuple):
    """One question with few answers; the first is what holds until one is chosen."""

    name: str
    label: str
    choices: dict[str, str]
    key: str = ""
    """Goes on to the next choice."""
    is_of_pairs: bool = False


PREFERENCES = (
    Preference(
        "layout",
        "Responses",
        {"side": "Side by side", "stacked": "Stacked", "tabs": "Tabs"},
        key="v",
        is_of_pairs=True,
    ),
    Preference(
        "differences",
        "Words that differ",
        {"off": "Not marked", "on": "Marked"},
        key="d",
        is_of_pairs=True,
    ),
    Preference(
        "text", "Text", {"formatted": "Formatted", "written": "As written"}, key="r"
    ),
    Preference(
        "size", "Size", {"normal": "Normal", "large": "Large", "larger": "Larger"}
    ),
    Preference("keys", "Keys of one character", {"on": "On", "off": "Off"}),
)


class UnknownPreference(ValueError):
    """The sentence is meant for the person who sent it."""


def preferences_of(user: User) -> dict[str, str]:
    """What holds for this person, by name."""
    return {
        preference.name: _in_force(preference, user.preferences)
        for preference in PREFERENCES
    }


def _in_force(preference: Preference, chosen: Mapping[str, str]) -> str:
    value = chosen.get(preference.name)
    # A choice of an earlier version may be gone.
    return value if value in preference.choices else next(iter(preference.choices))


def questions(user: User, *, is_pairwise: bool) -> list[dict[str, Any]]:
    """The preferences as the page asks them, with the choice that each key makes."""
    return [
        {
            "name": preference.name,
            "label": preference.label,
            "key": preference.key,
            "options": _options(preference, user),
        }
        for preference in PREFERENCES
        if is_pairwise or not preference.is_of_pairs
    ]


def _options(preference: Preference, user: User) -> list[dict[str, Any]]:
    values = list(preference.choices)
    now = values.index(_in_force(preference, user.preferences))
    following = values[(now + 1) % len(values)]
    return [
        {
            "value": value,
            "label": label,
            "is_now": value == values[now],
            "is_next": value == following,
        }
        for value, label in preference.choices.items()
    ]


def choose(user: User, sent: Mapping[str, str]) -> None:
    """Remember what was sent; what was not stays as it is."""
    chosen = {}
    for preference in PREFERENCES:
        value = sent.get(preference.name)
        if value is None:
            continue
        if value not in preference.choices:
            raise UnknownPreference(
                f"“{value}” is no choice for {preference.name}; choose one of"
                f" {', '.join(preference.choices)}."
            )
        chosen[preference.name] = value
    with transaction.atomic():
        person = User.objects.select_for_update().get(pk=user.pk)
        person.preferences |= chosen
        person.save(update_fields=["preferences"])
