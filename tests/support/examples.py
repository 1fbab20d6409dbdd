"""How many random examples a test has."""

from hypothesis import settings


def examples(number: int) -> settings:
    """Return the settings for so many examples; `make test` has fewer, see the profiles in `tests.conftest`."""
    usual = settings.get_profile("thorough").max_examples
    return settings(max_examples=max(10, number * settings().max_examples // usual))
