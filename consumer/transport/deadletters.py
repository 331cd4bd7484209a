"""The dead-letter topic as operators see it: what lies there, and putting a record back where it came from."""

import json
from dataclasses import dataclass

from consumer.transport.connection import TransportError
from consumer.transport.publisher import Publisher
from consumer.transport.reader import Message
from schemas.deadletter import DeadLetter, Header, parse_dead_letter

REPLAYED_FROM = "moorage-replayed-from"
"""The header of a replayed record: `topic/partition/offset` of its dead letter. There is never more than one."""

_STUB_FIELDS = {"tooLarge", "bytes", "sha256"}
_STUB_LIMIT = 256


@dataclass(frozen=True, slots=True)
class StoredLetter:
    """A record of the dead-letter topic. `letter` is None when it is no dead letter; `problem` says why not.

    With a `letter`, a `problem` is why it cannot be replayed.
    """

    message: Message
    letter: DeadLetter | None
    problem: str | None = None

    @property
    def place(self) -> str:
        return f"{self.message.partition}:{self.message.offset}"

    @property
    def replayed_from(self) -> str | None:
        """Where the record had been replayed from before it failed once more."""
        return self.message.header(REPLAYED_FROM)


def stored_letter(message: Message) -> StoredLetter:
    """What a record of the dead-letter topic is."""
    try:
        letter = parse_dead_letter(message.key, message.value, message.headers)
    except ValueError as error:
        return StoredLetter(message, None, str(error))
    return StoredLetter(message, letter, _problem(letter))


def replay_headers(stored: StoredLetter) -> tuple[Header, ...]:
    """The record's original headers and the one that says which dead letter it comes from."""
    message = stored.message
    headers = stored.letter.headers if stored.letter is not None else ()
    place = f"{message.topic}/{message.partition}/{message.offset}"
    # One that was replayed, failed and is replayed again carries the header of the first time.
    return (*(header for header in headers if header[0] != REPLAYED_FROM), (REPLAYED_FROM, place.encode()))


async def destination(publisher: Publisher, stored: StoredLetter) -> tuple[str, int | None]:
    """The topic and partition a replay goes to; no partition when the original one is gone and the key decides.

    Raises `TransportError` when the letter cannot be replayed.
    """
    letter = stored.letter
    if letter is None or stored.problem is not None:
        raise TransportError(stored.problem or "This record is not a dead letter.")
    partitions = await publisher.partitions(letter.topic)
    return letter.topic, letter.partition if letter.partition in partitions else None


async def replay(publisher: Publisher, stored: StoredLetter) -> tuple[str, int, int]:
    """Publish the original record where it came from; returns topic, partition and offset. The dead letter stays.

    Raises `TransportError` when that cannot be done or was not acknowledged.
    """
    topic, partition = await destination(publisher, stored)
    message = stored.message
    placed = await publisher.send(
        topic, message.value, key=message.key, headers=replay_headers(stored), partition=partition
    )
    return topic, *placed


def _problem(letter: DeadLetter) -> str | None:
    if _is_stub(letter.value):
        return "The original record was too large for the dead-letter topic: only its size and SHA-256 are here."
    if letter.key is None and letter.value is None:
        return "The original record has neither key nor value: there is nothing to replay."
    return None


def _is_stub(value: bytes | None) -> bool:
    """Whether `value` is what the outbox writes in place of a record that no broker takes."""
    if value is None or len(value) > _STUB_LIMIT:
        return False
    try:
        body = json.loads(value)
    except ValueError:
        return False
    return isinstance(body, dict) and body.keys() == _STUB_FIELDS and body["tooLarge"] is True
