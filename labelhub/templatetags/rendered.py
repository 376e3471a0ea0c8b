"""{{ text|rendered }}: Markdown that somebody's model wrote, as safe HTML.

{{ parts|marked }}: a text as it was written, with the words that only it has marked.
"""

from __future__ import annotations

from collections.abc import Iterable

from django import template
from django.utils.html import conditional_escape, format_html
from django.utils.safestring import SafeString, mark_safe

from labelhub.differences import Part
from labelhub.rendering import render

register = template.Library()


@register.filter
def rendered(text: str) -> SafeString:
    return render(text)


@register.filter
def marked(parts: Iterable[Part]) -> SafeString:
    # Safe: each piece is escaped.
    return mark_safe(  # noqa: S308
        "".join(
            format_html("<mark>{}</mark>", part.text)
            if part.is_only_here
            else conditional_escape(part.text)
            for part in parts
        )
    )
