"""The connection whose clients talk to a broker in memory."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from consumer.transport.connection import Connection
from consumer.transport.memory.admin import MemoryAdmin
from consumer.transport.memory.consumer import MemoryConsumer
from consumer.transport.memory.line import Line
from consumer.transport.memory.producer import MemoryProducer

if TYPE_CHECKING:  # the broker makes connections
    from consumer.transport.memory.broker import MemoryBroker


@dataclass(frozen=True, slots=True)
class MemoryConnection(Connection):
    """One process's way to a `MemoryBroker`, which makes it."""

    broker: "MemoryBroker" = field(kw_only=True, repr=False)
    line: Line = field(kw_only=True, repr=False)

    def consumer(self, **options: Any) -> MemoryConsumer:
        return MemoryConsumer(self.broker, self.line, **options)

    def producer(self, **options: Any) -> MemoryProducer:
        return MemoryProducer(self.broker, self.line, **options)

    def admin(self, **options: Any) -> MemoryAdmin:
        return MemoryAdmin(self.broker, self.line, **options)

    def kill(self) -> None:
        """As `kill -9` of the process: nothing that its clients do from here on reaches the broker.

        The group notices by the missing heartbeats. Cancel what still uses the clients: they get no answers.
        """
        self.line.cut()
