"""How to reach Kafka, and the names of the topics."""

import ssl
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from consumer.handling.publications import Channel, Publication
from consumer.transport.outgoing import Outgoing


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the brokers are and how to prove who we are. Every client of aiokafka that is used here is made by it.

    `consumer.transport.memory` has another one, whose clients talk to a broker in memory.
    """

    bootstrap_servers: str
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = "PLAIN"
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    ssl_ca_file: str | None = None
    client_id: str = "moorage"

    def consumer(self, **options: Any) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(**self._arguments(), **options)

    def producer(self, **options: Any) -> AIOKafkaProducer:
        return AIOKafkaProducer(**self._arguments(), **options)

    def admin(self, **options: Any) -> AIOKafkaAdminClient:
        return AIOKafkaAdminClient(**self._arguments(), **options)

    def _arguments(self) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap_servers,
            "security_protocol": self.security_protocol,
            "client_id": self.client_id,
        }
        if self.security_protocol.startswith("SASL"):
            arguments |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.sasl_username,
                "sasl_plain_password": self.sasl_password,
            }
        if self.security_protocol.endswith("SSL"):
            arguments["ssl_context"] = ssl.create_default_context(cafile=self.ssl_ca_file)
        return arguments


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics by what flows through them."""

    inbound: tuple[str, ...] = ("reservation-events",)
    outbound: str = "moorage-outbound"
    state: str = "moorage-state"
    dead_letter: str = "moorage-dead-letters"

    def of(self, channel: Channel) -> str:
        match channel:
            case Channel.OUTBOUND:
                return self.outbound
            case Channel.STATE:
                return self.state
            case Channel.DEAD_LETTER:
                return self.dead_letter
            case Channel.INBOUND:
                return self.inbound[0]

    def outgoing(self, publication: Publication) -> Outgoing:
        """The publication, addressed."""
        return Outgoing(
            self.of(publication.channel),
            publication.value,
            publication.key,
            publication.headers,
            publication.partition,
            last=publication.channel is Channel.STATE,
        )


class TransportError(Exception):
    """Kafka is not as it has to be; the message says what is wrong and what to do."""
