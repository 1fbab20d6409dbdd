"""Displays that run no code in the page of a notebook: what an engine sends is data, also where a browser shows it.

A notebook trusts the output of its own cells: a script in it runs, and may have the kernel run anything. So of HTML
only the text and harmless tags and attributes are left, which is what tables of pandas and representations of arrays
are made of; a drawing in SVG becomes a picture, in which scripts do not run; and forms that a front end may take for
something to be executed are left out.
"""

import base64
import html
import re
from html.parser import HTMLParser
from typing import Any

# Forms that are passed on as they are: they are shown, and nothing else.
_HARMLESS = {"text/plain": str, "image/png": bytes, "image/jpeg": bytes}
_TAGS = frozenset({
    "a", "abbr", "b", "blockquote", "br", "caption", "center", "cite", "code", "col", "colgroup", "dd", "del",
    "details", "dfn", "div", "dl", "dt", "em", "figcaption", "figure", "h1", "h2", "h3", "h4", "h5", "h6",
    "hr", "i", "img", "ins", "kbd", "li", "mark", "ol", "p", "pre", "q", "s", "samp", "section", "small",
    "span", "strong", "sub", "summary", "sup", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "tt",
    "u", "ul", "var",
})  # fmt: skip
_ATTRIBUTES = frozenset({
    "align", "border", "class", "colspan", "dir", "height", "lang", "open", "rowspan", "scope", "title",
    "valign", "width",
})  # fmt: skip
_EMPTY = frozenset({"br", "col", "hr", "img"})
_DROPPED = frozenset(
    {"script", "style", "template", "iframe", "object", "noscript", "title", "svg", "math", "select"}
)
_PICTURE = re.compile(r"data:image/(png|jpeg|gif|webp);base64,[A-Za-z0-9+/=\s]*")
_STYLE = re.compile(r"[\w\s.,:;#%!-]*")  # no brackets: nothing is loaded, nothing is computed
# Python's parser takes long for some inputs; a table that anybody reads is smaller.
_MAX_HTML_CHARACTERS = 2**20
# What MathJax does beyond formulae.
_ACTIVE_LATEX = re.compile(r"\\(href|url|html\w*|require|class|cssId|style|data|unicode|includegraphics)\b")


def make_safe(data: dict[str, Any], metadata: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what of a display can be shown without running anything; see `Display`.

    Examples
    --------
    >>> make_safe({"text/plain": "x", "text/html": "<b onclick='f()'>x</b><script>f()</script>"}, {})
    ({'text/plain': 'x', 'text/html': '<b>x</b>'}, {})
    """
    safe: dict[str, Any] = {}
    for mime_type, item in data.items():
        if mime_type in _HARMLESS:
            if isinstance(item, _HARMLESS[mime_type]):
                safe[mime_type] = item
        elif not isinstance(item, str):
            continue
        elif mime_type == "text/html":
            if len(item) <= _MAX_HTML_CHARACTERS:
                safe[mime_type] = _clean(item)
        elif mime_type == "text/latex" and not _ACTIVE_LATEX.search(item):
            safe[mime_type] = item
        elif mime_type == "image/svg+xml" and "text/html" not in data:
            picture = base64.b64encode(item.encode("utf-8", "replace")).decode("ascii")
            safe["text/html"] = f'<img src="data:image/svg+xml;base64,{picture}">'
    sizes = {
        mime_type: {name: item[name] for name in ("width", "height") if isinstance(item.get(name), int)}
        for mime_type, item in metadata.items()
        if mime_type in safe and isinstance(item, dict)
    }
    return safe, {mime_type: size for mime_type, size in sizes.items() if size}


def _clean(text: str) -> str:
    cleaner = _Cleaner()
    cleaner.feed(text)
    cleaner.close()
    return cleaner.finish()


class _Cleaner(HTMLParser):
    """Writes anew what it has understood, so that nothing can pass that it takes for something else."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._parts: list[str] = []
        self._open: list[str] = []
        self._dropping: list[str] = []

    def finish(self) -> str:
        """Return the HTML, with all tags closed."""
        self._parts.extend(f"</{tag}>" for tag in reversed(self._open))
        return "".join(self._parts)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Write a tag that is known, with the attributes that are."""
        if tag in _DROPPED:
            self._dropping.append(tag)
        if self._dropping or tag not in _TAGS:
            return
        kept = "".join(
            f' {name}="{html.escape(value or "")}"'
            for name, value in attrs
            if _is_harmless(tag, name, value or "")
        )
        self._parts.append(f"<{tag}{kept}>")
        if tag not in _EMPTY:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close a tag that is open, and those inside it."""
        if self._dropping:
            if tag in self._dropping:
                del self._dropping[self._dropping.index(tag) :]
            return
        if tag in self._open:
            while self._open:
                last = self._open.pop()
                self._parts.append(f"</{last}>")
                if last == tag:
                    break

    def handle_data(self, data: str) -> None:
        """Write text."""
        if not self._dropping:
            self._parts.append(html.escape(data, quote=False))


def _is_harmless(tag: str, name: str, value: str) -> bool:
    if name == "style":
        return _STYLE.fullmatch(value) is not None and "position" not in value.lower()
    if tag == "img" and name == "src":
        return _PICTURE.fullmatch(value) is not None
    if tag == "a" and name == "href":
        return value.lower().startswith(("https://", "http://"))
    return name in _ATTRIBUTES or (tag == "img" and name == "alt")
