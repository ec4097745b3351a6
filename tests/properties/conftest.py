"""Property tests: the same examples on every run, and no files left behind."""

from hypothesis import settings

settings.register_profile(
    "repeatable", max_examples=30, deadline=None, derandomize=True, database=None
)
settings.load_profile("repeatable")
