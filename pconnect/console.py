"""Display of the engines' output; see `pconnect.commands.console`."""

from pconnect.commands.console import Console, Sink, StandardStreams, with_prefix

__all__ = ["Console", "Sink", "StandardStreams", "with_prefix"]
