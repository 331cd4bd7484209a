"""Consumer groups as their coordinator keeps them: members, generations, committed offsets.

Kafka's classic protocol with eager rebalances. Every change of the membership begins a rebalance: members learn of it
by their heartbeats, let go of their partitions and join again. When all did, or the patience of the most patient one
is exhausted, there is a new generation, whose leader assigns the partitions.
"""

import asyncio
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from aiokafka import TopicPartition
from aiokafka.errors import (
    IllegalGenerationError,
    KafkaConnectionError,
    OffsetMetadataTooLargeError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from aiokafka.structs import OffsetAndMetadata

NO_GENERATION = -1

_LONGEST_METADATA = 4096

_A_MOMENT = 1e-3
"""Less than this is left of a time that is over: timers may fire that much too early."""


@dataclass(frozen=True, slots=True)
class Joined:
    """The reply to a member that joined: `members` says who reads which topics, and is for the leader alone."""

    member: str
    generation: int
    leader: str
    members: Mapping[str, frozenset[str]] = field(default_factory=dict)


class State(Enum):
    EMPTY = auto()
    JOINING = auto()
    SYNCING = auto()
    """All have joined; the leader has not said yet who gets what."""

    STABLE = auto()


@dataclass(slots=True, eq=False)
class Member:
    """One member. Times are seconds."""

    id: str
    instance: str | None
    topics: frozenset[str]
    session_timeout: float
    rebalance_timeout: float
    assigned: tuple[TopicPartition, ...] = ()
    joining: asyncio.Future[Joined] | None = None
    syncing: asyncio.Future[tuple[TopicPartition, ...]] | None = None
    seen_at: float = 0.0
    expiry: asyncio.TimerHandle | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for the others, in which case nobody expects heartbeats of it."""
        return any(reply is not None and not reply.done() for reply in (self.joining, self.syncing))


class Group:
    """One group. Its requests raise the `KafkaError` that the coordinator would reply with."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = State.EMPTY
        self.generation = 0
        self.committed: dict[TopicPartition, OffsetAndMetadata] = {}
        """Change it as an operator does who resets offsets: while nobody is a member."""

        self._members: dict[str, Member] = {}
        self._leader = ""
        self._numbers = itertools.count(1)
        self._deadline: asyncio.TimerHandle | None = None

    @property
    def members(self) -> dict[str, tuple[TopicPartition, ...]]:
        """The partitions of each member, by the member's id: its client's and a number."""
        return {member.id: member.assigned for member in self._members.values()}

    def reads(self, topic: str) -> bool:
        return any(topic in member.topics for member in self._members.values())

    # Requests

    def join(
        self,
        member_id: str,
        client: str,
        topics: Iterable[str],
        session_timeout: float,
        rebalance_timeout: float,
        instance: str | None = None,
    ) -> asyncio.Future[Joined]:
        """Become a member, or stay one in the next generation. Without an id one is given."""
        known = self._known(member_id) if member_id else self._replace(instance, client)
        joined: asyncio.Future[Joined] = asyncio.get_running_loop().create_future()
        if known is None:
            known = Member(
                self._new_id(client), instance, frozenset(topics), session_timeout, rebalance_timeout, joining=joined
            )
            self._members[known.id] = known
            self._begin_rebalance()
            return joined
        changed, known.topics = known.topics != frozenset(topics), frozenset(topics)
        self._seen(known)
        known.joining = joined
        if self.state is State.JOINING:
            self._complete_when_all_joined()
        elif changed or (self.state is State.STABLE and known.id == self._leader and member_id):
            self._begin_rebalance()
        else:
            joined.set_result(self._reply(known))
        return joined

    def sync(
        self, member_id: str, generation: int, assignment: Mapping[str, Iterable[TopicPartition]] | None
    ) -> asyncio.Future[tuple[TopicPartition, ...]]:
        """Ask for one's partitions; the leader tells those of everybody."""
        member = self._current(member_id, generation)
        if self.state is State.JOINING:
            raise RebalanceInProgressError(self.name)
        member.syncing = asyncio.get_running_loop().create_future()
        if self.state is State.SYNCING and assignment is not None:
            self.state = State.STABLE
            for each in self._members.values():
                each.assigned = tuple(assignment.get(each.id, ()))
                self._answer_sync(each)
        elif self.state is State.STABLE:
            self._answer_sync(member)
        return member.syncing

    def heartbeat(self, member_id: str, generation: int) -> None:
        self._seen(self._current(member_id, generation))
        if self.state is State.JOINING:
            raise RebalanceInProgressError(self.name)

    def leave(self, member_id: str) -> None:
        self._remove(self._known(member_id))

    def commit(
        self, member_id: str, generation: int, offsets: Mapping[TopicPartition, OffsetAndMetadata]
    ) -> dict[TopicPartition, type[OffsetMetadataTooLargeError]]:
        """Store these offsets; those that were refused are returned with the reason. While partitions are being let go
        of, members of the last generation still may."""
        self._seen(self._current(member_id, generation))
        if self.state is State.SYNCING:
            raise RebalanceInProgressError(self.name)
        refused = {}
        for tp, offset in offsets.items():
            if len(offset.metadata) > _LONGEST_METADATA:
                refused[tp] = OffsetMetadataTooLargeError
            else:
                self.committed[tp] = offset
        return refused

    # What happens to the coordinator

    def topics_changed(self) -> None:
        """Partitions were added or deleted."""
        if self._members:
            self._begin_rebalance()

    def lose_connections(self) -> None:
        """The broker went down: whoever waits for a reply gets none, and nobody's time runs out."""
        for member in self._members.values():
            for reply in (member.joining, member.syncing):
                if reply is not None and not reply.done():
                    reply.set_exception(KafkaConnectionError("the broker went down"))
            member.joining = member.syncing = None
            if member.expiry is not None:
                member.expiry.cancel()
        if self._deadline is not None:
            self._deadline.cancel()

    def resume(self) -> None:
        """The broker is back, and gives everybody time to notice."""
        for member in self._members.values():
            self._watch(member)
        if self.state is State.JOINING:
            self._set_deadline()

    # Rebalances

    def _begin_rebalance(self) -> None:
        for member in self._members.values():
            if member.syncing is not None and not member.syncing.done():
                member.syncing.set_exception(RebalanceInProgressError(self.name))
        if self.state is not State.JOINING:
            self.state = State.JOINING
            self._set_deadline()
        self._complete_when_all_joined()

    def _set_deadline(self) -> None:
        patience = max((member.rebalance_timeout for member in self._members.values()), default=0.0)
        self._deadline = asyncio.get_running_loop().call_later(patience, self._give_up_waiting)

    def _give_up_waiting(self) -> None:
        for member in list(self._members.values()):
            if member.joining is None:
                self._forget(member)
        self._complete_when_all_joined()

    def _complete_when_all_joined(self) -> None:
        if any(member.joining is None for member in self._members.values()):
            return
        if self._deadline is not None:
            self._deadline.cancel()
        self.generation += 1
        if not self._members:
            self.state = State.EMPTY
            return
        self.state = State.SYNCING
        if self._leader not in self._members:
            self._leader = next(iter(self._members))
        for member in self._members.values():
            member.assigned = ()
            member.syncing = None
            if member.joining is not None and not member.joining.done():
                member.joining.set_result(self._reply(member))
            member.joining = None
            self._watch(member)

    def _reply(self, member: Member) -> Joined:
        topics = {each.id: each.topics for each in self._members.values()} if member.id == self._leader else {}
        return Joined(member.id, self.generation, self._leader, topics)

    def _answer_sync(self, member: Member) -> None:
        if member.syncing is not None and not member.syncing.done():
            member.syncing.set_result(member.assigned)

    # Members

    def _new_id(self, client: str) -> str:
        return f"{client}-{next(self._numbers):04}"

    def _known(self, member_id: str) -> Member:
        try:
            return self._members[member_id]
        except KeyError:
            raise UnknownMemberIdError(self.name) from None

    def _current(self, member_id: str, generation: int) -> Member:
        member = self._known(member_id)
        if generation != self.generation:
            raise IllegalGenerationError(self.name)
        return member

    def _replace(self, instance: str | None, client: str) -> Member | None:
        """The static member that has come back, under a new id; None for one that is not or was not there."""
        for old in self._members.values():
            if instance is not None and old.instance == instance:
                del self._members[old.id]
                was_leader = old.id == self._leader
                old.id = self._new_id(client)
                self._members[old.id] = old
                if was_leader:
                    self._leader = old.id
                return old
        return None

    def _seen(self, member: Member) -> None:
        member.seen_at = asyncio.get_running_loop().time()

    def _watch(self, member: Member) -> None:
        self._seen(member)
        self._look_again_at(member, member.session_timeout)

    def _look_again_at(self, member: Member, after: float) -> None:
        if member.expiry is not None:
            member.expiry.cancel()
        member.expiry = asyncio.get_running_loop().call_later(after, self._expire, member)

    def _expire(self, member: Member) -> None:
        left = member.seen_at + member.session_timeout - asyncio.get_running_loop().time()
        if member.is_waiting:
            self._look_again_at(member, member.session_timeout)
        elif left > _A_MOMENT:
            self._look_again_at(member, left)
        else:
            self._remove(member)

    def _forget(self, member: Member) -> None:
        del self._members[member.id]
        member.assigned = ()
        if member.expiry is not None:
            member.expiry.cancel()

    def _remove(self, member: Member) -> None:
        self._forget(member)
        if self.state is State.JOINING:
            self._complete_when_all_joined()
        else:
            self._begin_rebalance()
