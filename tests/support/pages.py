"""Pages of the documentation: their blocks of commands and code, with the output that the page shows."""

import doctest
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PROMPT = re.compile(r"^(\w*)\$ (.*)\n", re.MULTILINE)
_NODE = re.compile(r"\[(\d+) \S+\] ")
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # colours, and hiding the terminal's cursor


@dataclass
class Block:
    """A block of a page, from its first to its last line.

    `kind` is the word after the fence; `said` is the text block that follows, if any.
    """

    kind: str
    text: str
    place: str
    said: str = ""


def read_blocks(path: Path) -> list[Block]:
    """Return the blocks of a page in order; a ``text`` block is the output of the block before it."""
    page = path.read_text(encoding="utf-8")
    blocks: list[Block] = []
    for found in _FENCE.finditer(page):
        kind, text = found.groups()
        place = f"{path.name}, line {page.count(chr(10), 0, found.start()) + 1}"
        if kind == "text":
            assert blocks, f"{place}: this text has no block before it"
            assert blocks[-1].kind == "python", f"{place}: this text does not belong to any code"
            blocks[-1].said = text
        else:
            blocks.append(Block(kind, text, place))
    return blocks


def typed_lines(block: Block) -> Iterator[tuple[str, str, str]]:
    """Return machine, line and output of each line of a ``console`` block."""
    prompts = list(_PROMPT.finditer(block.text))
    assert prompts, f"{block.place}: no line here has a prompt"
    assert prompts[0].start() == 0, f"{block.place}: the first line has no prompt"
    ends = [*(prompt.start() for prompt in prompts[1:]), len(block.text)]
    for prompt, end in zip(prompts, ends, strict=True):
        yield prompt[1], prompt[2], block.text[prompt.end() : end]


def check(place: str, said: str, shown: str) -> None:
    """Fail unless the output matches the page: ``...`` matches anything, white space matches any white space.

    Lines of different nodes may arrive in any order, so they are sorted by node first.
    """
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    ordered = _by_node(_CONTROL.sub("", shown))
    if not doctest.OutputChecker().check_output(said, ordered, flags):
        raise AssertionError(f"{place}: the page says\n{said}\nbut it shows\n{ordered}")


def _by_node(text: str) -> str:
    lines: list[str] = []
    run: list[tuple[int, str]] = []
    for line in [*text.splitlines(), ""]:
        if found := _NODE.match(line):
            run.append((int(found[1]), line))
        else:
            lines += [each for _, each in sorted(run, key=lambda pair: pair[0])]
            run = []
            lines.append(line)
    return "\n".join(lines)
