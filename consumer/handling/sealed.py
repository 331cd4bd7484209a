"""States that this release cannot read: they are left as they are, and so is what they are about."""

from dataclasses import dataclass

REASONS = {
    "state_from_newer_version": "A newer Moorage wrote what is remembered of the reservation.",
    "state_unreadable": "What is remembered of the reservation is broken.",
}


class Sealed(Exception):
    """What is remembered of a reservation must not be touched. `code` is for machines, the message for operators."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Seal:
    """Where a state lies that must not be touched: `version` is that of the newer release, None when it is broken.

    `offset` is None for one that turned out to be broken only when it was needed.
    """

    partition: int
    offset: int | None
    version: int | None = None

    def error(self) -> Sealed:
        place = f"partition {self.partition}" + (f", offset {self.offset}" if self.offset is not None else "")
        if self.version is not None:
            return Sealed(
                "state_from_newer_version",
                f"A newer Moorage wrote the state of this reservation (version {self.version}; {place} of the state "
                "topic), so nothing was done. Upgrade all members, then replay this dead letter.",
            )
        return Sealed(
            "state_unreadable",
            f"The state of this reservation cannot be read ({place} of the state topic), so nothing was done. Publish "
            "what it should be under the same key, or nothing (a tombstone), restart, then replay this dead letter.",
        )
