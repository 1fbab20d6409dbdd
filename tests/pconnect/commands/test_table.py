"""Tables in a terminal and in a notebook."""

from pconnect.commands.table import Table

TABLE = Table(["name", "n"], [["<b>", 5], ["longer", None], ["x", 1234]])


def test_columns_are_aligned_and_numbers_to_the_right() -> None:
    assert str(TABLE) == "name       n\n<b>        5\nlonger\nx       1234"
    assert repr(TABLE) == str(TABLE)


def test_what_cannot_be_printed_is_shown_as_an_escape() -> None:
    table = Table(["name"], [["a\x1b[2J\nb"], ["x"]])
    assert str(table) == "name\na\\x1b[2J\\nb\nx"
    assert r"<td>a\x1b[2J\nb</td>" in table._repr_html_()


def test_a_notebook_gets_escaped_cells() -> None:
    assert TABLE._repr_html_() == (
        "<table><thead><tr><th>name</th><th>n</th></tr></thead><tbody><tr><td>&lt;b&gt;</td><td>5</td></tr>"
        "<tr><td>longer</td><td></td></tr><tr><td>x</td><td>1234</td></tr></tbody></table>"
    )


def test_it_is_a_sequence_of_rows() -> None:
    assert len(TABLE) == 3
    assert TABLE[0] == ["<b>", 5]
    assert str(TABLE[:1]) == "name  n\n<b>   5"
    assert str(Table(["a", "b"], [])) == "a  b"
