"""A Kafka broker in memory, for tests and simulations of whatever uses `consumer.transport`.

`MemoryBroker().connection()` stands in for a `Connection`: its clients are doubles of aiokafka's, with the part of the
interface that is used here, its errors and its habits. They wait by the event loop's clock alone, so that a virtual one
passes hours in no time, and a broker outlives its clients, as Kafka outlives Moorage.
"""

from consumer.transport.memory.broker import MemoryBroker
from consumer.transport.memory.connection import MemoryConnection
from consumer.transport.memory.groups import Group
from consumer.transport.memory.line import Faults, Operation
from consumer.transport.memory.log import PartitionLog, StoredRecord, Topic

__all__ = [
    "Faults",
    "Group",
    "MemoryBroker",
    "MemoryConnection",
    "Operation",
    "PartitionLog",
    "StoredRecord",
    "Topic",
]
