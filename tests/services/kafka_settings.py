"""Broker properties that a test cluster has, wherever its nodes run, and how to see that a node is up."""

import socket
import struct

AUTHORIZER = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
}
"""Lets a test deny what it likes; all else stays open to everybody, who is User:ANONYMOUS. For clusters of one node:
the controllers of several cannot vote before they have read the rules, nor read the rules before they have voted."""


def cluster_properties(nodes: int) -> dict[str, str]:
    """Small, quick to rebalance, strict: topics are never created by accident."""
    replicas, in_sync = min(3, nodes), max(1, min(3, nodes) - 1)
    return {
        "auto.create.topics.enable": "false",
        "default.replication.factor": str(replicas),
        "min.insync.replicas": str(in_sync),
        "offsets.topic.replication.factor": str(replicas),
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": str(replicas),
        "transaction.state.log.min.isr": str(in_sync),
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": str(replicas),
        "share.coordinator.state.topic.min.isr": str(in_sync),
        "share.coordinator.state.topic.num.partitions": "2",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        "broker.heartbeat.interval.ms": "500",
        "broker.session.timeout.ms": "3000",
        "num.network.threads": "2",
        "num.io.threads": "4",
        "background.threads": "2",
        "log.cleaner.threads": "1",
        "log.cleaner.dedupe.buffer.size": str(8 << 20),
        "log.index.size.max.bytes": str(1 << 20),
        "log.segment.bytes": str(64 << 20),
    }


def knows_members(port: int, members: set[int]) -> bool:
    """Whether the node on this port of loopback answers and sees live brokers on all these ports.

    Asks for metadata rather than API versions: a node answers the latter before it may lead partitions.
    """
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            api, version, correlation, client, no_topics = 3, 1, 0, b"ready", 0
            request = struct.pack(f">hhih{len(client)}si", api, version, correlation, len(client), client, no_topics)
            connection.sendall(struct.pack(">i", len(request)) + request)
            with connection.makefile("rb") as reply:
                (size,) = struct.unpack(">i", reply.read(4))
                return members <= _ports_in_metadata(reply.read(size))
    except (OSError, struct.error):
        return False


def _ports_in_metadata(body: bytes) -> set[int]:
    """The brokers of a Metadata v1 response: correlation id, then (id, host, port, rack or null) each."""
    position = 8
    ports = set()
    for _ in range(struct.unpack_from(">i", body, 4)[0]):
        (host_length,) = struct.unpack_from(">h", body, position + 4)
        (port,) = struct.unpack_from(">i", body, position + 6 + host_length)
        ports.add(port)
        rack = position + 10 + host_length
        position = rack + 2 + max(0, struct.unpack_from(">h", body, rack)[0])
    return ports
