"""Pages of the documentation: their blocks of commands and code, with the output that the page shows."""

import doctest
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^( *)(```+|~~~+|:::+)([^\n`]*)\n(.*?)^\1\2 *$", re.MULTILINE | re.DOTALL)
_REASON = re.compile(r"<!-- not run: ([^>]+) -->\s*\Z")
_PROMPT = re.compile(r"^(\w*)\$ (.*)\n", re.MULTILINE)
_NODE = re.compile(r"\[(\d+) \S+\] ")
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # colours, and hiding the terminal's cursor


@dataclass
class Block:
    """A block of a page; its first line is `line`.

    `kind` is the word after the fence. `said` is the text block that follows, if any. `reason` is why no test runs it,
    if a comment above it gives one.
    """

    page: str
    line: int
    kind: str
    text: str
    reason: str = ""
    said: str = ""

    @property
    def place(self) -> str:
        """The page and the line, for messages."""
        return f"{self.page}, line {self.line}"


def fenced(page: str, text: str, first: int = 1) -> Iterator[Block]:
    """Return all blocks of a page's text, including blocks in directives of the site; `first`: its first line."""
    for found in _FENCE.finditer(text):
        line = first + text.count("\n", 0, found.start())
        word, _, rest = found[3].strip().partition(" ")
        if word == "{code-block}":
            word = rest.strip()
        elif word.startswith("{"):
            yield from fenced(page, found[4], line + 1)
            continue
        reason = _REASON.search(text, 0, found.start())
        yield Block(page, line, word, found[4], reason[1] if reason else "")


def read_blocks(path: Path) -> list[Block]:
    """Return the blocks of a page in order; a ``text`` block is the output of the block before it."""
    blocks: list[Block] = []
    for block in fenced(path.name, path.read_text(encoding="utf-8")):
        if block.kind == "text":
            assert blocks, f"{block.place}: this text has no block before it"
            assert blocks[-1].kind == "python", f"{block.place}: this text does not belong to any code"
            blocks[-1].said = block.text
        else:
            blocks.append(block)
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
