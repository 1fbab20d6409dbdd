"""What holds for all tests."""

from hypothesis import settings

# A busy machine makes no test wrong.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
