"""Sanitizer for displays: data from an engine must not run code, not even in the browser that shows a notebook.

A notebook trusts the output of its own cells: a script in it runs, and can have the kernel run anything. So only the
text and harmless tags and attributes of HTML are kept, enough for tables of pandas and representations of arrays. The
result cannot imitate the page or cover other outputs either: it has no class of the page, no id and no float, and only
the styles that `pconnect.commands.css_sanitizer` allows. nh3, Python's interface to Rust's ammonia, parses like a
browser; without it all HTML is left out. An SVG drawing becomes a picture, in which scripts do not run. Formulae, which
may also appear inside HTML, have no links, definitions or shifts. Data in formats that a front end might execute is
left out.

An HTML parser opens elements such as ``<b>`` again in each following paragraph if they were not closed: a short text
becomes a huge one. nh3 gets other names for these elements, and opens them once.
"""

import base64
import re
from typing import Any

from pconnect.commands.css_sanitizer import clean_style, with_inline_styles
from pconnect.commands.print_filter import coloured_text
from srp_tools.packages import import_own

# Formats that are passed on unchanged: they can only be shown.
_PICTURES = {"image/png", "image/jpeg"}
_TAGS = frozenset({
    "abbr", "blockquote", "br", "caption", "center", "cite", "col", "colgroup", "dd", "del", "details", "dfn", "div",
    "dl", "dt", "figcaption", "figure", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "img", "ins", "kbd", "li", "mark",
    "ol", "p", "pre", "progress", "q", "samp", "section", "span", "sub", "summary", "sup", "table", "tbody", "td",
    "tfoot", "th", "thead", "tr", "ul", "var",
})  # fmt: skip
# The "formatting elements" of the HTML standard, section 13.2.4.3, by whether they are harmless.
_FORMATTING = {
    "a": True, "b": True, "big": False, "code": True, "em": True, "font": False, "i": True, "nobr": False, "s": True,
    "small": True, "strike": False, "strong": True, "tt": True, "u": True,
}  # fmt: skip
_ALIAS = "pconnect-"
_FORMATTING_TAG = re.compile(rf"<(/?)(?=({'|'.join(_FORMATTING)})[\s/>])", re.IGNORECASE | re.ASCII)
_ATTRIBUTES = {
    "*": {"class", "dir", "lang", "style", "title"},
    f"{_ALIAS}a": {"href"},
    "details": {"open"},
    "img": {"alt", "height", "src", "width"},
    "progress": {"max", "value"},
    "table": {"border", "width"},
    # For a table or picture, "align" would make a float.
    **{tag: {"align"} for tag in ("p", "div", "h1", "h2", "h3", "h4", "h5", "h6")},
    **{
        tag: {"align", "colspan", "height", "rowspan", "scope", "valign", "width"}
        for tag in ("col", "colgroup", "tbody", "td", "tfoot", "th", "thead", "tr")
    },
}  # fmt: skip
_DROPPED = {
    "iframe", "math", "noscript", "object", "script", "select", "style", "svg", "template", "title",
}  # fmt: skip
_HARMLESS_VALUES = {
    "href": re.compile(r"https?://.*", re.IGNORECASE | re.DOTALL),
    "src": re.compile(r"data:image/(png|jpeg|gif|webp);base64,[A-Za-z0-9+/=\s]*"),
}
# Readable tables are smaller. The time for nested elements grows with the square of their number: some seconds for this
# many.
_MAX_HTML_CHARACTERS = 2**20
_MAX_TAGS = 30_000
# MathJax beyond formulae: links, classes, definitions for the whole page, and commands that move text.
_ACTIVE_LATEX = re.compile(
    r"\\(href|url|html\w*|require|class|cssId|style|data|unicode|includegraphics|[egx]?def|let|csname|Declare\w*"
    r"|(re)?new(command|environment|tagform)|Newextarrow|usetagform|mathtoolsset|provide\w*|mmlToken|smash|\w*lap"
    r"|mathmakebox|raise|lower|[mM]ove\w*|m?kern|[hm]?skip|[hvm]space|Space|[rR]ule|bbox|\w*tip)(?![a-zA-Z])"
    r"|\\\\\*?\s*\[\s*-"  # a line break that moves upward
)


def make_safe(data: dict[str, Any], metadata: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the part of a display that can be shown without running code; see `Display`.

    Examples
    --------
    >>> make_safe({"text/plain": "x", "text/html": "<b onclick='f()'>x</b><script>f()</script>"}, {})
    ({'text/plain': 'x', 'text/html': '<b>x</b>'}, {})
    """
    safe: dict[str, Any] = {}
    for mime_type, item in data.items():
        if mime_type in _PICTURES:
            if isinstance(item, bytes):
                safe[mime_type] = item
        elif not isinstance(item, str):
            continue
        elif mime_type == "text/plain":
            safe[mime_type] = coloured_text(item)
        elif mime_type == "text/html":
            if (cleaned := _clean(item)) is not None:
                safe[mime_type] = cleaned
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


def as_text(data: dict[str, Any]) -> dict[str, Any]:
    """Return a display in the form for front ends, with pictures as base64."""
    return {
        mime_type: base64.b64encode(item).decode("ascii") if isinstance(item, bytes) else item
        for mime_type, item in data.items()
    }


def _clean(text: str) -> str | None:
    """Return the harmless part of HTML; None if it is too large, or nh3 is missing."""
    if len(text) > _MAX_HTML_CHARACTERS or text.count("<") > _MAX_TAGS:
        return None
    try:
        nh3 = import_own("nh3")  # an optional package, which only a notebook needs
    except ImportError:
        return None
    text = with_inline_styles(text, 4 * _MAX_HTML_CHARACTERS)
    cleaned = nh3.clean(
        _FORMATTING_TAG.sub(rf"<\1{_ALIAS}", text),
        tags=_TAGS.union(f"{_ALIAS}{tag}" for tag, harmless in _FORMATTING.items() if harmless),
        attributes=_ATTRIBUTES,
        attribute_filter=_keep_harmless,
        clean_content_tags=_DROPPED,
        url_schemes={"http", "https", "data"},
        link_rel=None,
    )
    # MathJax looks for formulae in the text of HTML, but not across elements.
    cleaned = _ACTIVE_LATEX.sub(lambda found: f"\\<span></span>{found[0][1:]}", cleaned)
    return cleaned.replace(f"<{_ALIAS}", "<").replace(f"</{_ALIAS}", "</")


def _keep_harmless(_tag: str, name: str, value: str) -> str | None:
    if name == "style":
        return clean_style(value) or None
    if name == "class":  # the class of pandas' tables, which front ends style
        return "dataframe" if "dataframe" in value.split() else None
    pattern = _HARMLESS_VALUES.get(name)
    return value if pattern is None or pattern.fullmatch(value) else None
