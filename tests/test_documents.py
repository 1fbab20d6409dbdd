"""The documents' examples run, and print the output shown beside them."""

import contextlib
import re
from pathlib import Path
from typing import Any

import pytest

import pconnect
from pconnect.values import registry
from tests.support.pages import fenced
from tests.support.servers import Server

DOCUMENTS = Path(__file__).parent.parent / "doc"
# Pages whose examples run other programs, or their own servers, which are slow to start.
SLOW = ("bridges.md", "reference/dask.md", "reference/detach.md", "reference/jobs.md")
PAGES = (
    "../README.md",
    "index.md",
    "bridges.md",
    "faq.md",
    *sorted(
        path.relative_to(DOCUMENTS).as_posix()
        for folder in ("reference", "migrate")
        for path in (DOCUMENTS / folder).glob("*.md")
    ),
)
EXAMPLES = [
    pytest.param(source, id=f"{name} {number}", marks=[pytest.mark.slow] if name in SLOW else [])
    for name in PAGES
    for number, source in enumerate(
        block.text
        for block in fenced(name, (DOCUMENTS / name).read_text(encoding="utf-8"))
        if block.kind == "python"
    )
]


@pytest.fixture
def _one_server_for_all(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `local_network` without options use an existing server."""
    start = pconnect.local_network

    def local_network(n: int = 2, **options: Any) -> contextlib.AbstractContextManager[pconnect.Network]:
        return start(n, **options) if options else server.connect(n)

    monkeypatch.setattr(pconnect, "local_network", local_network)


@pytest.mark.parametrize("source", EXAMPLES)
@pytest.mark.usefixtures("_one_server_for_all")
def test_an_example_prints_what_it_says(
    source: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_entries", {})
    monkeypatch.setattr(registry, "_makers", {})
    exec(compile(source, "<example>", "exec"), {"__name__": "__example__"})
    said = re.findall(r"^ *print\(.*\)  # (.*)$", source, re.MULTILINE)
    assert capsys.readouterr().out.splitlines() == said


def test_the_index_of_decisions_has_each_with_its_title() -> None:
    index = (DOCUMENTS / "decisions" / "README.md").read_text(encoding="utf-8")
    for page in sorted((DOCUMENTS / "decisions").glob("0*.md")):
        title = page.read_text(encoding="utf-8").splitlines()[0].partition(". ")[2]
        assert f"| [{page.name[:4]}]({page.name}) | {title} |" in index


def test_the_architecture_lists_the_modules_of_each_folder() -> None:
    """The page matches the output of ``ls``, and is short enough to read in one go."""
    page = (DOCUMENTS / "architecture.md").read_text(encoding="utf-8")
    root = DOCUMENTS.parent
    listed = dict(re.findall(r"^\| `(\w+/(?:\w+/)*)` \| .* \| ((?:`\w+` ?)+) \|$", page, re.MULTILINE))
    folders = {
        path.parent for name in ("srp_tools", "pconnect", "pserver") for path in (root / name).rglob("*.py")
    }
    assert {name: sorted(re.findall(r"\w+", names)) for name, names in listed.items()} == {
        f"{folder.relative_to(root).as_posix()}/": sorted(path.stem for path in folder.glob("[!_]*.py"))
        for folder in folders
    }
    assert len(page.splitlines()) <= 130


def test_the_tests_that_pages_name_exist() -> None:
    named = {
        (path.name, *found)
        for path in DOCUMENTS.rglob("*.md")
        for found in re.findall(r"(tests/[\w/]+\.py)::(\w+)", path.read_text(encoding="utf-8"))
    }
    assert named
    for page, path, name in named:
        file = DOCUMENTS.parent / path
        assert file.exists(), f"{page} names {path}"
        source = file.read_text(encoding="utf-8")
        assert re.search(rf"^def {name}\(", source, re.MULTILINE), f"{page} names {path}::{name}"


def test_each_promise_of_earlier_systems_has_a_state_and_a_test() -> None:
    page = (DOCUMENTS / "parity.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in re.findall(r"^\| [DOPR]\d.*$", page, re.MULTILINE)
    ]
    named = [name for row in rows for name in row[0].split(", ")]
    for letter, first, last in (
        ("R", 1, 36),
        ("D", 1, 38),
        ("P", 1, 30),
        ("O", 1, 27),
    ):
        wanted = {f"{letter}{number}" for number in range(first, last + 1)}
        assert wanted <= set(named), sorted(wanted - set(named))
    assert len([name for name in named if name.startswith("R")]) == 36
    for name, promised, here, state, tests in rows:
        assert promised and here, f"{name}: say what was promised, and what there is here"
        assert re.match(r"works|otherwise|not carried over: |not yet", state), (
            f"{name}: the state {state!r} must begin with works, otherwise, 'not carried over: REASON' or not yet"
        )
        assert state.startswith("not yet") or re.fullmatch(
            r"tests/[\w/]+\.py::\w+(, tests/[\w/]+\.py::\w+)*", tests
        ), f"{name}: name the tests in the last column, as tests/FILE.py::NAME, with commas between them"
