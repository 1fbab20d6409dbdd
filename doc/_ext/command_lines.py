"""The directive ``command-line``: the help of a command and of all its subcommands, from its parser."""

import argparse
import contextlib
import importlib
import os
from collections.abc import Iterator
from unittest import mock

from docutils import nodes
from markdown_text import escaped
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

#: Each command's function, and arguments for which it makes a parser with all its options.
COMMANDS: dict[str, tuple[str, tuple[list[str], ...]]] = {
    "pserver": ("pserver.cli", (["deploy"], ["demo"])),
    "pstat": ("pserver.pstat.cli", ([],)),
    "generate-srp-data": ("srp_tools.cli", ([],)),
    "pshadow": ("pconnect.shadow.cli", ([],)),
}
_HEADINGS = 6  # Markdown has no deeper headings
_USAGE_LINES = 8  # longer usage lines say less than the list of options below them


class _Found(BaseException):
    """Carries a parser out of the command that is about to use it."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


@contextlib.contextmanager
def _somebody() -> Iterator[None]:
    """Make help texts name neutral folders, in lines of fixed width."""
    variables = {"HOME": "/home/alice", "COLUMNS": "80", "NO_COLOR": "1"}
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("XDG_", "PCONNECT_", "PSERVER_"))
    }
    with mock.patch.dict(os.environ, kept | variables, clear=True):
        yield


def parsers_of(command: str) -> list[argparse.ArgumentParser]:
    """Return the parsers that a command makes; the first one is for the whole command."""
    module, calls = COMMANDS[command]
    main = importlib.import_module(module).main

    def carry_out(parser: argparse.ArgumentParser, *_: object) -> None:
        raise _Found(parser)

    found = []
    for arguments in calls:
        with _somebody(), mock.patch.object(argparse.ArgumentParser, "parse_args", carry_out):
            try:
                main(arguments)
            except _Found as caught:
                found.append(caught.parser)
    return found


def subcommands(parser: argparse.ArgumentParser) -> dict[str, tuple[str, argparse.ArgumentParser]]:
    """Return the help and the parser of each subcommand."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {each.dest: each.help or "" for each in action._choices_actions}
            return {name: (helps.get(name, ""), each) for name, each in action.choices.items()}
    return {}


def markdown(command: str) -> str:
    """Return the reference of a command and its subcommands as Markdown, without a title."""
    parser, *special = parsers_of(command)
    with _somebody():
        return "\n".join(_parts(parser, "", {each.prog: each for each in special}, 1))


def is_shown(action: argparse.Action) -> bool:
    """Return whether an option or argument has an entry: all parsers have ``--help``, and subcommands have sections."""
    return action.help != argparse.SUPPRESS and not isinstance(
        action, (argparse._HelpAction, argparse._SubParsersAction)
    )


def _parts(
    parser: argparse.ArgumentParser, text: str, special: dict[str, argparse.ArgumentParser], level: int
) -> Iterator[str]:
    parser = special.get(parser.prog, parser)
    if level > 1:
        yield f"{'#' * min(level, _HEADINGS)} {parser.prog}\n"
    described = parser.description or text
    if described:
        yield f"{escaped(_sentence(described))}\n"
    usage = parser.format_usage().strip()
    if usage.count("\n") > _USAGE_LINES:
        usage = f"usage: {parser.prog} [options]"
        usage += "".join(f" {_value(parser, each)}" for each in parser._actions if not each.option_strings)
    yield f"```text\n{usage}\n```\n"
    yield f"```{{program}} {parser.prog}\n```\n"
    for action in parser._actions:
        if is_shown(action):
            yield _option(parser, action)
    if parser.epilog:
        yield f"{escaped(parser.epilog)}\n"
    for help_text, each in subcommands(parser).values():
        yield from _parts(each, help_text, special, level + 1)


def _value(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """Return the value of an option, or a positional argument, as usage lines show it."""
    formatter = parser._get_formatter()
    default = formatter._get_default_metavar_for_optional(action) if action.option_strings else action.dest
    return formatter._format_args(action, default)


def _option(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    text = parser._get_formatter()._expand_help(action) if action.help else ""
    value = _value(parser, action) if action.nargs != 0 else ""
    names = [f"{name} {value}".rstrip() for name in action.option_strings] or [
        str(action.metavar or action.dest)
    ]
    return f"::::{{option}} {', '.join(map(str, names))}\n{escaped(_sentence(text))}\n::::\n"


def _sentence(text: str) -> str:
    """Return a text with a capital and a full stop, which one-line help texts lack."""
    text = " ".join(text.split())
    if not text:
        return ""
    return text[0].upper() + text[1:] + ("" if text.endswith((".", ":", "!", "?")) else ".")


class CommandLine(SphinxDirective):
    """Shows the command named by its argument."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the nodes of the sections."""
        self.env.note_reread()  # parsers can change when the page does not
        return self.parse_text_to_nodes(markdown(self.arguments[0]), allow_section_headings=True)


class HelpText(SphinxDirective):
    """Shows a help text that no parser makes: the argument names the module and its constant."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return one literal block."""
        self.env.note_reread()
        module, _, name = self.arguments[0].rpartition(".")
        text: str = getattr(importlib.import_module(module), name)
        return [nodes.literal_block(text, text, language="none")]


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directives."""
    app.add_directive("command-line", CommandLine)
    app.add_directive("help-text", HelpText)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
