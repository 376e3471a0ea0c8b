"""Markdown, code and LaTeX that somebody's model wrote -> HTML that is safe to show.

Nothing is loaded from elsewhere, nothing is cut off. HTML in the text is shown as
text; what markdown-it makes of the rest passes through nh3 as well, so that a bug in
one of them is not enough. LaTeX comes out as its source in `.math` nodes, which
static/js/math.js draws.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import nh3
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from mdit_py_plugins.amsmath import amsmath_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import TextLexer, get_lexer_by_name
from pygments.util import ClassNotFound

MAX_MARKDOWN = 200_000
"""Longer texts are shown as they are: parsing them would hold up the next item."""
MAX_HIGHLIGHT = 20_000
"""Longer code is shown in one colour."""
MAX_NESTING = 40
"""markdown-it drops what lies deeper in lists and quotes; such text is shown raw."""
CACHE_CHARACTERS = 16_000_000
"""How much rendered HTML one process keeps."""

_CONTROL = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n\r"}
_CONTROL |= {0x7F: 0x2421} | dict.fromkeys(range(0x80, 0xA0), 0xFFFD)
_CONTROL |= dict.fromkeys(range(0xD800, 0xE000), 0xFFFD)
"""What cannot be seen or sent is shown as a picture of itself, or as �."""

# fmt: off
_TAGS = {
    "a", "blockquote", "br", "code", "del", "div", "em", "h3", "h4", "h5", "h6", "hr",
    "li", "ol", "p", "pre", "s", "span", "strong", "table", "tbody", "td", "th",
    "thead", "tr", "ul",
}
# fmt: on
_ATTRIBUTES = {
    "a": {"href", "title"},
    "ol": {"start"},
    **{tag: {"class"} for tag in ("div", "span", "td", "th")},
    "pre": {"tabindex", "role", "aria-label"},
}
_cleaner = nh3.Cleaner(
    tags=_TAGS,
    attributes=_ATTRIBUTES,
    url_schemes={"http", "https", "mailto"},
    link_rel="noopener nofollow",
    set_tag_attribute_values={"a": {"target": "_blank"}},
)


def render(text: str) -> SafeString:
    """The text as safe HTML; from the cache if it was rendered before."""
    key = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    html = _cache.get(key)
    if html is None:
        html = _render(text.translate(_CONTROL))
        _cache.put(key, html)
    # Safe: it comes from nh3, or is escaped whole.
    return mark_safe(html)  # noqa: S308


def _render(text: str) -> str:
    if len(text) > MAX_MARKDOWN:
        return _as_it_is(text)
    env: dict[str, Any] = {}
    tokens = _markdown.parse(text, env)
    if max((token.level for token in tokens), default=0) >= MAX_NESTING - 1:
        return _as_it_is(text)
    for token in tokens:
        _adapt(token)
    return _cleaner.clean(_markdown.renderer.render(tokens, _markdown.options, env))


def _as_it_is(text: str) -> str:
    return f'<div class="raw-text">{escape(text)}</div>'


def _adapt(token: Token) -> None:
    """Fit the headings under the page's own; alignment as a class, for the policy
    allows no style attribute."""
    if token.type in {"heading_open", "heading_close"}:
        token.tag = f"h{min(int(token.tag[1]) + 2, 6)}"
    elif token.type in {"th_open", "td_open"} and "style" in token.attrs:
        side = str(token.attrs.pop("style")).removeprefix("text-align:")
        token.attrs["class"] = f"align-{side}"


def _code(
    self: RendererHTML,
    tokens: Sequence[Token],
    index: int,
    options: OptionsDict,
    env: EnvType,
) -> str:
    """A block that scrolls sideways, so it can be focused and scrolled by keys.

    What stands behind the fence is a language; if not, it is shown as a line of code.
    """
    code, info = tokens[index].content, tokens[index].info.strip()
    try:
        lexer = get_lexer_by_name(info.lower(), stripnl=False)
    except ClassNotFound:
        lexer = TextLexer(stripnl=False)
        code = f"{info}\n{code}" if info else code
    if len(code) > MAX_HIGHLIGHT:
        lexer = TextLexer(stripnl=False)
    html = highlight(code, lexer, _formatter)
    return (
        f'<pre tabindex="0" role="region" aria-label="Code"><code>{html}</code></pre>\n'
    )


def _image(
    self: RendererHTML,
    tokens: Sequence[Token],
    index: int,
    options: OptionsDict,
    env: EnvType,
) -> str:
    """In words. Loading it would tell another host who reads what, and when."""
    source = str(tokens[index].attrs.get("src", ""))
    if source.startswith("data:"):
        kind = re.split("[;,]", source, maxsplit=1)[0].removeprefix("data:")
        source = f"{kind}, {len(source):,} characters"
    words = [tokens[index].content, source]
    return f"[image: {escape(', '.join(word for word in words if word))}]"


def _math(
    self: RendererHTML,
    tokens: Sequence[Token],
    index: int,
    options: OptionsDict,
    env: EnvType,
) -> str:
    token = tokens[index]
    tex = escape(token.content.strip())
    if token.type == "math_inline":
        return f'<span class="math">{tex}</span>'
    if token.type == "math_inline_double":
        return f'<span class="math block">{tex}</span>'
    return f'<div class="math block">{tex}</div>\n'


def _bracket_math(state: StateInline, silent: bool) -> bool:
    r"""The other way to write LaTeX: \( … \), and \[ … \] on lines of its own.

    Within a line \[ is the Markdown for a plain bracket, and stays one.
    """
    start, source = state.pos, state.src
    closing = {r"\(": r"\)", r"\[": r"\]"}.get(source[start : start + 2])
    end = source.find(closing, start + 2) if closing else -1
    if closing is None or end < 0 or not source[start + 2 : end].strip():
        return False
    if closing == r"\]":
        before = source[source.rfind("\n", 0, start) + 1 : start]
        after = source[end + 2 :].split("\n", 1)[0]
        if before.strip() or after.strip(" .,;"):
            return False
    if not silent:
        kind = "math_inline" if closing == r"\)" else "math_inline_double"
        state.push(kind, "math", 0).content = source[start + 2 : end]
    state.pos = end + 2
    return True


def _parser() -> MarkdownIt:
    # A line that was broken stays broken: a poem, an address, a list without marks.
    options = {"html": False, "breaks": True, "maxNesting": MAX_NESTING}
    markdown = MarkdownIt("commonmark", options)
    markdown.enable(["table", "strikethrough"])
    # "[1]: https://…" at the end of an answer would vanish from the page.
    markdown.disable("reference")
    # "$5 and $6" is money: no space inside the dollars, no digit around them.
    markdown.use(
        dollarmath_plugin,
        allow_space=False,
        allow_digits=False,
        allow_labels=False,
        double_inline=True,
    )
    markdown.use(amsmath_plugin)
    markdown.inline.ruler.before("escape", "bracket_math", _bracket_math)
    for name in ("math_inline", "math_inline_double", "math_block", "amsmath"):
        markdown.add_render_rule(name, _math)
    for name in ("fence", "code_block"):
        markdown.add_render_rule(name, _code)
    markdown.add_render_rule("image", _image)
    return markdown


class _Cache:
    """The newest renderings, up to so many characters."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.used = 0
        self.entries: OrderedDict[bytes, str] = OrderedDict()
        self.lock = threading.Lock()

    def get(self, key: bytes) -> str | None:
        with self.lock:
            if key in self.entries:
                self.entries.move_to_end(key)
            return self.entries.get(key)

    def put(self, key: bytes, html: str) -> None:
        with self.lock:
            self.used += len(html) - len(self.entries.pop(key, ""))
            self.entries[key] = html
            while self.used > self.size:
                _, dropped = self.entries.popitem(last=False)
                self.used -= len(dropped)


_formatter = HtmlFormatter(nowrap=True)
_markdown = _parser()
_cache = _Cache(CACHE_CHARACTERS)
