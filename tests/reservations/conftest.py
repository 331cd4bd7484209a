"""Nothing here is about real time: what a busy machine does to Hypothesis' deadline is no failure."""

from hypothesis import settings

settings.register_profile("reservations", deadline=None)
settings.load_profile("reservations")
