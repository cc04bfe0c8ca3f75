"""Equations as MathML, when the site is built: browsers draw it, and a page needs no script from anywhere."""

import html
import re
from typing import Any

from latex2mathml.converter import convert

_MATH = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>([.,;:)]*)', re.DOTALL)
# mkdocs-jupyter puts a loader of MathJax, from a server elsewhere, into every notebook's page.
_LOADER = re.compile(r"<script data-mkdocs-jupyter-mathjax=.*?</script>", re.DOTALL)


def on_page_content(content: str, **_: Any) -> str:
    """Replace what `pymdownx.arithmatex` has marked."""
    return _MATH.sub(_to_mathml, content)


def on_post_page(output: str, **_: Any) -> str:
    """Take out what would fetch a script."""
    return _LOADER.sub("", output)


def _to_mathml(found: re.Match[str]) -> str:
    tag, bracket, latex, behind = found.groups()
    display = "block" if bracket == "[" else "inline"
    mathml = convert(html.unescape(latex).strip(), display=display)
    # With the comma or full stop behind it, which would else begin a line.
    return f'<{tag} class="math">{mathml}{behind}</{tag}>'
