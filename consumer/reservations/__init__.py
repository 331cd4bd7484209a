"""What an event means for a reservation, given what is known of it. Pure: no I/O here, no clock of its own."""

from consumer.reservations.decision import REASONS, Action, Decision, Policy, another_life, decide, interrupted
from consumer.reservations.review import Sighting, due_at, review

__all__ = [
    "REASONS",
    "Action",
    "Decision",
    "Policy",
    "Sighting",
    "another_life",
    "decide",
    "due_at",
    "interrupted",
    "review",
]
