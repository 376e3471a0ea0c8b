"""Numbers as people read them."""

from __future__ import annotations

from datetime import datetime, timedelta

from django import template
from django.utils import timezone

register = template.Library()


@register.filter
def duration(seconds: float | timedelta | None) -> str:
    """A stretch of time in its two greatest units.

    >>> [duration(s) for s in (None, 0.4, 59, 61, 3600, 90061)]
    ['', '0 s', '59 s', '1 min 1 s', '1 h', '1 d 1 h']
    """
    if seconds is None:
        return ""
    if isinstance(seconds, timedelta):
        seconds = seconds.total_seconds()
    rest = max(0, round(seconds))
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count or parts:
            parts.append(f"{count} {unit}" if count else "")
        if len(parts) == 2:
            break
    return " ".join(part for part in parts if part) or "0 s"


@register.filter
def until(start: datetime | None, end: datetime | None) -> str:
    """How long from one time to the other, or to now."""
    return duration((end or timezone.now()) - start) if start else ""


@register.filter
def percent(share: float | None) -> str:
    """A share of one as a percentage.

    >>> percent(0.6843), percent(None)
    ('68.4%', '')
    """
    return "" if share is None else f"{100 * share:.1f}%"


@register.filter
def brief(number: float | None) -> str:
    """A number at four digits, whatever its size.

    >>> [brief(x) for x in (None, 0.0123456, 12345.6, 2e-06, 12)]
    ['', '0.01235', '12,346', '2e-06', '12']
    """
    if number is None:
        return ""
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.4g}"


@register.filter
def words(name: str) -> str:
    """A name of the code as words.

    >>> words("prompt_too_long")
    'prompt too long'
    """
    return name.replace("_", " ")


@register.filter
def algorithm(name: str) -> str:
    """An algorithm as people write it.

    >>> algorithm("dpo"), algorithm("reward_model")
    ('DPO', 'Reward model')
    """
    return name.replace("_", " ").capitalize() if "_" in name else name.upper()
