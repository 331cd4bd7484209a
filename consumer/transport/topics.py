"""The topics Moorage needs: looked up at start, created where missing and allowed, checked to fit together."""

import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    InvalidConfigurationError,
    KafkaError,
    PolicyViolationError,
    TopicAlreadyExistsError,
    for_code,
)

from consumer.transport.connection import Connection, Topics, TransportError

log = structlog.get_logger("moorage.topics")

_REPLICAS = 3
"""Replicas of topics that are created, as far as there are brokers."""

_ABOUT_SETTINGS = (InvalidConfigurationError, PolicyViolationError)

_COMPACTED = {"cleanup.policy": "compact"}
_COMPACTED_SOON = _COMPACTED | {
    "min.cleanable.dirty.ratio": "0.2",
    "segment.bytes": str(100 << 20),
    "segment.ms": str(24 * 3600 * 1000),
}
"""All that lies there is read at each restore: a quarter more than the states at most, apart from the segment that is
being written, which is never compacted and therefore ends after a day."""


class TopicsMissing(TransportError):
    """Topics are not there and may not be created."""


async def ensure_topics(connection: Connection, topics: Topics, *, create: bool, partitions: int) -> int:
    """Make sure that all topics exist; returns how many partitions the first inbound topic has.

    Missing ones are created when `create` says so, inbound ones with `partitions` partitions, all with three
    replicas as far as there are brokers. The state topic must be compacted, and must have as many partitions as the
    largest inbound topic, because a partition's state lives in the partition of the same number.
    Raises `TransportError` with the remedy otherwise.
    """
    try:
        admin = connection.admin()
        await admin.start()
    except KafkaError as error:
        raise TransportError(
            f"No Kafka broker answers at {connection.bootstrap_servers} ({error}). "
            "Check KAFKA_BOOTSTRAP_SERVERS and that the brokers run."
        ) from error
    try:
        counts = await _partition_counts(admin)
        replicas = min(_REPLICAS, len((await admin.describe_cluster())["brokers"]))
        ours = (topics.outbound, topics.dead_letter, topics.state)
        missing = [name for name in (*topics.inbound, *ours) if name not in counts]
        if missing and not create:
            names = ", ".join(missing)
            raise TopicsMissing(f"Missing topics: {names}. Create them, or set MOORAGE_CREATE_TOPICS=true.")
        missing_inbound = [NewTopic(name, partitions, replicas) for name in topics.inbound if name in missing]
        await _create(admin, missing_inbound)
        counts |= {topic.name: partitions for topic in missing_inbound}
        needed = max(counts[name] for name in topics.inbound)
        await _create(admin, [NewTopic(name, needed, replicas) for name in ours[:2] if name in missing])
        if topics.state in missing:
            await _create_state(admin, topics.state, needed, replicas)
        elif counts[topics.state] != needed:
            raise TransportError(
                f"The state topic {topics.state} has {counts[topics.state]} partitions, the reservation topic "
                f"{needed}; they must be equal. Name another state topic (MOORAGE_STATE_TOPIC) or recreate it with "
                f"{needed} partitions."
            )
        else:
            await _expect_compaction(admin, topics.state)
        if len({counts[name] for name in topics.inbound}) > 1:
            sizes = {name: counts[name] for name in topics.inbound}
            log.warning("partition_counts_differ", topics=sizes, consequence="ended reservations are never forgotten")
        return counts[topics.inbound[0]]
    finally:
        await admin.close()


async def _partition_counts(admin: AIOKafkaAdminClient) -> dict[str, int]:
    described = await admin.describe_topics()
    return {topic["topic"]: len(topic["partitions"]) for topic in described if topic["error_code"] == 0}


async def _expect_compaction(admin: AIOKafkaAdminClient, state: str) -> None:
    """Raise `TransportError` when the broker says that the topic forgets by age instead of by key."""
    asked = ConfigResource(ConfigResourceType.TOPIC, state, configs={"cleanup.policy": None})
    try:
        (response,) = await admin.describe_configs([asked])
        ((code, _, _, _, entries),) = response.resources
        if code:
            raise for_code(code)
    except KafkaError as error:  # not allowed to look, or a broker that cannot tell
        log.warning("state_topic_not_checked", topic=state, why=f"{type(error).__name__}: {error}")
        return
    policies = {name: value or "" for name, value, *_ in entries}.get("cleanup.policy", "").split(",")
    if "compact" not in policies:
        raise TransportError(
            f"The state topic {state} is not compacted (cleanup.policy={','.join(policies)}): what is remembered would "
            f"be lost. Alter it: kafka-configs.sh --alter --entity-type topics --entity-name {state} "
            "--add-config cleanup.policy=compact; or name another one (MOORAGE_STATE_TOPIC)."
        )
    if "delete" in policies:
        log.warning("state_topic_forgets", topic=state, why="cleanup.policy has delete as well: states lost by age")


async def _create_state(admin: AIOKafkaAdminClient, name: str, partitions: int, replicas: int) -> None:
    # An acknowledged state must survive one broker: a commit says that it is there.
    settings = _COMPACTED_SOON | {"min.insync.replicas": str(max(1, replicas - 1))}
    try:
        await _create(admin, [NewTopic(name, partitions, replicas, topic_configs=settings)])
    except _SettingsRefused:
        log.warning("state_topic_settings_refused", topic=name, refused=settings)
        await _create(admin, [NewTopic(name, partitions, replicas, topic_configs=_COMPACTED)])


class _SettingsRefused(TransportError):
    """Managed clusters allow some settings of topics and not others."""


async def _create(admin: AIOKafkaAdminClient, missing: list[NewTopic]) -> None:
    if not missing:
        return
    names = ", ".join(topic.name for topic in missing)
    try:
        response = await admin.create_topics(missing)
    except KafkaError as error:
        raise TransportError(f"Could not create the topics {names}: {error}. Create them by hand.") from error
    for name, code, *_ in response.topic_errors:
        if code not in (0, TopicAlreadyExistsError.errno):
            kind = _SettingsRefused if for_code(code) in _ABOUT_SETTINGS else TransportError
            raise kind(f"Could not create the topic {name}: {for_code(code).__name__}. Create it by hand.")
    log.info("topics_created", topics=names)


async def delete_topics(connection: Connection, names: list[str]) -> None:
    """Delete topics, missing ones included; for what was created for a demonstration or a test."""
    admin = connection.admin()
    await admin.start()
    try:
        await admin.delete_topics(names)
    finally:
        await admin.close()
