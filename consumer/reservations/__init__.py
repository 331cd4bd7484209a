"""What an event means for a reservation, given what is known of it. Pure: no I/O here, no clock of its own."""

from consumer.reservations.decision import REASONS, Action, Decision, Policy, decide

__all__ = ["REASONS", "Action", "Decision", "Policy", "decide"]
