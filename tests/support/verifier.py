"""What came of a workload, seen from outside: topics, committed offsets and containers, and nothing of Moorage's own.

Each method is one promise; it returns what speaks against it, so that a test reads `assert verifier.lost() == []`.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import cached_property
from typing import Any, Self

from tests.support import legal
from tests.support.kafka import Kafka, Message, Names
from tests.support.workload import Told, Workload

OVERTAKEN = "ended_while_starting"

_OURS = ("moorage-dlt-", "kafka_dlt-")
_FINAL = {"EVENT_END", "EVENT_DELETED"}


class Verifier:
    """The topics of an installation, read once; make a new one to look again."""

    def __init__(self, kafka: Kafka, names: Names) -> None:
        self._kafka = kafka
        self._names = names

    @cached_property
    def inbound(self) -> list[Message]:
        return self._kafka.read(self._names.inbound)

    @cached_property
    def outbound(self) -> list[Message]:
        return self._kafka.read(self._names.outbound)

    @cached_property
    def dead_letters(self) -> list[Message]:
        return self._kafka.read(self._names.dead_letters)

    @cached_property
    def results(self) -> dict[str, list[dict[str, Any]]]:
        """The results of each reservation, in the order in which they were published."""
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for reservation, published in self._published.items():
            found[reservation] = [body for _, body in published]
        return found

    @cached_property
    def _published(self) -> dict[str, list[tuple[Message, dict[str, Any]]]]:
        found: dict[str, list[tuple[Message, dict[str, Any]]]] = defaultdict(list)
        for message in self.outbound:
            if (message.header("ce_type") or "").startswith("io.moorage.result."):
                body = json.loads(message.value or b"")
                found[body["eventId"]].append((message, body))
        return found

    @cached_property
    def notifications(self) -> dict[str, list[dict[str, Any]]]:
        """The notifications about each reservation, each with its id."""
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for message in self.outbound:
            if message.header("ce_type") == "io.moorage.notification.v1":
                body = json.loads(message.value or b"")
                found[body["eventId"]].append(body | {"id": message.header("ce_id")})
        return found

    def read(self) -> Self:
        """Read all topics now, so that what comes later is not seen."""
        _ = self.inbound, self.outbound, self.dead_letters
        return self

    def told(self, reservation: str) -> tuple[Told, ...]:
        """What was told of the reservation, in order.

        A start that its end overtook counts as provisioned, because it depends on the moment whether it is; but only if
        an end then released what was made of it.
        """
        told = self._told_literally(reservation)
        return tuple(
            (kind, "provisioned", None) if code == OVERTAKEN and _ends(told[place:]) else (kind, outcome, code)
            for place, (kind, outcome, code) in enumerate(told)
        )

    def _told_literally(self, reservation: str) -> list[Told]:
        return [
            (body["eventType"], body["outcome"], (body.get("reason") or {}).get("code"))
            for body in self.results[reservation]
        ]

    def as_told(self, reservation: str) -> list[legal.Told]:
        """The results of a reservation, for the law that they must keep to."""
        return [legal.Told(message.timestamp_ms, legal.what(body)) for message, body in self._published[reservation]]

    @property
    def overtaken(self) -> set[str]:
        """The reservations of which an end broke off a start."""
        return {each for each in self.results if any(code == OVERTAKEN for _, _, code in self._told_literally(each))}

    def last(self, reservation: str, outcome: str) -> dict[str, Any]:
        return [body for body in self.results[reservation] if body["outcome"] == outcome][-1]

    # Promises

    def uncommitted(self) -> dict[int, int]:
        """Partitions whose committed offset is not at their end, with what is missing."""
        return self._kafka.lag(self._names.group, self._names.inbound)

    def unanswered(self, *, exactly: bool = False) -> list[str]:
        """Events without a result of their kind; with `exactly`, also results that no event explains.

        A move answers one event with two results: that somewhere was left, and that elsewhere is ready.
        """
        asked = Counter[tuple[str, str]]()
        for message in self.inbound:
            asked.update(_events_in(message))
        answered = Counter(
            (body["eventId"], body["eventType"])
            for bodies in self.results.values()
            for body in bodies
            if (body.get("reason") or {}).get("code") != "moved"
        )
        missing = asked - answered
        superfluous = answered - asked if exactly else Counter()
        return [f"{kind} of {each}: {count} without a result" for (each, kind), count in sorted(missing.items())] + [
            f"{kind} of {each}: {count} results too many" for (each, kind), count in sorted(superfluous.items())
        ]

    def altered_dead_letters(self, workload: Workload) -> list[str]:
        """What is wrong with the dead letters: each unreadable record must be there, byte for byte, with its reason."""
        published = {(message.partition, message.offset): message for message in self.inbound}
        expected: Counter[tuple[str | None, bytes | None, bytes | None]] = Counter(
            (each.code, each.message.key, each.message.value) for each in workload.poison
        )
        found: Counter[tuple[str | None, bytes | None, bytes | None]] = Counter()
        problems = []
        seen = set()
        for letter in self.dead_letters:
            place = (_number(letter, "original-partition"), _number(letter, "original-offset"))
            source = published.get(place)
            if letter.header("moorage-dlt-original-topic") != self._names.inbound or source is None:
                problems.append(f"a dead letter names {place}, where nothing is")
                continue
            if (letter.key, letter.value) != (source.key, source.value):
                problems.append(f"the dead letter of {place} has other bytes")
            if tuple(header for header in letter.headers if not header[0].startswith(_OURS)) != source.headers:
                problems.append(f"the dead letter of {place} has other headers: {letter.headers}")
            if place not in seen:  # a crash may write one twice
                found[letter.header("moorage-dlt-error-code"), letter.key, letter.value] += 1
            seen.add(place)
        problems += [f"no dead letter: {each[:2]}" for each in expected - found]
        problems += [f"a dead letter too many: {each[:2]}" for each in found - expected]
        return problems

    def arbitrary_ids(self) -> list[str]:
        """Messages that say the same under two ids or different things under one, or whose headers say something else.

        Results say the same when reservation, revision and outcome are the same, and for what was skipped or released
        the reason: what was postponed is released, starts again under the same revision, and ends as another
        environment. Notifications say the same when they have the same text about the same result.
        """
        problems = []
        ids: dict[tuple[str, ...], str] = {}
        for message in self.outbound:
            if message.header("ce_type") == "io.moorage.progress.v1":
                continue  # it repeats nothing, and nobody depends on it
            body, called = json.loads(message.value or b""), message.header("ce_id") or ""
            if "outcome" in body:
                told = body.get("reason") or {}
                reason = told.get("code", "") if body["outcome"] in ("skipped", "released") else ""
                said: tuple[str, ...] = (body["eventId"], body["revision"], body["outcome"], reason)
            else:
                said = (body["metadata"]["resultId"], body["message"])
            if ids.setdefault(said, called) != called or body.get("id", called) != called:
                problems.append(f"{called} is another id for {said}")
            if message.key != body["eventId"].encode() or message.header("ce_subject") != body["eventId"]:
                problems.append(f"{called} is not keyed by its reservation")
        return problems + [f"{each} is shared" for each, count in Counter(ids.values()).items() if count > 1]

    def out_of_order(self, *, repeats: bool = False) -> list[str]:
        """Reservations that something was provisioned for after they had ended.

        With `repeats` (after a kill), a start that is handled again may do so where the end was told and not remembered
        yet; then the end must be told again.
        """
        problems = []
        for reservation in self.results:
            ended = anew = False
            for kind, outcome, _ in self.told(reservation):
                if kind in _FINAL:
                    ended, anew = True, False
                elif ended and outcome == "provisioned":
                    anew = True
                    if not repeats:
                        break
            if anew:
                problems.append(f"{reservation}: {self.told(reservation)}")
        return problems

    def untold(self, workload: Workload, *, repeats: bool = False) -> list[str]:
        """Reservations of which something else was told than their story says.

        With `repeats` (after a kill), what the story says must be told in its order, but more may stand between: events
        that are handled again, with what is known by then.
        """
        problems = []
        for reservation, story in workload.stories.items():
            told = self.told(reservation)
            right = _contains(told, story.told) if repeats else told == story.told
            if not story.scattered and not right:
                problems.append(f"{reservation} ({story.name}): {told}")
        return problems


def _ends(told: Iterable[Told]) -> bool:
    return any(kind in _FINAL and outcome == "released" for kind, outcome, _ in told)


def _events_in(message: Message) -> Iterable[tuple[str, str]]:
    """The reservation events of a record, as (reservation, type). Read as JSON, without our models."""
    try:
        body = json.loads(message.value or b"")
        if body["eventType"] not in {"EVENT_START", "EVENT_END", "EVENT_CREATED", "EVENT_UPDATED", "EVENT_DELETED"}:
            return
        if len(message.value or b"") > 262_144 or _ends_before_start(body):
            return
        bookings = body.get("events") or [body.get("data") or body]
        for booking in bookings:
            yield str(booking.get("eventId", booking.get("id"))), body["eventType"]
    except (ValueError, TypeError, KeyError):
        return


def _ends_before_start(body: dict[str, Any]) -> bool:
    return "eventEnd" in body and bool(body["eventEnd"] <= body["eventStart"])


def _number(message: Message, name: str) -> int:
    return int(message.header(f"moorage-dlt-{name}") or -1)


def _contains(told: Iterable[Told], wanted: Iterable[Told]) -> bool:
    """Whether `wanted` is told in this order, whatever stands between."""
    left = iter(told)
    return all(any(each == want for each in left) for want in wanted)
