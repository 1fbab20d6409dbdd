"""Run many cases as one test."""

from collections.abc import Callable, Iterable
from typing import TypeVar

Case = TypeVar("Case")


def for_each(cases: Iterable[tuple[str, Case]]) -> Callable[[Callable[[Case], None]], Callable[[], None]]:
    """Run a test with each of many named cases as one test; a failure names its case.

    As separate tests, hundreds of cases of a few microseconds each would take seconds.
    """

    def decorate(test: Callable[[Case], None]) -> Callable[[], None]:
        def run() -> None:
            for name, case in cases:
                try:
                    test(case)
                except BaseException as error:
                    error.add_note(f"in the case {name}")
                    raise

        run.__name__, run.__doc__, run.__module__ = test.__name__, test.__doc__, test.__module__
        return run

    return decorate
