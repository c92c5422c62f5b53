"""Settings for all tests."""

from hypothesis import settings

settings.register_profile("tests", deadline=None)  # a slow, busy machine is no failure
settings.load_profile("tests")
