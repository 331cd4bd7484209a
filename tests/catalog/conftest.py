"""Nothing here is about time: what a busy machine does to Hypothesis' deadline is no failure."""

from hypothesis import settings

settings.register_profile("catalog", deadline=None)
settings.load_profile("catalog")
