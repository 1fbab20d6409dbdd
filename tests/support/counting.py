"""Collections that count how often all that is in them is gone through."""

from collections.abc import Iterator
from typing import Any


class CountedDict(dict[Any, Any]):
    """A dict; `looks` is how often all its values were asked for."""

    looks = 0

    def values(self) -> Any:
        self.looks += 1
        return super().values()


class CountedList(list[Any]):
    """A list; `looks` is how often somebody began to go through it."""

    looks = 0

    def __iter__(self) -> Iterator[Any]:
        self.looks += 1
        return super().__iter__()
