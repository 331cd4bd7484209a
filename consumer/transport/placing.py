"""Which partition a key belongs to."""

from aiokafka.partitioner import murmur2


def default_partition(key: bytes, count: int) -> int:
    """By Kafka's default partitioner, where the topic has `count` partitions."""
    return (int(murmur2(key)) & 0x7FFFFFFF) % count
