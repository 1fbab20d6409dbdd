"""The reader of pages: how it recognises blocks, and when it treats outputs as equal."""

from pathlib import Path

import pytest

from tests.support.pages import Block, check, fenced, read_blocks, typed_lines

PAGE = """# Title

```console
alpha$ make it
made ...
beta$ look
```

```python
print(1)
```

```text
1
```

```python
x = 2
```
"""


def test_blocks_have_their_output(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(PAGE)
    console, script, last = read_blocks(path)
    assert list(typed_lines(console)) == [("alpha", "make it", "made ...\n"), ("beta", "look", "")]
    assert (script.text, script.said, script.place) == ("print(1)\n", "1\n", "page.md, line 9")
    assert (last.text, last.said) == ("x = 2\n", "")


def test_blocks_in_directives_and_the_reasons_above_them() -> None:
    text = "a\n<!-- not run: it waits for you -->\n```sh\nb\n```\n"
    text += ":::{tab-item} X\n```python\nc\n```\n:::\n```{code-block} toml\nd = 1\n```\n"
    assert list(fenced("p.md", text)) == [
        Block("p.md", 3, "sh", "b\n", "it waits for you"),
        Block("p.md", 7, "python", "c\n"),
        Block("p.md", 11, "toml", "d = 1\n"),
    ]


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("made 3 of ...\n", "made 3 of 4\n"),
        ("a b\n", "\x1b[31ma   b\x1b[0m\n"),
        ("[1 alpha] x\n[2 beta] x\nend\n", "[2 beta] x\n[1 alpha] x\nend\n"),
    ],
)
def test_the_same_output(said: str, shown: str) -> None:
    check("here", said, shown)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("", "something\n"),
        ("something\n", ""),
        ("1\n", "11\n"),
        ("[1 alpha] x\n[1 alpha] y\n", "[1 alpha] y\n[1 alpha] x\n"),
        ("[1 alpha] x\nend\n[2 beta] x\n", "[2 beta] x\nend\n[1 alpha] x\n"),
    ],
)
def test_another_output(said: str, shown: str) -> None:
    with pytest.raises(AssertionError, match="here: the page says"):
        check("here", said, shown)
