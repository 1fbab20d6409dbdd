"""Which style properties pass: those for how text looks, not where it is."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pconnect.commands.css_sanitizer import clean_style, with_inline_styles

LIMIT = 10_000


@pytest.mark.parametrize(
    "style",
    [
        "text-align: right;",
        "color: #800000; text-decoration-color: #800000; background-color: rgb(1, 2, 3); font-weight: bold;",
        # rich
        "white-space: pre; overflow-x: auto; line-height: normal; "
        "font-family: Menlo,'DejaVu Sans Mono',consolas,'Courier New',monospace;",
        # bars of pandas
        "width: 10em; background: linear-gradient(90deg, #d65f5f 50.0%, transparent 50.0%);",
        "border: 1px solid #ddd; border-collapse: collapse; padding: 0.2em 4px; border-spacing: 0;",
        "width: 60ex; max-width: 100%; vertical-align: middle; font-size: 9pt; line-height: 1.5;",
    ],
)
def test_the_looks_of_text_and_cells_pass(style: str) -> None:
    assert clean_style(style) == style


@pytest.mark.parametrize(
    "style",
    [
        "position: fixed", "POSITION : absolute", "top: 0", "float: left", "z-index: 9", "margin: -9em",
        "margin-top: 1px",
        "transform: none", "opacity: 0", "height: 0", "display: none", "content: 'x'", "clip-path: none", "inset: 0",
        "box-shadow: 0 0 9px red", "text-shadow: 0 0 9px red", "outline: 1px solid", "filter: blur(1px)", "zoom: 2",
        "text-indent: -9em", "letter-spacing: -1em", "line-height: 0", "line-height: 0.1", "padding: -1px",
        "line-height: 1em", "line-height: 100%", "line-height: 9px",
        "width: -1px",
        "width: 200%", "width: 100vw", "min-width: 9999px", "font-size: 500px", "vertical-align: -99px",
        "background: url(http://a)", "background: image-set('a')", "background-color: var(--jp-x)", "--jp-x: red",
        "color: expression(f())", "color: \\72 ed", "color: red /* x */", "font-family: a, url(x)", "animation: x 1s",
        "width: calc(100% + 9px)", "border-image: url(x)", "font: 9px x", "all: unset", "color", "", ": red",
    ],
)  # fmt: skip
def test_what_places_overlays_or_loads_does_not(style: str) -> None:
    assert clean_style(style) == ""


def test_what_is_beside_it_stays() -> None:
    assert clean_style("Color:RED;position:fixed;;width: 5px !important") == "color: RED; width: 5px;"


@given(st.text("coler-kgwidthpad:;#()'\"\\/*0%x, "))
def test_what_passed_once_passes_again_and_needs_no_escapes(style: str) -> None:
    passed = clean_style(style)
    assert clean_style(passed) == passed
    assert not re.search(r"[\\<>{}@&]|/\*", passed)


def test_the_sheet_of_a_styled_table_goes_into_its_cells() -> None:
    text = (
        '<style type="text/css">\n#T_1_row0_col0, #T_1_row1_col0 {\n  color: red;\n  position: fixed;\n}\n'
        '#T_1_row0_col0 {font-family: "A b";}\n#T_1 th {color: blue;}</style>'
        '<table id="T_1"><td id="T_1_row0_col0" class="data">1</td><td id="T_1_row1_col0">2</td></table>'
    )
    inlined = with_inline_styles(text, LIMIT)
    assert inlined.endswith(
        '<table style=""><td style="color: red;font-family: \'A b\';" class="data">1</td>'
        '<td style="color: red;">2</td></table>'
    )


def test_what_would_grow_too_large_is_left() -> None:
    text = "<style>#T_1 {" + "color: red;" * 50 + "}</style>" + '<p id="T_1">' * 100
    assert with_inline_styles(text, LIMIT) == text
    assert with_inline_styles("<p id='T_1'>", LIMIT) == "<p id='T_1'>"
