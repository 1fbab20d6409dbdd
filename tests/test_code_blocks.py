"""Every block of code on a page is run by a test, or a comment above it says why not.

``python -m tests.test_code_blocks`` prints the number of each.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from pconnect import pconnect
from pconnect.profiles import check_configuration
from pconnect.prun.rules import read_rules
from pserver.accounts.account import read_map
from pserver.admin.settings import resolve
from tests.support.pages import Block, fenced

ROOT = Path(__file__).parents[1]
_DOCUMENTS = "tests/test_documents.py::test_an_example_prints_what_it_says"
_SETTINGS = "tests/test_code_blocks.py::test_the_files_on_pages_can_be_read"
#: The test that runs the blocks of a page, by page and kind; the first match counts.
RUN_BY = (
    ("README.md", "python", _DOCUMENTS),
    ("doc/index.md", "python", _DOCUMENTS),
    ("doc/bridges.md", "python", _DOCUMENTS),
    ("doc/reference/*.md", "python", _DOCUMENTS),
    ("doc/migrate/*.md", "python", _DOCUMENTS),
    ("doc/faq.md", "python", _DOCUMENTS),
    ("doc/reference/configuration.md", "toml", _SETTINGS),
    ("doc/reference/prun.md", "toml", _SETTINGS),
    ("doc/reference/server.md", "toml", _SETTINGS),
    ("doc/tutorial.md", "*", "tests/integration/test_tutorial.py::test_the_tutorial_does_what_it_says"),
    (
        "doc/first-steps.md",
        "*",
        "tests/integration/test_first_steps.py::test_from_nothing_to_numbers_of_three_machines",
    ),
    (
        "doc/howto/administer.md",
        "*",
        "tests/integration/test_howto_administer.py::test_the_page_does_what_it_says",
    ),
    ("doc/howto/cluster.md", "*", "tests/integration/test_howto_cluster.py::*"),
    (
        "doc/howto/distributed-compiling.md",
        "*",
        "tests/integration/test_howto_compiling.py::test_the_page_does_what_it_says",
    ),
    ("doc/howto/pool.md", "*", "tests/integration/test_howto_pool.py::*"),
)
_NO_CODE = {"text", ""}  # output and drawings


def run_by(block: Block) -> str:
    """Return the test that runs a block, or an empty text."""
    fits = (test for page, kind, test in RUN_BY if fnmatch(block.page, page) and fnmatch(block.kind, kind))
    return next(fits, "")


def blocks() -> Iterator[Block]:
    """Return the blocks of code of all pages, including blocks in directives of the site."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "doc").rglob("*.md")]
    for path in sorted(path for path in pages if "auto_gallery" not in path.parts):
        for block in fenced(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")):
            if block.kind not in _NO_CODE:
                yield block


def test_each_block_is_run_or_has_a_reason() -> None:
    bare = [f"{each.page}:{each.line}: {each.kind}" for each in blocks() if not (run_by(each) or each.reason)]
    assert not bare, "\n".join(["not run, and no comment `<!-- not run: why -->` above:", *bare])
    both = [f"{each.page}:{each.line}" for each in blocks() if run_by(each) and each.reason]
    assert not both, f"run by a test, so the comment is wrong: {both}"


def test_the_tests_that_run_them_exist() -> None:
    for _, _, test in RUN_BY:
        path, _, name = test.partition("::")
        source = (ROOT / path).read_text(encoding="utf-8")
        assert name == "*" or f"def {name}(" in source, test


def test_the_files_on_pages_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    read: dict[str, Callable[[Path], Any]] = {
        "doc/reference/configuration.md": lambda _: check_configuration(pconnect),
        "doc/reference/prun.md": read_rules,
        "doc/reference/server.md": lambda path: resolve({}, {}, path),
    }
    found = [each for each in blocks() if run_by(each) == _SETTINGS]
    assert {each.page for each in found} == set(read)
    path = tmp_path / "pserver" / "client" / "pconnect.toml"
    path.parent.mkdir(parents=True, mode=0o700)
    for each in found:
        path.write_text(each.text, encoding="utf-8")
        path.chmod(0o600)
        if each.text.startswith("alice = "):
            assert read_map(path) == {"alice": "physics1"}
        else:
            read[each.page](path)


if __name__ == "__main__":
    counts = Counter("run by a test" if run_by(each) else "not run, with a reason" for each in blocks())
    print(dict(counts))
