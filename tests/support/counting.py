"""Collections that count how often code iterates over all their items."""

from collections.abc import Iterator
from typing import Any


class CountedDict(dict[Any, Any]):
    """A dict; `looks` counts the requests for all its values."""

    looks = 0

    def values(self) -> Any:
        self.looks += 1
        return super().values()


class CountedList(list[Any]):
    """A list; `looks` counts the iterations begun."""

    looks = 0

    def __iter__(self) -> Iterator[Any]:
        self.looks += 1
        return super().__iter__()
