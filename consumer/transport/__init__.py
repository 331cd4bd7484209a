"""Everything Kafka. Only here is aiokafka imported.

What other consumers than Moorage need of it is named here; docs/how-to/consumer.md shows how it is used.
"""

from consumer.handling.records import Record
from consumer.transport.connection import Connection, TransportError
from consumer.transport.keyed import KeyedConsumer, by_key
from consumer.transport.liveness import Liveness
from consumer.transport.options import AlarmLimits, Options
from consumer.transport.outgoing import Outgoing

__all__ = [
    "AlarmLimits",
    "Connection",
    "KeyedConsumer",
    "Liveness",
    "Options",
    "Outgoing",
    "Record",
    "TransportError",
    "by_key",
]
