"""Each message that a user can meet is on the troubleshooting pages, and each entry there is of a message."""

import ast
from pathlib import Path

import pytest

from tests.support.messages import Entry, Message, find_messages, messages_of, read_entries

DOCUMENTS = Path(__file__).parents[1] / "doc"
PAGES = sorted((DOCUMENTS / "troubleshooting").glob("*.md"))
_MANY = 1000  # about as many messages as the packages have; a collector that finds few would hide the others


@pytest.fixture(scope="module")
def entries() -> list[Entry]:
    return [entry for page in PAGES for entry in read_entries(page)]


@pytest.fixture(scope="module")
def messages() -> list[Message]:
    return find_messages()


def test_each_message_has_an_entry(entries: list[Entry], messages: list[Message]) -> None:
    assert len(messages) > _MANY
    missing = [message for message in messages if not any(entry.matches(message) for entry in entries)]
    rows = "\n".join(message.row() for message in missing)
    assert not missing, f"complete these rows, and add them to a page in doc/troubleshooting:\n{rows}"


def test_each_entry_is_of_a_message(entries: list[Entry], messages: list[Message]) -> None:
    stale = [entry for entry in entries if not any(entry.matches(message) for message in messages)]
    lines = "\n".join(f"{entry.place}: `{entry.text}`" for entry in stale)
    assert not stale, f"no message is like these entries any longer; correct or remove them:\n{lines}"


def test_no_entry_fits_nearly_everything(entries: list[Entry]) -> None:
    assert [entry for entry in entries if entry.is_vague()] == []


def test_each_row_has_a_cause_and_a_remedy() -> None:
    for page in PAGES:
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
            if line.startswith("| `"):
                assert len(line.strip("|").split(" | ")) == 3, f"{page.name}:{number}"
                assert all(cell.strip() for cell in line.strip("|").split(" | ")), f"{page.name}:{number}"


SOURCE = """
LIMIT = "too large"

def why_not(user):
    return f"the user {user} may not do this"

def fail(name, size):
    text = f"{name} has {size} bytes"
    if size:
        raise ConfigurationError(f"{text}: " "give a smaller file")
    warnings.warn(text if name else "there is no name", UserWarning)
    if size == 2:
        raise OSError("the file {} is too {how}".format(name, how="large"))
    print(f"pserver: WARNING: look at {name} again", file=sys.stderr)
    print(f"pserver: WARNING: {name}", file=sys.stderr)
    print("no message")
    sys.stderr.write("look at it once more\\n")
    raise KeyError(name) from None

def end(parser):
    parser.error("an option is missing")
    sys.exit(LIMIT)
"""


def test_messages_of_a_module() -> None:
    found = {(message.kind, message.text) for message in messages_of(ast.parse(SOURCE), "a.py")}
    assert found == {
        ("reason", "the user … may not do this"),
        ("ConfigurationError", "… has … bytes: give a smaller file"),
        ("warn", "… has … bytes"),
        ("warn", "there is no name"),
        ("OSError", "the file … is too …"),
        ("printed", "look at … again"),
        ("printed", "look at it once more"),
        ("error", "an option is missing"),
        ("exit", "too large"),
    }


@pytest.mark.parametrize(
    ("entry", "fits"),
    [
        ("cannot read …: …", True),
        ("CredentialError: cannot …", True),
        ("ProtocolError: …", False),
        ("cannot write …", False),
        ("read …", False),
    ],
)
def test_an_entry_matches_a_whole_message(entry: str, fits: bool) -> None:
    assert Entry(entry, "a.md:1").matches(Message("CredentialError", "cannot read …: …", "a.py:1")) is fits


def test_entries_of_a_page(tmp_path: Path) -> None:
    page = tmp_path / "a.md"
    page.write_text(
        "| message | cause | do |\n| --- | --- | --- |\n| `one …`<br>`` `two` `` | `x` | y |\n\n`three`\n"
    )
    assert [(entry.text, entry.place) for entry in read_entries(page)] == [
        ("one …", "a.md:3"),
        ("`two`", "a.md:3"),
    ]
