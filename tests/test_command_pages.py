"""The reference of commands and settings is generated from the parsers and dataclasses, and is complete."""

import argparse
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from command_lines import COMMANDS, is_shown, markdown, parsers_of, subcommands
from settings_table import markdown as settings

from pserver.config.server_config import ServerConfig

ROOT = Path(__file__).parent.parent


def test_each_command_has_a_page() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    names = {Path(each).name for each in project["tool"]["setuptools"]["script-files"]}
    names |= project["project"]["scripts"].keys()
    pages = {
        path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "doc/reference/cli").glob("*.md")
    }
    assert pages.keys() - {"index"} == names
    assert {name for name, page in pages.items() if f"{{command-line}} {name}\n" in page} == COMMANDS.keys()


def parsers_below(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for _, each in subcommands(parser).values():
        yield from parsers_below(each)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_page_has_all_subcommands_and_options(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/bob")
    page = markdown(command)
    assert "bob" not in page
    first, *special = parsers_of(command)
    assert first.prog == command
    for parser in [*parsers_below(first), *special]:
        if parser is not first:
            assert f"# {parser.prog}\n" in page
        section = page.partition(f"{{program}} {parser.prog}\n")[2].partition("{program}")[0]
        for action in parser._actions:
            if is_shown(action):
                assert all(name in section for name in action.option_strings), (parser.prog, action)


def test_demo_and_deploy_have_their_own_options() -> None:
    page = markdown("pserver")
    assert "{option} --output FILE" in page
    assert "{option} --remove" in page


def test_settings_are_all_there() -> None:
    page = settings()
    for field in fields(ServerConfig):
        assert f"{{confval}} {field.name}\n" in page
    assert "{confval} keep_results\n:default: 7" in page
