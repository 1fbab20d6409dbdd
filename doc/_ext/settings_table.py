"""The directive ``settings``: an entry for each setting of a server, from the dataclasses that declare them."""

from dataclasses import MISSING, Field, fields
from typing import Any

from docutils import nodes
from markdown_text import escaped
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from pserver.config.option import Option, duration_text, parse_duration, parse_size, size_text
from pserver.config.server_config import ServerConfig


def default_text(field: Field[Any], option: Option) -> str:
    """Return the default of a setting as you would write it in the configuration file."""
    default = None if field.default is MISSING else field.default
    text = option.default_text
    if text is None and option.parse is parse_size and isinstance(default, int):
        text = size_text(default) if default else "0"
    if text is None and option.parse is parse_duration and isinstance(default, float):
        text = duration_text(default)
    if text is None and isinstance(default, bool):
        text = str(default).lower()
    if text is None and isinstance(default, tuple):
        text = ", ".join(map(str, default)) or "empty"
    if text is None:
        text = (
            "not set" if default is None else f"{default:g}" if isinstance(default, float) else str(default)
        )
    return text


def markdown() -> str:
    """Return the entries as Markdown, sorted by name."""
    entries = []
    for field in sorted(fields(ServerConfig), key=lambda each: each.name):
        option: Option = field.metadata["option"]
        reloads = "A running server takes a new value at `pserver reload`." if option.reloads else ""
        without = "`false`: " if field.default is True else ""
        entries.append(
            f"::::{{confval}} {field.name}\n:default: {escaped(default_text(field, option))}\n\n"
            f"{without}{escaped(option.help)} {reloads}\n::::\n"
        )
    return "\n".join(entries)


class Settings(SphinxDirective):
    """Shows all settings."""

    def run(self) -> list[nodes.Node]:
        """Return the nodes of the entries."""
        self.env.note_reread()  # settings can change when the page does not
        return self.parse_text_to_nodes(markdown())


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directive."""
    app.add_directive("settings", Settings)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
