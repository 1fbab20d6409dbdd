"""Sanitizer for inline styles from an engine: they may set how text and cells look, but not where they are.

Text in a notebook's page must stay in the output of its cell: it must not cover other outputs, look like a part of the
page, or load anything. So there is a list of allowed properties and of the forms of their values. Not allowed are
properties that place or overlay (position, margin, float, transform, z-index, opacity, height, shadows), negative
numbers, lines lower than their text, variables, and functions other than colours.

The tables of pandas' ``Styler`` have a style sheet that names each cell by an id. Its rules are moved into the cells.
"""

import re

_COLOUR = r"(?:#[0-9a-f]{3,8}|[a-z]{3,25}|(?:rgb|hsl)a?\([\d\s.,%/]{5,60}\))"
_LENGTH = r"\d{1,3}(?:\.\d{1,9})?(?:px|pt|%)?|\d{0,2}(?:\.\d{1,9})?(?:em|ex|ch|rem)"
_UP_TO_ALL = r"(?:100|\d{1,2}(?:\.\d{1,9})?)%"
_STOP = rf"{_COLOUR}(?:\s+{_UP_TO_ALL}|\s+0)?"
_WORDS = r"[a-z-]{2,20}(?:\s+[a-z-]{2,20}){0,2}"
_FONT = r"(?:[\w -]{1,60}|'[\w -]{1,60}'|\"[\w -]{1,60}\")"
_SIDES = ("", "-top", "-right", "-bottom", "-left")

_FORMS = {
    **dict.fromkeys(["color", "background-color", "text-decoration-color"], _COLOUR),
    # pandas draws bars in cells as gradients from left to right.
    "background": rf"{_COLOUR}|linear-gradient\(\s*[0-9]{{1,3}}deg(?:\s*,\s*{_STOP}){{1,8}}\s*\)",
    **dict.fromkeys(
        ["text-align", "vertical-align", "font-style", "font-variant", "text-decoration", "text-transform",
         "white-space", "word-break", "overflow-wrap", "overflow-x", "border-collapse", "list-style-type"],
        _WORDS,
    ),
    "font-weight": r"[a-z]{4,7}|[1-9]00",
    "font-family": rf"{_FONT}(?:\s*,\s*{_FONT}){{0,9}}",
    "font-size": r"[a-z-]{5,8}|\d{1,2}(?:\.\d{1,9})?p[xt]|[0-3]?(?:\.\d{1,9})?r?em|[1-3]?\d{1,2}(?:\.\d{1,9})?%",
    # Numbers only: a length, even in "em" or "%", would also apply to larger text inside, which would then cover the
    # lines above and below.
    "line-height": r"normal|[1-3](?:\.\d{1,9})?",
    **{f"border{side}{of}": rf"(?:{_LENGTH}|{_COLOUR})(?:\s+(?:{_LENGTH}|{_COLOUR})){{0,3}}"
       for side in _SIDES for of in ("", "-width", "-style", "-color")},
    "border-radius": _LENGTH,
    "border-spacing": rf"(?:{_LENGTH})(?:\s+(?:{_LENGTH}))?",
    **{f"padding{side}": rf"(?:{_LENGTH})(?:\s+(?:{_LENGTH})){{0,3}}" for side in _SIDES},
    **dict.fromkeys(
        ["width", "min-width", "max-width"],
        rf"auto|{_UP_TO_ALL}|\d{{1,3}}(?:\.\d{{1,9}})?p[xt]|\d{{1,2}}(?:\.\d{{1,9}})?(?:em|ex|ch|rem)",
    ),
}  # fmt: skip
_PATTERNS = {name: re.compile(form, re.IGNORECASE | re.ASCII) for name, form in _FORMS.items()}

_MAX_CHARACTERS = 1000  # limit for one style
_SHEET = re.compile(r"<style[^<>]*>([^<]*)</style>", re.IGNORECASE)
_RULE = re.compile(r"([^{}]*)\{([^{}]*)\}")
_ID = re.compile(r'\bid="(T_\w{1,100})"')


def clean_style(style: str) -> str:
    """Return the allowed declarations of a style.

    Examples
    --------
    >>> clean_style("color: red; position: fixed; width:50%; background: url(http://x)")
    'color: red; width: 50%;'
    """
    declarations = []
    for declaration in style[:_MAX_CHARACTERS].split(";"):
        name, _, value = declaration.partition(":")
        name, value = name.strip().lower(), value.strip().removesuffix("!important").rstrip()
        pattern = _PATTERNS.get(name)
        if pattern is not None and pattern.fullmatch(value):
            declarations.append(f"{name}: {value};")
    return " ".join(declarations)


def with_inline_styles(text: str, max_characters: int) -> str:
    """Return HTML in which the rules of style sheets for ids, as pandas writes them, are inline styles of the elements.

    The result is not safe until it is sanitized. A text that would grow too large is returned unchanged.
    """
    styles: dict[str, str] = {}
    for sheet in _SHEET.findall(text):
        for selectors, declarations in _RULE.findall(sheet):
            style = clean_style(declarations).replace('"', "'")
            for selector in selectors.split(","):
                name = selector.strip().removeprefix("#")
                styles[name] = f"{styles.get(name, '')}{style}"[:_MAX_CHARACTERS]
    if not styles:
        return text
    length = len(text) + sum(len(styles.get(found[1], "")) for found in _ID.finditer(text))
    if length > max_characters:
        return text
    return _ID.sub(lambda found: f'style="{styles.get(found[1], "")}"', text)
