"""The topics Moorage needs: looked up at start, created where missing and allowed, checked to fit together."""

import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from consumer.transport.connection import Connection, Topics, TransportError

log = structlog.get_logger("moorage.topics")

_REPLICAS = 3
"""Replicas of topics that are created, as far as there are brokers."""


async def ensure_topics(connection: Connection, topics: Topics, *, create: bool, partitions: int) -> int:
    """Make sure that all topics exist; returns how many partitions the first inbound topic has.

    Missing ones are created when `create` says so, inbound ones with `partitions` partitions, all with three
    replicas as far as there are brokers. The state topic must
    have as many as the largest inbound topic, because a partition's state lives in the partition of the same number.
    Raises `TransportError` with the remedy otherwise.
    """
    try:
        admin = AIOKafkaAdminClient(**connection.arguments())
        await admin.start()
    except KafkaError as error:
        raise TransportError(
            f"No Kafka broker answers at {connection.bootstrap_servers} ({error}). "
            "Check KAFKA_BOOTSTRAP_SERVERS and that the brokers run."
        ) from error
    try:
        counts = await _partition_counts(admin)
        replicas = min(_REPLICAS, len((await admin.describe_cluster())["brokers"]))
        missing_inbound = [NewTopic(name, partitions, replicas) for name in topics.inbound if name not in counts]
        await _create(admin, missing_inbound, allowed=create)
        counts |= {topic.name: partitions for topic in missing_inbound}
        needed = max(counts[name] for name in topics.inbound)
        ours = {topics.outbound: {}, topics.dead_letter: {}, topics.state: {"cleanup.policy": "compact"}}
        missing = [NewTopic(name, needed, replicas, topic_configs=ours[name]) for name in ours if name not in counts]
        await _create(admin, missing, allowed=create)
        have = counts.get(topics.state, needed)
        if have != needed:
            raise TransportError(
                f"The state topic {topics.state} has {have} partitions, the reservation topic {needed}; they must be "
                f"equal. Name another state topic (MOORAGE_STATE_TOPIC) or recreate it with {needed} partitions."
            )
        return counts[topics.inbound[0]]
    finally:
        await admin.close()


async def _partition_counts(admin: AIOKafkaAdminClient) -> dict[str, int]:
    described = await admin.describe_topics()
    return {topic["topic"]: len(topic["partitions"]) for topic in described if topic["error_code"] == 0}


async def _create(admin: AIOKafkaAdminClient, missing: list[NewTopic], *, allowed: bool) -> None:
    if not missing:
        return
    names = ", ".join(topic.name for topic in missing)
    if not allowed:
        raise TransportError(f"Missing topics: {names}. Create them, or set MOORAGE_CREATE_TOPICS=true.")
    try:
        response = await admin.create_topics(missing)
    except KafkaError as error:
        raise TransportError(f"Could not create the topics {names}: {error}. Create them by hand.") from error
    for name, code, *_ in response.topic_errors:
        if code not in (0, TopicAlreadyExistsError.errno):
            raise TransportError(f"Could not create the topic {name}: {for_code(code).__name__}. Create it by hand.")
    log.info("topics_created", topics=names)


async def delete_topics(connection: Connection, names: list[str]) -> None:
    """Delete topics, missing ones included; for what was created for a demonstration or a test."""
    admin = AIOKafkaAdminClient(**connection.arguments())
    await admin.start()
    try:
        await admin.delete_topics(names)
    finally:
        await admin.close()
