"""Display of the engines' output on the client.

Each network has one `Console`. It reassembles the pieces that arrive: bytes to text, pieces to the output of one
command, and a line wherever output is missing. A *sink* decides where the text appears: the standard one writes to
``sys.stdout`` and ``sys.stderr``, and a front end such as a notebook installs its own.
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
# ANSI colours that are readable on black and on white: cyan, green, magenta, blue, yellow.
_PALETTE = (36, 32, 35, 34, 33)
# Where a source's text continues at the start of a line, and needs its prefix again.
_LINE_BEGINS = re.compile(r"\n(?=.)|\r(?=[^\r\n])", re.DOTALL)


class Sink(Protocol):
    """Where the output of engines is shown.

    It receives the text without the node's prefix, in order for each node and stream; and notices of this package, each
    on its own line in parentheses. Control characters and sequences are limited to colours, tabs and carriage returns;
    others are shown as escapes, see `pconnect.commands.print_filter`. A front end sets ``net.mesh.console.sink``.

    Attributes
    ----------
    max_shown_bytes
        How much of each stream of a command on a node is shown, for front ends that keep everything they have shown.
        When the command ends, one notice says how many bytes were not shown. ``None``: no limit.
    """

    max_shown_bytes: int | None

    def write(self, node: int, host: str, stream: int, text: str, command: Command | None) -> None:
        """Show text.

        Parameters
        ----------
        node, host
            The node that printed the text.
        stream
            1 standard output, 2 standard error.
        text
            Never empty; a part of a line, or several lines.
        command
            The command that was running; ``None`` if there was none, or its object is gone.
        """


@dataclass
class Source:
    """One stream of one node, or of one job there."""

    node: int
    host: str  #: shown after the node's number in the prefix of lines
    stream: int
    decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace")
    )
    filter: PrintFilter = field(default_factory=PrintFilter)
    line_is_open: bool = False
    shown: int = 0  # bytes of the running command
    hidden: int = 0

    def text(self, data: bytes, *, is_trusted: bool) -> str:
        """Return the display form of the next bytes."""
        text = self.decoder.decode(data)
        return self.filter.end() + text if is_trusted else self.filter.feed(text)

    def rest(self) -> str:
        """Return the display form of an incomplete character or sequence at the end, and start over."""
        return self.filter.feed(self.decoder.decode(b"", True)) + self.filter.end()


class Console:
    """The output of the engines of one network.

    Attributes
    ----------
    sink
        Where it is shown. If it raises, the error is logged and the sink gets no more output; the network is not
        affected, and `Command.stdout` still has the output. You may set another sink at any time.
    quieted
        How often each node was silenced, see `pconnect.quiet`.
    is_trusted
        Whether the sink receives all control characters and sequences unchanged.
    """

    def __init__(self) -> None:
        self.sink: Sink = StandardStreams()
        self.quieted: dict[int, int] = {}
        self.is_trusted = False
        self._failed: Sink | None = None
        self._sources: dict[tuple[int, int], Source] = {}

    def take(self, node: int, host: str, stream: int, value: object, command: Command | None) -> None:
        """Handle the value of an OUTPUT message; see doc/protocol.md.

        Raises
        ------
        ProtocolError
            The value is not one of an OUTPUT message.
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
        """End a command: show the rest of its output, and report how much was not shown."""
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
        """Show the output of a job; any thread may call this, one at a time for a source."""
        self._write(source, source.text(data, is_trusted=self.is_trusted), None)

    def show_end(self, source: Source, hint: str = ": job.{name} has the last of them") -> None:
        """Show the rest of a job's output, report how much was not shown, and end its line.

        `hint`: where the rest is.
        """
        words = source.rest()
        if source.hidden:
            where = hint.format(name=STREAMS[source.stream])
            words += _notice(source, f"{source.hidden} more bytes are not shown here{where}")
        self._write(source, words or "\n" * source.line_is_open, None)

    def end_lines(self, node: int) -> None:
        """End the lines that a replaced engine of a node has left open."""
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
            # The sink is foreign code, and this runs while a message is handled: its failure is not an error of the
            # link.
            log.exception("output of engines is no longer shown: the sink failed")
            self._failed = self.sink


def _notice(source: Source, words: str) -> str:
    return "\n" * source.line_is_open + f"({words})\n"


class StandardStreams:
    """The sink that writes to ``sys.stdout`` and ``sys.stderr`` immediately, with ``[2 hostB]`` before each line.

    Lines of different nodes and streams do not mix: an open line is ended when another source continues. On a terminal
    the prefix has the colour of the node, in reverse for standard error, unless ``NO_COLOR`` is set.

    If a stream cannot be written to, because it was closed or its reader is gone, this is logged once and the stream is
    not used again; a replacement in ``sys`` is used. Output of jobs is written by the thread that manages them.
    """

    max_shown_bytes: int | None = None

    def __init__(self) -> None:
        # The open line: its source, our stream, and whether its last character was a carriage return.
        self._open: tuple[tuple[int, str, int], TextIO, bool] | None = None
        self._broken: dict[int, TextIO] = {}
        self._lock = threading.RLock()

    def write(self, node: int, host: str, stream: int, text: str, command: Command | None) -> None:  # noqa: ARG002
        """Show text; see `Sink.write`."""
        out = sys.stdout if stream == 1 else sys.stderr
        if out is None or out is self._broken.get(stream):  # a program without a console has no streams
            return
        source = node, host, stream
        try:
            with self._lock:
                clear_bars()
                before = self._continue(source, out)
                prefix = _prefix(node, host, stream, in_colour=_shows_colours(out))
                _put(out, with_prefix(text, prefix, before))
                self._remember(source, out, text, before)
        except (OSError, ValueError) as error:  # ValueError: the stream is closed
            self._broken[stream] = out
            self._open = None
            log.warning("output of engines on %s is no longer shown: %s", STREAMS[stream], error)

    def _continue(self, source: tuple[int, str, int], out: TextIO) -> str:
        """End the line of another source; return the last character of this source's open line, or a newline."""
        if self._open is None:
            return "\n"
        whose, where, returned = self._open
        if whose == source and where is out:
            return "\r" if returned else " "
        self._open = None
        # Otherwise the stream was replaced, together with its open line.
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
    r"""Return text with a prefix at the start of each line, also after a carriage return.

    Parameters
    ----------
    before
        What the text follows: a newline, a carriage return, or anything else.

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
    except UnicodeEncodeError:  # the encoding is ASCII or similar: none of the text was written
        encoding = out.encoding or "ascii"
        out.write(text.encode(encoding, "backslashreplace").decode(encoding))
    out.flush()
