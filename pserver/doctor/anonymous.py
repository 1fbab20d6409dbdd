"""Text that strangers may see: consistent placeholders replace its names, addresses and secrets.

Secrets known on this machine are removed first, wherever they occur. Then come the names that the text itself presents
as users: a failed login may contain a password in place of the name. Numbers that identify networks or keys become
``id-1``, addresses ``address-1``; addresses that every machine has are kept.
"""

import ipaddress
import json
import re
from collections.abc import Iterable

_REMOVED = "(secret)"
_FIRST_MARK = 0xF0000  # start of a Unicode plane for private use
_LEAST_SECRET = 4  # characters; anything shorter would match everywhere
_QUOTED_USER = re.compile(r"""(\buser[= ])("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""")
_JSON_USER = re.compile(r"""("user":\s*)("(?:[^"\\]|\\.)*")""")
_ESCAPED_USER = re.compile(r"""(\buser=)(\\".*?(?<!\\)\\")""")  # the quoted form inside a JSON string
_HEX = re.compile(r"(?<![0-9A-Za-z])[0-9a-f]{16,}(?![0-9A-Za-z])")
_HOME = re.compile(r"(/home/)([^/\s:;,'\"]+)")
# The address may have a port after it or an IPv6 prefix before it; versions of four numbers do not match.
_IPV4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?!\w|\.\d)")
_IPV6 = re.compile(r"(?<![\w.:])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:])")


class Anonymous:
    """Replaces names in texts, consistently.

    `users`, `hosts`: the known names. `secrets`: strings that no text may contain. `home`: becomes ``~``.
    """

    def __init__(self, users: Iterable[str], hosts: Iterable[str], secrets: Iterable[str], home: str) -> None:
        known = [each for each in secrets if len(each) >= _LEAST_SECRET]
        self._secrets = sorted({form for each in known for form in _forms(each)}, key=len, reverse=True)
        self._home = home
        self._names: dict[str, tuple[str, str]] = {}  # kind and name for each written form
        self._marks: dict[tuple[str, str], str] = {}  # the character that temporarily replaces a name
        self._words: dict[int, str] = {}  # the final placeholder for each character
        for kind, names in (("host", hosts), ("user", users)):
            for name in names:
                self._names |= dict.fromkeys(_forms(name), (kind, name))

    def text(self, text: str) -> str:
        """Return a text without anything that identifies people, machines or secrets."""
        for secret in self._secrets:
            text = text.replace(secret, _REMOVED)
        if len(self._home) > 1:
            text = re.sub(rf"{re.escape(self._home)}(?=[/\s:;,'\"]|$)", "~", text)
        for pattern in (_ESCAPED_USER, _QUOTED_USER, _JSON_USER):
            text = pattern.sub(self._quoted, text)
        text = _HOME.sub(lambda found: f"{found[1]}{self._user(found[2])}", text)
        # There may be thousands of users, but few of them occur in a text. A long name may contain a short one.
        for form in sorted((form for form in self._names if form in text), key=len, reverse=True):
            mark = self._mark(*self._names[form])
            text = re.sub(rf"(?<!\w){re.escape(form)}(?!\w)", mark, text)
        text = _HEX.sub(lambda found: self._mark("id", found[0]), text)
        text = _IPV6.sub(self._address, _IPV4.sub(self._address, text))
        return text.translate(self._words)

    def _mark(self, kind: str, name: str) -> str:
        """Return a single character that replaces a name, so that no other name matches inside it."""
        if (kind, name) not in self._marks:
            number = _FIRST_MARK + len(self._marks)
            count = 1 + sum(each == kind for each, _ in self._marks)
            self._marks[kind, name] = chr(number)
            self._words[number] = f"{kind}-{count}"
        return self._marks[kind, name]

    def _user(self, name: str) -> str:
        self._names |= dict.fromkeys(_forms(name), ("user", name))  # the name may also occur elsewhere
        return self._mark("user", name)

    def _quoted(self, found: re.Match[str]) -> str:
        quote = found[2][: 2 if found[2][0] == "\\" else 1]
        name = found[2][len(quote) : -len(quote)]
        if quote == '"' and _is_json(found[2]):
            name = str(json.loads(found[2]))
        return f"{found[1]}{quote}{self._user(name)}{quote}"

    def _address(self, found: re.Match[str]) -> str:
        try:
            address = ipaddress.ip_address(found[0])
        except ValueError:
            return found[0]
        is_everywhere = address.is_loopback or address.is_unspecified
        return found[0] if is_everywhere else self._mark("address", str(address))


def _forms(name: str) -> list[str]:
    """Return the written forms of a name or secret: unchanged, and as JSON writes it."""
    return [form for form in dict.fromkeys((name, json.dumps(name)[1:-1])) if form]


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
