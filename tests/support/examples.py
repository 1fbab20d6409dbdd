"""The number of random examples of a test."""

from hypothesis import settings


def examples(number: int) -> settings:
    """Return settings for a number of examples; `make test` runs fewer, see the profiles in `tests.conftest`."""
    usual = settings.get_profile("thorough").max_examples
    return settings(max_examples=max(10, number * settings().max_examples // usual))
