"""Text that strangers may see: names, addresses and secrets in it are replaced, the same ones by the same words.

What is known to be secret on this machine goes first, wherever it stands. Then what the text itself says is a user: a
failed login may have a password in the place of the name. Numbers that name networks or keys become ``id-1``, addresses
``address-1``; those that every machine has stay.
"""

import ipaddress
import json
import re
from collections.abc import Callable, Iterable

_REMOVED = "(secret)"
_LEAST_SECRET = 4  # characters; what is shorter would be found everywhere
_QUOTED_USER = re.compile(r"""(\buser[= ])("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""")
_JSON_USER = re.compile(r"""("user":\s*)("(?:[^"\\]|\\.)*")""")
_ESCAPED_USER = re.compile(r"""(\buser=)(\\".*?(?<!\\)\\")""")  # the first, in a text that is JSON itself
_HEX = re.compile(r"(?<![0-9A-Za-z])[0-9a-f]{16,}(?![0-9A-Za-z])")
_ADDRESS = re.compile(
    r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7})(?![\w:]|\.\d)"
)


class Anonymous:
    """Replaces names in texts, consistently.

    `users`, `hosts`: those that are known. `secrets`: what must not be in a text at all. `home`: becomes ``~``.
    """

    def __init__(self, users: Iterable[str], hosts: Iterable[str], secrets: Iterable[str], home: str) -> None:
        self._words: dict[tuple[str, str], str] = {}
        known = [each for each in secrets if len(each) >= _LEAST_SECRET]
        forms = {form for each in known for form in (each, json.dumps(each)[1:-1])}
        self._secrets = sorted(forms, key=len, reverse=True)
        self._home = home
        self._known: list[tuple[re.Pattern[str], str]] = []
        for kind, names in (("user", users), ("host", hosts)):
            for name in sorted(dict.fromkeys(names), key=len, reverse=True):
                self._add(kind, name)

    def text(self, text: str) -> str:
        """Return a text without what would tell who and where it was."""
        for secret in self._secrets:
            text = text.replace(secret, _REMOVED)
        if len(self._home) > 1:
            text = re.sub(rf"{re.escape(self._home)}(?=[/\s:;,'\"]|$)", "~", text)
        for pattern in (_ESCAPED_USER, _QUOTED_USER, _JSON_USER):
            text = pattern.sub(self._quoted, text)
        for known, word in self._known:
            text = known.sub(word, text)
        text = _HEX.sub(self._as("id"), text)
        return _ADDRESS.sub(self._address, text)

    def _add(self, kind: str, name: str) -> str:
        """Replace a name wherever it stands from now on, as it is and as JSON writes it; return what by."""
        word = self._word(kind, name)
        for form in dict.fromkeys((name, json.dumps(name)[1:-1])):
            if form:
                self._known.append((re.compile(rf"(?<!\w){re.escape(form)}(?!\w)"), word))
        return word

    def _word(self, kind: str, name: str) -> str:
        number = 1 + sum(each == kind for each, _ in self._words)
        return self._words.setdefault((kind, name), f"{kind}-{number}")

    def _quoted(self, found: re.Match[str]) -> str:
        quote = found[2][: 2 if found[2][0] == "\\" else 1]
        inner = found[2][len(quote) : -len(quote)]
        name = inner
        if quote == '"':
            name = str(json.loads(found[2])) if _is_json(found[2]) else inner
        word = self._words.get(("user", name)) or self._add("user", name)
        return f"{found[1]}{quote}{word}{quote}"

    def _as(self, kind: str) -> Callable[[re.Match[str]], str]:
        return lambda found: self._word(kind, found[0])

    def _address(self, found: re.Match[str]) -> str:
        try:
            address = ipaddress.ip_address(found[0])
        except ValueError:
            return found[0]
        is_everywhere = address.is_loopback or address.is_unspecified
        return found[0] if is_everywhere else self._word("address", str(address))


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
