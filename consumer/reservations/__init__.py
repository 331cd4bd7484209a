"""Pure decisions: what an event means for a reservation, given what is known of it. No I/O, no clock of its own."""
