"""The commands that show and save the settings of a server."""

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
    """Add the options of a server, and ``--config`` for its configuration file."""
    add_options(parser)
    text = "Read settings from this file. Default: pserver.toml next to the users' file, if it exists."
    parser.add_argument("--config", type=Path, metavar="FILE", help=text)


def settings_of(options: argparse.Namespace) -> Settings:
    """Return the settings of a command line on this machine; raise `ConfigurationError` if one of them is invalid."""
    return resolve(given_options(options), os.environ, options.config)


def save_config(options: argparse.Namespace) -> int:
    """Write or print a configuration file; name the settings that were left out."""
    text, left_out = as_toml(settings_of(options).config)
    if options.save_config == "-":
        print(text, end="")
    else:
        write_private(Path(options.save_config), text)
        print(f"Wrote {options.save_config}.", file=sys.stderr)
    if left_out:
        print(f"Left out settings that fit one machine only: {', '.join(left_out)}.", file=sys.stderr)
    return 0


def show_config(options: argparse.Namespace) -> int:
    """Print all settings and their sources."""
    print(shown_settings(settings_of(options)))
    return 0


def shown_settings(settings: Settings) -> str:
    """Return all settings and their sources as a table for people."""
    rows = [
        [name, _shown(getattr(settings.config, name)), settings.sources.get(name, "default")]
        for name in server_options()
    ]
    table = str(Table(["NAME", "VALUE", "FROM"], rows))
    none = "" if settings.path else f"\nThere is no configuration file; it would be {default_file()}."
    return f"{table}{none}"


def _shown(value: object) -> object:
    """Return a value in TOML's notation, but strings without quotation marks, and a hyphen for ``None``."""
    if value is None:
        return "-"
    return os.fspath(value) if isinstance(value, str | os.PathLike) else json.dumps(value)
