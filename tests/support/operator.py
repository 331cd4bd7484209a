"""What operators do to Kafka while Moorage runs, or while it does not."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

_SECONDS = 30.0


class Operator:
    """Somebody with the rights to do anything, and reasons for it."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})

    def reset(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        """Set the group's committed offset in each of these partitions. Nobody may be a member meanwhile."""
        places = [TopicPartition(topic, partition, offset) for partition, offset in offsets.items()]
        request = ConsumerGroupTopicPartitions(group, places)
        altered = self._admin.alter_consumer_group_offsets([request])[group].result(_SECONDS)
        assert [place.error for place in altered.topic_partitions] == [None] * len(places)

    def truncate(self, topic: str, before: Mapping[int, int]) -> None:
        """Delete the records below these offsets."""
        places = [TopicPartition(topic, partition, offset) for partition, offset in before.items()]
        for done in self._admin.delete_records(places).values():
            done.result(_SECONDS)

    @contextmanager
    def forbidding(self, topic: str, operation: AclOperation = AclOperation.WRITE) -> Iterator[None]:
        """Nobody may do this with the topic until the block is left."""
        # Once a topic has any rule, what no rule allows is denied.
        rules = [(AclOperation.ALL, AclPermissionType.ALLOW), (operation, AclPermissionType.DENY)]
        of_topic: tuple[Any, ...] = (ResourceType.TOPIC, topic, ResourcePatternType.LITERAL)
        bindings = [AclBinding(*of_topic, "User:*", "*", *rule) for rule in rules]
        for done in self._admin.create_acls(bindings).values():
            done.result(_SECONDS)
        try:
            yield
        finally:
            every = AclBindingFilter(*of_topic, None, None, AclOperation.ANY, AclPermissionType.ANY)
            for done in self._admin.delete_acls([every]).values():
                done.result(_SECONDS)
