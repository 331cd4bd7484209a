"""How to reach Kafka, and the names of the topics."""

import ssl
from dataclasses import dataclass, field
from typing import Any

from consumer.handling.publications import Channel


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the brokers are and how to prove who we are; `arguments()` suits every aiokafka client."""

    bootstrap_servers: str
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = "PLAIN"
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    ssl_ca_file: str | None = None
    client_id: str = "moorage"

    def arguments(self) -> dict[str, Any]:
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


class TransportError(Exception):
    """Kafka is not as it has to be; the message says what is wrong and what to do."""
