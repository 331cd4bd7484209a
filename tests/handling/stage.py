"""A handler with everything around it in memory: two runtimes, a state store, records and what was published.

It is nine o'clock when the loop's (virtual) time is 0; the sample reservation 1841 runs from eight to ten.
"""

import asyncio
import json
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from consumer.catalog.identity import reservation_key
from consumer.catalog.templates import Catalog
from consumer.dispatch import Assignment, Done, Outage, Retry, RetryPolicy, Work
from consumer.handling.handler import Handler, Options
from consumer.handling.lifecycle import Lifecycle
from consumer.handling.preparation import Preparation
from consumer.handling.publications import Channel, Publication
from consumer.handling.records import Headers, Item, Record
from consumer.handling.routing import route
from consumer.provisioners.memory import MemoryEngine, MemoryProvisioner
from schemas.events import InboundEvent
from schemas.examples import sample_document
from schemas.outbound import Notification, Result
from schemas.state import ReservationState

INSTANCE = "lab"
NINE = datetime(2026, 3, 2, 9, tzinfo=UTC)
KEY = reservation_key(INSTANCE, "1841")
NAME = "r-mario-rossi-gpu-server-1-" + KEY[:10]

TEMPLATES = """
version: 1
templates:
  - name: linux
    match: {type: Linux container}
    runtime: docker
    image: nginx:1.27
    ports: 80, 22
    access: {http: 80, ssh: 22, ssh_user: user}
    images: {allow: ["httpd:*"]}
  - name: other
    match: {type: Pod}
    runtime: podman
    image: nginx:1.27
"""

Document = dict[str, Any]


def changed(document: Document, changes: Document) -> Document:
    """`document` with some fields changed; `...` takes a field away."""
    return {name: value for name, value in (document | changes).items() if value is not ...}


def start(**changes: Any) -> Document:
    return changed(sample_document("event_start") | {"customParameters": "{}"}, changes)


def end(**changes: Any) -> Document:
    return changed(sample_document("event_end"), changes)


def deleted() -> Document:
    return sample_document("event_deleted")  # type: ignore[no-any-return]


def updated(version: int = 1, **changes: Any) -> Document:
    """Version `version` of the booking, which lasts until noon unless said."""
    document: Document = sample_document("event_updated")
    data = document["data"] | {"updatedAt": f"2026-03-01T00:{version:02}:00Z", "customParameters": "{}"}
    return document | {"data": changed(data, changes)}


def created(**changes: Any) -> Document:
    return updated(0, **({"end": "2026-03-02T10:00:00Z"} | changes)) | {"eventType": "EVENT_CREATED"}


def resource(number: int = 13, kind: str = "Linux container") -> Document:
    """Another resource, as envelopes have it."""
    return {"id": number, "name": f"GPU Server {number - 11}", "type": {"name": kind}}


class States:
    """A state store that a crash sets back to what was published."""

    def __init__(self) -> None:
        self.remembered: dict[str, ReservationState] = {}

    def get(self, assignment: Assignment, reservation_id: str) -> ReservationState | None:
        return self.remembered.get(reservation_id)

    def put(self, assignment: Assignment, state: ReservationState) -> None:
        self.remembered[state.reservation_id] = state


@dataclass
class Told:
    """What handling one record published, and how long it waited between its attempts."""

    publications: tuple[Publication, ...] = ()
    waits: list[Retry | Outage] = field(default_factory=list)

    def on(self, channel: Channel) -> list[Publication]:
        return [each for each in self.publications if each.channel is channel]

    @property
    def results(self) -> list[Result]:
        return [Result.model_validate_json(each.value or b"") for each in self._typed("result")]

    @property
    def notifications(self) -> list[Notification]:
        return [Notification.model_validate_json(each.value or b"") for each in self._typed("notification")]

    @property
    def letters(self) -> list[Publication]:
        return self.on(Channel.DEAD_LETTER)

    @property
    def outcomes(self) -> list[tuple[str, str | None]]:
        return [(result.outcome, result.reason.code if result.reason else None) for result in self.results]

    @property
    def ids(self) -> list[bytes | None]:
        """The CloudEvents ids of everything outbound, in order."""
        return [dict(each.headers)["ce_id"] for each in self.on(Channel.OUTBOUND)]

    @property
    def notifications_raw(self) -> list[Publication]:
        return self._typed("notification")

    def _typed(self, kind: str) -> list[Publication]:
        prefix = f"io.moorage.{kind}.".encode()
        return [each for each in self.on(Channel.OUTBOUND) if (dict(each.headers)["ce_type"] or b"").startswith(prefix)]


class Stage:
    """Delivers records to the handler until they are done."""

    outage = 5.0
    """Seconds that work waits for a runtime that does not answer."""

    def __init__(self, templates: str = TEMPLATES, *, start_timeout: float = 300.0, **options: Any) -> None:
        self.docker, self.podman = MemoryEngine(), MemoryEngine()
        self.states = States()
        self.assignment = Assignment("reservations", 3)
        self.options = Options(
            instance=INSTANCE,
            provision_retries=options.pop("provision_retries", RetryPolicy(max_attempts=3)),
            release_retries=options.pop("release_retries", RetryPolicy(max_attempts=4)),
            **options,
        )
        self.start_timeout = start_timeout
        self.told: list[Publication] = []
        """What was told on the way to an outcome."""

        self._offsets = count()
        self.use(templates)

    def use(self, templates: str, *, runtimes: tuple[str, ...] = ("docker", "podman")) -> None:
        """Start anew with these templates; engines and state stay."""
        engines = {"docker": self.docker, "podman": self.podman}
        provisioners = {
            name: MemoryProvisioner(engines[name], instance=INSTANCE, runtime=name, host="lab.example.org")
            for name in runtimes
        }
        catalog = Catalog.from_yaml(templates, instance=INSTANCE)
        self.preparation = Preparation(catalog, provisioners, now=self.now)
        self.lifecycle = Lifecycle(
            catalog,
            provisioners,
            instance=INSTANCE,
            start_timeout=self.start_timeout,
            release_timeout=60.0,
            now=self.now,
        )
        self.handler = Handler(
            self.lifecycle,
            self.states,
            self.options,
            now=self.now,
            expect=self.preparation.expect,
            tell=self.told.append,
        )

    def now(self) -> datetime:
        return NINE + timedelta(seconds=asyncio.get_running_loop().time())

    async def sleep_until(self, hour: int, minute: int = 0) -> None:
        await asyncio.sleep((NINE.replace(hour=hour, minute=minute) - self.now()).total_seconds())

    @property
    def state(self) -> ReservationState:
        return self.states.remembered["1841"]

    @property
    def running(self) -> set[str]:
        return self.docker.names() | self.podman.names()

    def record(self, content: Document | bytes | None, *, key: bytes | None = b"1841", headers: Headers = ()) -> Record:
        value = json.dumps(content).encode() if isinstance(content, dict) else content
        return Record("reservations", 3, next(self._offsets), 1_772_442_000_000, key, value, headers)

    async def deliver(self, content: Document | bytes | None, **options: Any) -> Told:
        """Handle one record to its end, as the dispatcher would."""
        return await self.deliver_record(self.record(content, **options))

    async def deliver_record(self, record: Record) -> Told:
        return await self.deliver_items(record, route(record, max_bytes=262_144))

    async def deliver_event(self, event: InboundEvent) -> Told:
        """Handle an event that was decoded already."""
        record = self.record(b"")
        return await self.deliver_items(record, [("1841", Item(record, event))])

    async def deliver_items(self, record: Record, items: Iterable[tuple[Hashable, Item]]) -> Told:
        told = Told()
        for lane, item in items:
            now = asyncio.get_running_loop().time()
            work: Work[Item] = Work(self.assignment, record.offset, lane, item, record.size, now)
            told.publications += await self._handle(work, told.waits)
        return told

    async def deliver_all(self, *contents: Document) -> list[Told]:
        return [await self.deliver(content) for content in contents]

    async def crash_after(self, content: Document | InboundEvent) -> Told:
        """Handle and publish one record, and lose the state and the commit: it will come again."""
        before = {name: state.to_bytes() for name, state in self.states.remembered.items()}
        told = await (self.deliver(content) if isinstance(content, dict) else self.deliver_event(content))
        self.states.remembered = {name: ReservationState.model_validate_json(raw) for name, raw in before.items()}
        return told

    async def _handle(self, work: Work[Item], waits: list[Retry | Outage]) -> tuple[Publication, ...]:
        loop = asyncio.get_running_loop()
        while True:
            work.attempt += 1
            if work.started_at is None:
                work.started_at = loop.time()
            verdict = await self.handler.handle(work)
            if isinstance(verdict, Done):
                return verdict.publications
            waits.append(verdict)
            if isinstance(verdict, Outage) or verdict.fresh:
                work.attempt, work.started_at = 0, None
            await asyncio.sleep(self.outage if isinstance(verdict, Outage) else verdict.delay)
