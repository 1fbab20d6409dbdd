"""The local display of a value that stays on its engine."""

from typing import Any, Self

from pconnect.commands.html_sanitizer import as_text, make_safe
from pconnect.errors import ProtocolError


class RemoteRepr:
    """The last expression of a command, as displayed by its engine: as text, and in a notebook in richer formats, too.

    `data`, `metadata`: by MIME type; pictures are bytes, and ``text/plain`` is always present.

    Examples
    --------
    >>> RemoteRepr({"text/plain": "array([1, 2])"}, {})
    array([1, 2])
    """

    def __init__(self, data: dict[str, Any], metadata: dict[str, Any]) -> None:
        self.data, self.metadata = make_safe(data, metadata)

    @classmethod
    def read(cls, value: Any) -> Self | None:
        """Return the display that an engine sent, or ``None`` if there was no value.

        Raises `ProtocolError` if it is malformed.
        """
        match value:
            case None:
                return None
            case [{"text/plain": str()} as data, dict() as metadata]:
                return cls(data, metadata)
        raise ProtocolError("not the display of a value")

    def __repr__(self) -> str:
        return str(self.data["text/plain"])

    @property
    def is_text(self) -> bool:
        """Whether it consists of text only."""
        return set(self.data) == {"text/plain"}

    def _repr_mimebundle_(self, **_: object) -> tuple[dict[str, Any], dict[str, Any]]:
        return as_text(self.data), self.metadata
