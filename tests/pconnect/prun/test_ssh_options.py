"""The tables of ssh's options are complete and agree with the documentation."""

import re
import subprocess
from pathlib import Path

from pconnect.prun.ssh_options import KEY_NAMES, KEYS, OPTIONS, Fate, Row
from tests.support.programs import program

PAGE = Path(__file__).parents[3] / "doc" / "reference" / "prun-ssh.md"
# Options of older and newer versions of ssh than the installed one.
OTHER_VERSIONS = {"P"}


def shown(name: str, row: Row) -> str:
    return f"| {name} | {row.fate.value} | {row.why} |"


def test_the_page_has_each_option_as_it_is() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    rows = [
        shown(f"`-{letter} {row.argument}`" if row.argument else f"`-{letter}`", row)
        for letter, row in OPTIONS.items()
    ]
    assert [line for line in lines if line.startswith("| `-")] == rows


def test_the_page_has_each_key_as_it_is() -> None:
    """Keys with the same treatment for the same reason share a row."""
    page = PAGE.read_text(encoding="utf-8")
    found: dict[str, tuple[str, str]] = {}
    for names, fate, why in re.findall(
        r"^\| ((?:`[A-Z]\w+`(?:, )?)+) \| (\w+) \| (.*) \|$", page, re.MULTILINE
    ):
        found |= dict.fromkeys(re.findall(r"\w+", names), (fate, why))
    assert found == {name: (KEYS[name.lower()].fate.value, KEYS[name.lower()].why) for name in KEY_NAMES}


def test_ssh_has_no_other_options() -> None:
    """The usage message of ssh lists the letters without arguments together, and the others one by one."""
    usage = subprocess.run(
        [program("ssh", "openssh-client")], capture_output=True, text=True, check=False
    ).stderr
    flags = set(re.findall(r"usage: ssh \[-(\w+)\]", usage)[0])
    takers = set(re.findall(r"\[-(\w) ", usage))
    assert flags - {letter for letter, row in OPTIONS.items() if not row.argument} == set()
    assert takers - {letter for letter, row in OPTIONS.items() if row.argument} - OTHER_VERSIONS == set()


def test_ssh_has_no_other_keys() -> None:
    shown = subprocess.run(
        [program("ssh", "openssh-client"), "-F", "none", "-G", "host"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    names = {line.split()[0].lower() for line in shown.splitlines()} - {"host"}
    assert names - set(KEYS) == set()


def test_what_is_refused_says_why() -> None:
    refused = [row for row in (*OPTIONS.values(), *KEYS.values()) if row.fate is Fate.REFUSED]
    assert len(refused) > 10
    assert all(row.why and not row.why.endswith(".") for row in (*OPTIONS.values(), *KEYS.values()))
