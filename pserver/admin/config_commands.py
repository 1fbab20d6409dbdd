"""The commands that show and write the settings of a server."""

import argparse
import json
import os
import sys
from pathlib import Path

from pconnect.commands.table import Table
from pserver.admin.options import add_options, given_options, server_options
from pserver.admin.settings import Settings, as_toml, default_file, resolve
from srp_tools.private_files import write_private


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add the options of a server, and that of its configuration file."""
    add_options(parser)
    text = "Take settings from this file. Default: pserver.toml beside the users' file, if it is there."
    parser.add_argument("--config", type=Path, metavar="FILE", help=text)


def settings_of(options: argparse.Namespace) -> Settings:
    """Return the settings that a command line means here; raise `ConfigurationError` if one cannot be used."""
    return resolve(given_options(options), os.environ, options.config)


def save_config(options: argparse.Namespace) -> int:
    """Write a configuration file, or print it, and say what was left out of it."""
    text, left_out = as_toml(settings_of(options).config)
    if options.save_config == "-":
        print(text, end="")
    else:
        write_private(Path(options.save_config), text)
        print(f"Wrote {options.save_config}.", file=sys.stderr)
    if left_out:
        print(f"Left out, because it is right for one machine only: {', '.join(left_out)}.", file=sys.stderr)
    return 0


def show_config(options: argparse.Namespace) -> int:
    """Print all settings, and where each is from."""
    print(shown_settings(settings_of(options)))
    return 0


def shown_settings(settings: Settings) -> str:
    """Return all settings, and where each is from, for people."""
    rows = [
        [name, _shown(getattr(settings.config, name)), settings.sources.get(name, "default")]
        for name in server_options()
    ]
    table = str(Table(["NAME", "VALUE", "FROM"], rows))
    none = "" if settings.path else f"\nThere is no configuration file; it would be {default_file()}."
    return f"{table}{none}"


def _shown(value: object) -> object:
    """Return a value as the configuration file has it, but texts without quotation marks, and nothing as a hyphen."""
    if value is None:
        return "-"
    return os.fspath(value) if isinstance(value, str | os.PathLike) else json.dumps(value)
