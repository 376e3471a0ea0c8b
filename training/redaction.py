"""What must not be written down: tokens of hubs, trackers and stores."""

from __future__ import annotations

import re
from typing import Any

# The first group, where there is one, is what may stay.
_TOKENS = re.compile(
    r"(?i:(authorization:\s*(?:bearer|basic|token)\s+))[^\s\"']+"
    r"|\bhf_[A-Za-z0-9]{10,}"
    r"|\bsk-[A-Za-z0-9_-]{16,}"
    r"|\b(?:ghp|gho|ghs|github_pat)_[A-Za-z0-9_]{20,}"
    r"|\bAKIA[0-9A-Z]{16}\b"
    r"|\bxox[abp]-[A-Za-z0-9-]{10,}"
    r"|(?<=://)[^\s/:@\"']+:[^\s/@\"']+(?=@)"
)


def redact(text: str) -> str:
    """The text with every token in it replaced.

    >>> redact("login with hf_abcdefghijklmnop now")
    'login with [redacted] now'
    >>> redact("postgres://mona:secret@db/labelhub")
    'postgres://[redacted]@db/labelhub'
    """
    return _TOKENS.sub(lambda found: f"{found[1] or ''}[redacted]", text)


def holds_token(value: Any) -> bool:
    """Whether a token is anywhere in a value fit for JSON."""
    if isinstance(value, str):
        return _TOKENS.search(value) is not None
    if isinstance(value, dict):
        return any(holds_token(part) for pair in value.items() for part in pair)
    if isinstance(value, list | tuple):
        return any(holds_token(part) for part in value)
    return False


def storable(value: Any) -> Any:
    """The value without tokens, and without what a database refuses in text.

    PostgreSQL takes neither NUL nor half of a surrogate pair, and a model may well
    write both.
    """
    if isinstance(value, str):
        text = value.replace("\0", "\N{REPLACEMENT CHARACTER}")
        return redact(text.encode("utf-8", "replace").decode())
    if isinstance(value, dict):
        return {storable(str(key)): storable(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [storable(part) for part in value]
    return value
