"""Showing on the client what engines print.

A `Console` is that of one network. It puts the pieces that arrive together again: bytes to text, pieces to what one
command printed, and a line wherever something is missing. Where it shows the text is a *sink*'s affair: the standard
one writes to ``sys.stdout`` and ``sys.stderr``, and a front end such as a notebook puts its own in its place.
"""

import codecs
import logging
import os
import re
import sys
import threading
from dataclasses import dataclass, field
from typing import Protocol, TextIO

from pconnect.commands.captured_output import DROPPED
from pconnect.commands.command import Command
from pconnect.commands.print_filter import PrintFilter
from pconnect.errors import ProtocolError
from pconnect.loop.terminal_bar import clear_bars

log = logging.getLogger("pconnect")

STREAMS = {1: "stdout", 2: "stderr"}
# ANSI colours that can be read on black and on white: cyan, green, magenta, blue, yellow.
_PALETTE = (36, 32, 35, 34, 33)
# Where the text of a source goes on at the beginning of a line, and has to say again whose it is.
_LINE_BEGINS = re.compile(r"\n(?=.)|\r(?=[^\r\n])", re.DOTALL)


class Sink(Protocol):
    """Where the output of engines is shown.

    It gets the text without the node in front, in order for each node and stream; and notices of this package, each a
    line of its own in parentheses. Of control characters and sequences it gets colours, tabs and carriage returns, the
    others as escapes, see `pconnect.commands.print_filter`. A front end writes ``net.mesh.console.sink = its_own``.

    Attributes
    ----------
    max_shown_bytes
        How much of each stream of a command on a node is shown, for front ends that keep all they have shown; then,
        when the command ends, one notice says how much was not. ``None``: all of it.
    """

    max_shown_bytes: int | None

    def write(self, node: int, host: str, stream: int, text: str, command: Command | None) -> None:
        """Show text.

        Parameters
        ----------
        node, host
            Who printed it.
        stream
            1 standard output, 2 standard error.
        text
            Never empty; a part of a line, or several lines.
        command
            What ran at that time; ``None`` if nothing did, or the command object is gone.
        """


@dataclass
class Source:
    """One stream of one node, or of one job there."""

    node: int
    host: str  #: what stands behind the number of the node in front of lines
    stream: int
    decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace")
    )
    filter: PrintFilter = field(default_factory=PrintFilter)
    line_is_open: bool = False
    shown: int = 0  # bytes of the command that runs
    hidden: int = 0

    def text(self, data: bytes, *, is_trusted: bool) -> str:
        """Return how the next bytes are shown."""
        text = self.decoder.decode(data)
        return self.filter.end() + text if is_trusted else self.filter.feed(text)

    def rest(self) -> str:
        """Return how half a character or sequence is shown that was left over, and begin anew."""
        return self.filter.feed(self.decoder.decode(b"", True)) + self.filter.end()


class Console:
    """What the engines of one network print.

    Attributes
    ----------
    sink
        Where it is shown. If it raises, that is logged, and it gets nothing any more; the network lives on, and
        `Command.stdout` has what comes. Another one may be put here at any time.
    quieted
        How often each node was silenced, see `pconnect.quiet`.
    is_trusted
        Whether the sink gets all control characters and sequences as they are.
    """

    def __init__(self) -> None:
        self.sink: Sink = StandardStreams()
        self.quieted: dict[int, int] = {}
        self.is_trusted = False
        self._failed: Sink | None = None
        self._sources: dict[tuple[int, int], Source] = {}

    def take(self, node: int, host: str, stream: int, value: object, command: Command | None) -> None:
        """Take the value of an OUTPUT message; see doc/protocol.md.

        Raises
        ------
        ProtocolError
            It is none.
        """
        match value:
            case [int(), bytes() as data, int() as dropped] if stream in STREAMS and dropped >= 0:
                pass
            case _:
                raise ProtocolError("not the output of an engine")
        if command is not None:
            command.printed[stream].add(data, dropped)
            if command.is_quiet:
                return
        source = self._sources.setdefault((node, stream), Source(node, host, stream))
        if dropped:
            words = source.rest() + _notice(source, DROPPED.format(dropped))
            self._write(source, words, command)
        limit = self.sink.max_shown_bytes
        shown = data if limit is None else data[: max(0, limit - source.shown)]
        source.shown += len(shown)
        source.hidden += len(data) - len(shown)
        self._write(source, source.text(shown, is_trusted=self.is_trusted), command)

    def end(self, node: int, command: Command | None) -> None:
        """End a command: show what is left of its output, and how much was not shown."""
        for stream, name in STREAMS.items():
            source = self._sources.get((node, stream))
            if source is None:
                continue
            words = source.rest()
            if source.hidden:
                words += _notice(source, f"{source.hidden} more bytes of {name} are not shown here")
            self._write(source, words, command)
            source.shown = source.hidden = 0

    def show(self, source: Source, data: bytes) -> None:
        """Show what a job prints; any thread may call this, one at a time for a source."""
        self._write(source, source.text(data, is_trusted=self.is_trusted), None)

    def show_end(self, source: Source, hint: str = ": job.{name} has the last of them") -> None:
        """Show what is left of what a job has printed, and how much was not shown, and end its line.

        `hint`: where the rest is.
        """
        words = source.rest()
        if source.hidden:
            where = hint.format(name=STREAMS[source.stream])
            words += _notice(source, f"{source.hidden} more bytes are not shown here{where}")
        self._write(source, words or "\n" * source.line_is_open, None)

    def end_lines(self, node: int) -> None:
        """End the lines that the engine of a node has left open; another engine is in its place."""
        for source in self._sources.values():
            if source.node == node and source.line_is_open:
                self._write(source, "\n", None)

    def _write(self, source: Source, text: str, command: Command | None) -> None:
        if not text:
            return
        source.line_is_open = not text.endswith("\n")
        if self.sink is self._failed:
            return
        try:
            self.sink.write(source.node, source.host, source.stream, text, command)
        except Exception:
            # The sink is not ours, and this is in the middle of taking a message: its failure is no error of the link.
            log.exception("what engines print is not shown any more, because showing it failed")
            self._failed = self.sink


def _notice(source: Source, words: str) -> str:
    return "\n" * source.line_is_open + f"({words})\n"


class StandardStreams:
    """The sink that writes to ``sys.stdout`` and ``sys.stderr``, at once, with ``[2 hostB]`` in front of each line.

    Lines of different nodes and streams do not mix: a line that is still open is ended when another goes on. At a
    terminal what is in front is in the colour of the node, for standard error in reverse, unless ``NO_COLOR`` is set.

    A stream that cannot be written to, because it was closed or what read it is gone, is logged once and left alone;
    one that is put into its place is used. What jobs print comes in the thread that looks after them.
    """

    max_shown_bytes: int | None = None

    def __init__(self) -> None:
        # The line that is open: whose, on which stream of ours, and whether a carriage return was its last character.
        self._open: tuple[tuple[int, str, int], TextIO, bool] | None = None
        self._broken: dict[int, TextIO] = {}
        self._lock = threading.RLock()

    def write(self, node: int, host: str, stream: int, text: str, command: Command | None) -> None:  # noqa: ARG002
        """Show text; see `Sink.write`."""
        out = sys.stdout if stream == 1 else sys.stderr
        if out is None or out is self._broken.get(stream):  # a program without a console has none
            return
        source = node, host, stream
        try:
            with self._lock:
                clear_bars()
                before = self._continue(source, out)
                prefix = _prefix(node, host, stream, in_colour=_shows_colours(out))
                _put(out, with_prefix(text, prefix, before))
                self._remember(source, out, text, before)
        except (OSError, ValueError) as error:  # ValueError: it is closed
            self._broken[stream] = out
            self._open = None
            log.warning("what engines print on %s is not shown any more: %s", STREAMS[stream], error)

    def _continue(self, source: tuple[int, str, int], out: TextIO) -> str:
        """End the line of another source; return the last character of the own open line, or a line's end."""
        if self._open is None:
            return "\n"
        whose, where, returned = self._open
        if whose == source and where is out:
            return "\r" if returned else " "
        self._open = None
        # Else it was put aside, with its open line.
        if where is (sys.stdout if whose[2] == 1 else sys.stderr):
            where.write("\n")
            where.flush()
        return "\n"

    def _remember(self, source: tuple[int, str, int], out: TextIO, text: str, before: str) -> None:
        if text.endswith("\n"):
            self._open = None
        elif before != "\n" or text.strip("\r"):
            self._open = source, out, text.endswith("\r")


def with_prefix(text: str, prefix: str, before: str) -> str:
    r"""Return text with a prefix at the beginning of each line, also where a carriage return begins it anew.

    Parameters
    ----------
    before
        What this goes on after: a line's end, a carriage return, or anything else.

    Examples
    --------
    >>> with_prefix("a\n\nb", "> ", "\n"), with_prefix(" 10%\r 20%", "> ", "\r"), with_prefix("...\n", "> ", ".")
    ('> a\n> \n> b', '>  10%\r>  20%', '...\n')
    """
    begins = (before == "\n" and text[0] != "\r") or (before == "\r" and text[0] not in "\r\n")
    return prefix * begins + _LINE_BEGINS.sub(lambda found: found[0] + prefix, text)


def _prefix(node: int, host: str, stream: int, *, in_colour: bool) -> str:
    if not in_colour:
        return f"[{node} {host}] "
    reverse = "7;" if stream == 2 else ""
    return f"\x1b[{reverse}{_PALETTE[(node - 1) % len(_PALETTE)]}m[{node} {host}]\x1b[0m "


def _shows_colours(out: TextIO) -> bool:
    return out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _put(out: TextIO, text: str) -> None:
    try:
        out.write(text)
    except UnicodeEncodeError:  # it takes ASCII or the like: nothing of the text was written
        encoding = out.encoding or "ascii"
        out.write(text.encode(encoding, "backslashreplace").decode(encoding))
    out.flush()
