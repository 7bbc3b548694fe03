"""One hypothesis profile for every test: the same examples on every machine, and no deadline, since a first call compiles."""

from hypothesis import settings

settings.register_profile("house", deadline=None, derandomize=True, database=None, max_examples=50)
settings.load_profile("house")
