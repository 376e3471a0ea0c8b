"""{{ text|rendered }}: Markdown that somebody's model wrote, as safe HTML."""

from __future__ import annotations

from django import template
from django.utils.safestring import SafeString

from labelhub.rendering import render

register = template.Library()


@register.filter
def rendered(text: str) -> SafeString:
    return render(text)
