from __future__ import annotations

import html
import re

import pytest

from labelhub import rendering
from labelhub.rendering import render


def words(text: str) -> str:
    """What a person reads on the page."""
    return html.unescape(re.sub("<[^>]*>", "", render(text)))


def test_markdown_becomes_html():
    out = render(
        "# Title\n\n*soft* **loud** ~~gone~~ `code`\n\n1. one\n2. two\n\n> said"
    )
    assert "<h3>Title</h3>" in out
    assert "<em>soft</em> <strong>loud</strong> <s>gone</s> <code>code</code>" in out
    assert "<ol>\n<li>one</li>" in out
    assert "<blockquote>" in out


def test_a_line_that_was_broken_stays_broken():
    assert render("There once was a cook\nwho never would look") == (
        "<p>There once was a cook<br>\nwho never would look</p>\n"
    )


def test_tables_are_aligned_by_class():
    out = render("|a|b|\n|:-|-:|\n|1|2|")
    assert '<td class="align-right">2</td>' in out
    assert "style" not in out


def test_code_is_coloured_by_class_and_can_be_scrolled_by_keys():
    out = render("```python\ndef f():\n    return 1\n```")
    assert '<span class="k">def</span>' in out
    assert '<pre tabindex="0"' in out
    assert "style" not in out


@pytest.mark.parametrize("language", ["", "klingon", "mermaid"])
def test_code_in_no_known_language_is_shown_plain(language):
    assert "x &lt; 1" in render(f"```{language}\nx < 1\n```")


def test_what_stands_behind_a_fence_does_not_vanish():
    assert "ignore the rest" in words("```ignore the rest\nx\n```")


def test_an_unclosed_fence_ends_with_its_text():
    assert render("```\nx").endswith("</pre>\n")
    assert render("*b").count("<") == 2


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "</div></article><form action=//evil>",
        "<svg onload=alert(1)>",
        "<style>body{display:none}</style>",
        "[a](javascript:alert(1))",
        "[a](JaVaScRiPt:alert(1))",
        "[a](data:text/html;base64,PHNjcmlwdD4=)",
        "[a](vbscript:x)",
        "<javascript:alert(1)>",
        '[a](https://e.org "x\\" onmouseover=alert(1) y")',
        '```"><script>alert(1)</script>\nx\n```',
        "`<script>`",
        "$<script>alert(1)</script>$",
        "\\(<img src=x onerror=alert(1)>\\)",
        "|<script>|\n|-|\n|<svg onload=x>|",
        "![<script>](x)",
        "\\begin{align}</div><script>\\end{align}",
        "    <script>indented</script>",
        "&lt;script&gt;",
    ],
)
def test_nothing_in_the_text_becomes_active(text):
    out = render(text)
    for tag, attributes in re.findall(r"<(\w+)([^>]*)>", out):
        assert tag in rendering._TAGS
        names = re.findall(r"([\w-]+)=", re.sub(r'"[^"]*"', "", attributes))
        assert set(names) <= {
            "aria-label",
            "class",
            "href",
            "rel",
            "role",
            "start",
            "tabindex",
            "target",
            "title",
        }
    for address in re.findall('href="([^"]*)"', out):
        assert address.startswith(("http://", "https://", "mailto:"))


def test_links_tell_the_other_side_nothing():
    assert render("[a](https://e.org)") == (
        '<p><a href="https://e.org" target="_blank" rel="noopener nofollow">a</a></p>\n'
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("![a cat](https://e.org/c.png)", "[image: a cat, https://e.org/c.png]"),
        ("![](//e.org/c.png)", "[image: //e.org/c.png]"),
        ("[![b](https://e.org/b.svg)](https://e.org)", "image: b, https://e.org/b.svg"),
        ("![x](data:image/png;base64,AAAA)", "[image: x, image/png, 26 characters]"),
    ],
)
def test_images_are_named_and_not_loaded(text, shown):
    assert shown in words(text)
    assert "<img" not in render(text)


@pytest.mark.parametrize(
    ("text", "math"),
    [
        ("so $x^2 < 1$ holds", '<span class="math">x^2 &lt; 1</span>'),
        (r"so \(a_1 * b_1 * c\) holds", '<span class="math">a_1 * b_1 * c</span>'),
        ("$$\nE = mc^2\n$$", '<div class="math block">E = mc^2</div>'),
        ("inline $$x$$ too", '<span class="math block">x</span>'),
        ("so:\n\\[\nx + y\n\\]\nand", '<span class="math block">x + y</span>'),
        (r"\begin{align}a&=b\end{align}", 'block">\\begin{align}a&amp;=b\\end{align}'),
    ],
)
def test_latex_is_left_for_the_browser_to_draw(text, math):
    assert math in render(text)


@pytest.mark.parametrize(
    "text",
    [
        "It costs $5 and $6.",
        "US$20 to US$30",
        "from $HOME to $PATH",
        "a $ b $ c",
        r"see \[1\] and \[2\]",
        "`$x$`",
    ],
)
def test_money_and_brackets_stay_text(text):
    assert "math" not in render(text)


def test_definitions_of_links_do_not_vanish():
    assert "https://source.example" in words("See [1].\n\n[1]: https://source.example")


def test_control_characters_are_shown():
    assert words("a\0b\x1bc\x85").strip() == "a␀b␛c�"
    assert words("lone \ud800 surrogate").strip() == "lone � surrogate"
    assert words("tab\tand\nline").strip() == "tab\tand\nline"


@pytest.mark.parametrize(
    "text",
    [
        "word " * 20_000,
        "x" * 50_000,
        "```python\n" + "x = [1, 'a']\n" * 8_000,
        "* a\n" * 20_000,
        "> " * 60 + "deep",
        "- a\n" + "".join("  " * n + "- a\n" for n in range(1, 60)),
        "<" * 50_000,
        "a " * 150_000,
    ],
    ids=["100 kB", "one line", "code", "list", "quotes", "lists", "brackets", "300 kB"],
)
def test_nothing_is_cut_off(text):
    letters = re.compile(r"[a-zA-Z<>]")
    wanted = letters.findall(re.sub(r"```(python)?|^> +(?=\w)", "", text))
    shown = letters.findall(words(text))
    assert len(shown) >= len([c for c in wanted if c != ">"])


def test_the_same_text_is_rendered_once(monkeypatch):
    first = render("Only once.")
    monkeypatch.setattr(rendering, "_render", lambda text: pytest.fail("again"))
    assert render("Only once.") == first


def test_the_cache_keeps_the_newest_and_stays_small():
    cache = rendering._Cache(size=10)
    cache.put(b"a", "12345")
    cache.put(b"b", "12345")
    assert cache.get(b"a") == "12345"
    cache.put(b"c", "123")
    assert cache.get(b"b") is None
    assert cache.get(b"a") == "12345"
    assert cache.used == 8
