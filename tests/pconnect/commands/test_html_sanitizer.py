"""Sanitized displays run no code where they are shown."""

import base64
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pconnect.commands.html_sanitizer import make_safe

TABLE = (
    '<table border="1" class="dataframe"><thead><tr style="text-align: right;"><th></th><th>a &lt; b</th></tr>'
    '</thead><tbody><tr><td colspan="2">1</td></tr></tbody></table>'
)


def clean(text: str) -> Any:
    return make_safe({"text/plain": "", "text/html": text}, {})[0]["text/html"]


def test_a_table_is_left_as_it_is() -> None:
    assert clean(TABLE) == TABLE


@pytest.mark.parametrize(
    ("given_text", "left"),
    [
        ("<script>f()</script>x", "x"),
        ("<SCRIPT src='http://a/b.js'></SCRIPT >x", "x"),
        ("<b onclick='f()'>x</b>", "<b>x</b>"),
        ("<img src=x onerror=f()>", "<img>"),
        ("<img src='data:image/png;base64,AAAA'>", '<img src="data:image/png;base64,AAAA">'),
        ("<img src='data:image/svg+xml;base64,AAAA'>", "<img>"),
        ("<a href='javascript:f()'>x</a>", "<a>x</a>"),
        ("<a href=' java\nscript:f()'>x</a>", "<a>x</a>"),
        ("<a href='https://a/?b&c'>x</a>", '<a href="https://a/?b&amp;c">x</a>'),
        ("<svg><script>f()</script></svg>x", "x"),
        ("<style>td {background: url(http://a)}</style>x", "x"),
        ("<p style='background: url(http://a)'>x", "<p>x</p>"),
        ("<div style='position:fixed; top:0'>x</div>", "<div>x</div>"),
        ("<iframe srcdoc='<script>f()</script>'></iframe>x", "x"),
        ("<form action='http://a'><input name=b></form>x", "x"),
        ("<!-- <b> --><?php x ?><!DOCTYPE html>x", "x"),
        ("&lt;script&gt;f()&lt;/script&gt;", "&lt;script&gt;f()&lt;/script&gt;"),
        (
            '<b title="&quot;><script>f()</script>">x</b>',
            '<b title="&quot;&gt;&lt;script&gt;f()&lt;/script&gt;">x</b>',
        ),
        ("<p class='jp-Button lm-mod' id=main data-commandlinker-command=x>x</p>", "<p>x</p>"),
        (
            "<table class='dataframe jp-x' align=left><tbody></tbody></table>",
            '<table class="dataframe"><tbody></tbody></table>',
        ),
        ("<img align=right width=3>", '<img width="3">'),
        ("<td height=0 style='height:0;margin:-9em;color:red'>x", "x"),
        ("<div height=0 style='height:0;margin:-9em;color:red'>x</div>", '<div style="color: red;">x</div>'),
        (r"<b>$\href{javascript:f()}{x}$</b>", r"<b>$\<span></span>href{javascript:f()}{x}$</b>"),
        (r"<b>$&#92;style{position:fixed}{x}$</b>", r"<b>$\<span></span>style{position:fixed}{x}$</b>"),
        (r"<b>$\frac{\alpha}{2}$</b>", r"<b>$\frac{\alpha}{2}$</b>"),
        ("<progress value=1 max=3 class=x></progress>", '<progress value="1" max="3"></progress>'),
        ("<b><i>x</b>y", "<b><i>x</i></b>y"),
        ("</b>x", "x"),
    ],
)
def test_what_could_run_is_left_out(given_text: str, left: str) -> None:
    assert clean(given_text) == left


@given(st.text(st.sampled_from("<>/='\"& abscriptonx!-[]")))
def test_whatever_is_left_has_no_tag_but_the_known(text: str) -> None:
    left = clean(text)
    assert "<script" not in left
    assert clean(left) == left


def test_forms_that_a_front_end_may_execute_are_left_out() -> None:
    data = {
        "text/plain": "x",
        "image/png": b"png",
        "image/jpeg": "no bytes",
        "text/latex": "$x^2$",
        "application/javascript": "f()",
        "application/vnd.x+json": {"a": 1},
        "text/markdown": "<script>f()</script>",
        "text/html": 3,
    }
    assert make_safe(data, {})[0] == {"text/plain": "x", "image/png": b"png", "text/latex": "$x^2$"}
    assert "text/latex" not in make_safe({"text/plain": "", "text/latex": r"\href{javascript:f()}{x}"}, {})[0]


@pytest.mark.parametrize(
    "word",
    [
        "href", "def", "let", "newcommand", "smash", "rlap", "kern", "mkern", "raise", "rule", "Rule", "mspace",
        "Space", "mmlToken{mi}[href='javascript:f()' style='position:fixed']", "mathclap", "MoveEqLeft[-9]",
        "Newextarrow", r"\[-9em]", r"\* [ -9em]",
    ],
)  # fmt: skip
def test_formulae_stay_in_their_place(word: str) -> None:
    assert make_safe({"text/plain": "", "text/latex": rf"$\{word} x$"}, {})[0] == {"text/plain": ""}


def test_usual_formulae_pass() -> None:
    data = {"text/plain": "", "text/latex": r"$\displaystyle \left( \frac{1}{2} \newline \right) \\[2pt]$"}
    assert make_safe(data, {})[0] == data


def test_a_drawing_becomes_a_picture() -> None:
    svg = "<svg><script>f()</script></svg>"
    html = make_safe({"text/plain": "", "image/svg+xml": svg}, {})[0]["text/html"]
    begin, end = '<img src="data:image/svg+xml;base64,', '">'
    assert html.startswith(begin)
    assert base64.b64decode(html.removeprefix(begin).removesuffix(end)).decode() == svg


@pytest.mark.parametrize("text", ["x" * (2**20 + 1), "<b>" * 30_001])
def test_large_html_is_left_out(text: str) -> None:
    assert "text/html" not in make_safe({"text/plain": "", "text/html": text}, {})[0]


@pytest.mark.parametrize("tag", ["a", "B", "code", "font", "nobr", "strike"])
@pytest.mark.parametrize("block", ["p", "div", "table", "li"])
def test_small_html_stays_small(tag: str, block: str) -> None:
    """An unclosed element is not opened again in each following block, as browsers do."""
    openers = "".join(f"<{tag} title={'x' * 100}{number}>" for number in range(500))
    text = f"<{block}>{openers}" + f"<{block}>x" * 500
    assert len(clean(text)) < 2 * len(text)


def test_text_that_looks_like_an_element_is_left_as_it_is() -> None:
    assert clean("&lt;b&gt; <i>&lt;/i </i> pconnect-b") == "&lt;b&gt; <i>&lt;/i </i> pconnect-b"


def test_without_the_package_html_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nh3", None)
    data = {"text/plain": "x", "image/png": b"png", "text/html": "<b>x</b>"}
    assert make_safe(data, {})[0] == {"text/plain": "x", "image/png": b"png"}
    drawing = make_safe({"text/plain": "x", "image/svg+xml": "<svg/>"}, {})[0]
    assert drawing["text/html"].startswith('<img src="data:image/svg+xml;base64,')


def test_of_metadata_sizes_are_left() -> None:
    metadata = {
        "image/png": {"width": 3, "height": "4", "isolated": True},
        "text/plain": {},
        "other": {"width": 1},
    }
    assert make_safe({"text/plain": "", "image/png": b""}, metadata)[1] == {"image/png": {"width": 3}}
