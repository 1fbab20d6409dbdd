"""The options of a server, derived from the fields of `ServerConfig`: command line, keywords and documentation.

To add an option, add a field to `ServerConfig`; nothing here names a single option.
"""

import argparse
import dataclasses
import inspect
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pconnect.public_names import nearest
from pserver.config.option import Option
from pserver.config.server_config import ServerConfig
from srp_tools.errors import ConfigurationError


class CommandParser(argparse.ArgumentParser):
    """A parser that accepts no abbreviations; its errors suggest the option that was probably meant."""

    def __init__(self, **more: Any) -> None:
        super().__init__(allow_abbrev=False, **more)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse all arguments; on an unknown one, print the usage and exit with status 2."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            shown = [action for action in self._actions if action.help != argparse.SUPPRESS]
            options = [flag for action in shown for flag in action.option_strings if flag.startswith("--")]
            hints = [
                nearest(each.partition("=")[0], options) if each.startswith("-") else "" for each in unknown
            ]
            wrong = [f"{each}{hint}" for each, hint in zip(unknown, hints, strict=True)]
            self.error(f"unrecognized arguments: {' '.join(wrong)}")
        return found, unknown


def add_options(parser: argparse._ActionsContainer) -> None:
    """Add the options of a server; their destinations are the fields of `ServerConfig`."""
    for field in server_options().values():
        option: Option = field.metadata["option"]
        common: dict[str, Any] = {"dest": field.name, "default": argparse.SUPPRESS}
        if isinstance(field.default, bool):
            common["action"] = "store_const"
            parser.add_argument(*flags_of(field), **common, const=not field.default, help=option.help)
            undoing = _undoing(flags_of(field)[0])
            parser.add_argument(undoing, **common, const=field.default, help=argparse.SUPPRESS)
        else:
            value = f"{field.default:g}" if isinstance(field.default, float) else field.default
            text = f"{option.help} Default: {option.default_text or value}.".replace("%", "%%")
            if isinstance(field.default, tuple):
                common["action"] = "extend"
            if option.bare is not None:
                common |= {"nargs": "?", "const": option.bare}
            parser.add_argument(
                *flags_of(field), **common, type=_parser_for(option), metavar=option.metavar, help=text
            )


def _undoing(flag: str) -> str:
    """Return the flag that undoes a switch, which the configuration file may have set.

    Examples
    --------
    >>> _undoing("--no-tls"), _undoing("--allow-root")
    ('--tls', '--no-allow-root')
    """
    return f"--{flag[5:]}" if flag.startswith("--no-") else f"--no-{flag[2:]}"


def given_options(namespace: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that appear on a command line."""
    return {name: getattr(namespace, name) for name in server_options() if hasattr(namespace, name)}


def config_of(namespace: argparse.Namespace) -> ServerConfig:
    """Return the settings of parsed options alone, without environment or configuration file.

    Raises `ConfigurationError` if a setting is invalid.
    """
    return ServerConfig(**given_options(namespace))


def start_options(config: ServerConfig) -> list[str]:
    """Return the options of ``pserver start`` that produce `config`."""
    values = {name: getattr(config, name) for name in server_options()}
    for name, field in server_options().items():
        if isinstance(field.default, bool) and values[name] == field.default:
            del values[name]
    return options_of(values)


def options_of(values: Mapping[str, Any]) -> list[str]:
    """Return the options that produce these settings, whatever the configuration file contains."""
    options: list[str] = []
    for name, field in server_options().items():
        value = values.get(name)
        flag = flags_of(field)[0]
        if isinstance(value, bool):
            options.append(flag if value != field.default else _undoing(flag))
        elif isinstance(value, tuple):
            options += [f"{flag}={item}" for item in value]
        elif value is not None:
            options.append(f"{flag}={value}")
    return options


def check_keywords(function: str, names: Iterable[str]) -> None:
    """Refuse keywords that are not options of a server.

    Raises `TypeError` for an unknown keyword; the message suggests the one that was probably meant.
    """
    known = list(server_options())
    for name in names:
        if name not in known:
            raise TypeError(f"{function}() has no option {name!r}{nearest(name, known)}")


def document_options(function: Callable[..., Any]) -> None:
    """Give a function the signature and the descriptions of a server's options, which it takes as keywords.

    The descriptions replace the line ``{options}`` of its docstring.
    """
    own = inspect.signature(function)
    positional = [each for each in own.parameters.values() if each.kind is each.POSITIONAL_ONLY]
    keywords = [
        inspect.Parameter(
            each.name, inspect.Parameter.KEYWORD_ONLY, default=each.default, annotation=each.type
        )
        for each in server_options().values()
    ]
    own = own.replace(parameters=[*positional, *keywords])
    function.__signature__ = own  # type: ignore[attr-defined]
    described = "\n".join(
        f"{name}\n{_paragraph(field.metadata['option'])}" for name, field in server_options().items()
    )
    function.__doc__ = inspect.cleandoc(function.__doc__ or "").replace("{options}", described)


def server_options() -> dict[str, "dataclasses.Field[Any]"]:
    """Return the settings of a server by name; the metadata of each contain its `Option`."""
    return {field.name: field for field in dataclasses.fields(ServerConfig)}


def flags_of(field: "dataclasses.Field[Any]") -> Sequence[str]:
    """Return the flags of a setting on the command line."""
    option: Option = field.metadata["option"]
    return option.flags or (f"--{field.name.replace('_', '-')}",)


def _paragraph(option: Option) -> str:
    """Return the description of an option in numpydoc's format; the signature shows its default."""
    text = f"{option.help} Default: {option.default_text}." if option.default_text else option.help
    return textwrap.fill(text, 100, initial_indent="    ", subsequent_indent="    ")


def _parser_for(option: Option) -> Callable[[str], object]:
    def parse(text: str) -> object:
        try:
            return option.parse(text)
        except ConfigurationError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    # argparse quotes this name when a value cannot be parsed, as in "invalid int value".
    parse.__name__ = getattr(option.parse, "__name__", "option")
    return parse
