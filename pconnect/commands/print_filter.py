r"""Filter for the engines' output to a terminal or notebook: colours pass, all other control sequences do not.

A node's text must stay in its own lines, after its prefix ``[1 hostA]``. So the only control characters that pass are
tab, newline and carriage return, and the only control sequences are SGR (ECMA-48, section 8.3.117), which set colours.
Others are shown as escapes, including backspace, which could reach the prefix. Colours affect only the node's text:
they end with its line and with a piece of its text, because other text may follow; then they are set again.
"""

import functools
import re
from collections import deque

from srp_tools.printable import CONTROLS, escape

_RESET = "\x1b[0m"
# Enough for several colours of 24 bits. A longer sequence is not a colour.
_PARAMETERS = r"[0-9;:]{0,64}"
_CONTROL = re.compile(f"[{CONTROLS}]")
_TOKEN = re.compile(rf"\x1b\[({_PARAMETERS})m|\n|[{CONTROLS}]")
_COLOUR = re.compile(rf"\x1b\[{_PARAMETERS}m")
_UNFINISHED = re.compile(rf"\x1b(\[{_PARAMETERS})?\Z")
# Maximum length of an incomplete colour sequence at the end of a piece of text.
_LONGEST = 67

# The property of text that each parameter sets. Several parameters of different properties can be active together.
_SETS = {
    **dict.fromkeys([*range(30, 39), *range(90, 98)], "foreground"),
    **dict.fromkeys([*range(40, 49), *range(100, 108)], "background"),
    1: "bold", 2: "faint", 3: "italic", 4: "underline", 21: "underline", 5: "blink", 6: "blink", 7: "reverse",
    8: "conceal", 9: "strike", 53: "overline", 58: "underline colour",
}  # fmt: skip
_CLEARS = {
    39: ("foreground",), 49: ("background",), 22: ("bold", "faint"), 23: ("italic",), 24: ("underline",),
    25: ("blink",), 27: ("reverse",), 28: ("conceal",), 29: ("strike",), 55: ("overline",), 59: ("underline colour",),
}  # fmt: skip
# Parameters that are followed by others: the number of a colour, or red, green and blue.
_EXTENDS = {38, 48, 58}
_EXTENDED = {"5": 1, "2": 3}
# In one parameter, as in "38:2::255:255:255". All active colours are written again for each line, so a node with long
# parameters could fill the client's memory with short lines.
_LONGEST_COLOUR = 24

# The active colours: properties, each with its parameters.
Colours = tuple[tuple[str, str], ...]


class PrintFilter:
    r"""The filter of one stream of one node. Text arrives in pieces, which may end anywhere.

    Examples
    --------
    >>> stream = PrintFilter()
    >>> stream.feed("\x1b[31mred\nstill red\x1b]0;title\x07 \x1b[")
    '\x1b[0;31mred\x1b[0m\n\x1b[0;31mstill red\\x1b]0;title\\x07 \x1b[0m'
    >>> stream.feed("39mplain") + stream.end()
    'plain'
    """

    def __init__(self) -> None:
        self._colours: Colours = ()
        self._held = ""  # the beginning of an incomplete sequence

    def feed(self, text: str) -> str:
        """Return the display form of the next piece of text; hold back an incomplete sequence at its end."""
        if self._held:
            text, self._held = self._held + text, ""
        if not self._colours and not _CONTROL.search(text):
            return text  # nearly all text
        if unfinished := _UNFINISHED.search(text, max(0, len(text) - _LONGEST)):
            text, self._held = text[: unfinished.start()], unfinished[0]
        return self._convert(text)

    def end(self) -> str:
        """Return the display form of the rest, and start over without colours."""
        rest = self._held.replace("\x1b", escape("\x1b"))
        self._held = ""
        self._colours = ()
        return rest

    def _convert(self, text: str) -> str:
        parts: list[str] = []
        wanted, shown = _sequence(self._colours), ""
        place = 0
        for found in _TOKEN.finditer(text):
            part, parameters = found.group(0, 1)
            plain = text[place : found.start()]
            place = found.end()
            is_end = part in "\r\n"
            if parameters is None and not is_end:
                plain += escape(part)
            if plain:
                if shown != wanted:
                    parts.append(wanted or _RESET)
                    shown = wanted
                parts.append(plain)
            if parameters is not None:
                self._colours = _changed(self._colours, parameters)
                wanted = _sequence(self._colours)
            elif is_end:
                parts.append(_RESET + part if shown else part)
                shown = ""
        if place < len(text) and shown != wanted:
            parts.append(wanted or _RESET)
            shown = wanted
        return "".join([*parts, text[place:], _RESET * bool(shown)])


def printed_text(text: str) -> str:
    """Return the display form of a complete stream."""
    stream = PrintFilter()
    return stream.feed(text) + stream.end()


def coloured_text(text: str) -> str:
    """Return the display form of a text that is not a stream: carriage returns do not pass."""
    return printed_text(text.replace("\r\n", "\n").replace("\r", escape("\r")))


def without_colours(text: str) -> str:
    """Return text without its colours, to be used inside other text."""
    return _COLOUR.sub("", text)


@functools.lru_cache(maxsize=1000)
def _sequence(colours: Colours) -> str:
    """Return the sequence that sets colours, whatever was set before."""
    return f"\x1b[0;{';'.join(code for _, code in colours)}m" if colours else ""


@functools.lru_cache(maxsize=1000)  # programs use few
def _changed(colours: Colours, parameters: str) -> Colours:
    """Return the active colours after an SGR sequence; unknown parameters change nothing."""
    changed = dict(colours)
    codes = deque(parameters.split(";"))
    while codes:
        code = codes.popleft()
        number = int(code.partition(":")[0] or 0)
        if ":" not in code:
            code = str(number)
        elif len(code) > _LONGEST_COLOUR or number not in {4, *_EXTENDS}:
            continue
        if number in _EXTENDS and ":" not in code:
            count = _EXTENDED.get(codes[0], 0) if codes else 0
            if not count or len(codes) <= count:
                break  # unknown meaning, so the start of the next one is unknown, too
            values = (min(int(codes.popleft().partition(":")[0] or 0), 255) for _ in range(count + 1))
            code = ";".join(map(str, (number, *values)))
        if number == 0:
            changed.clear()
        elif number in _SETS:
            changed[_SETS[number]] = code
        for cleared in _CLEARS.get(number, ()):
            changed.pop(cleared, None)
    return tuple(changed.items())
