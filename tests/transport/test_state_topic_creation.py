"""The state topic is made to be compacted, and one that is not is refused."""

import pytest
from aiokafka.errors import InvalidConfigurationError
from structlog.testing import capture_logs

from consumer.transport.connection import Topics, TransportError
from consumer.transport.memory import MemoryBroker
from consumer.transport.memory.log import Topic
from consumer.transport.topics import ensure_topics

TOPICS = Topics(inbound=("reservations", "more-reservations"))


async def ensure(broker: MemoryBroker, *, create: bool = True) -> int:
    return await ensure_topics(broker.connection(), TOPICS, create=create, partitions=4)


async def test_it_is_compacted_soon_and_as_large_as_the_largest_inbound_topic() -> None:
    broker = MemoryBroker()
    broker.create_topic("reservations", 3)
    with capture_logs() as logs:
        assert await ensure(broker) == 3
    made = broker.topics[TOPICS.state]
    assert len(made.partitions) == len(broker.topics[TOPICS.outbound].partitions) == 4
    assert made.configs == {
        "cleanup.policy": "compact",
        "min.cleanable.dirty.ratio": "0.2",
        "segment.bytes": "104857600",
        "segment.ms": "86400000",
        "min.insync.replicas": "1",
    }
    (warning,) = [each for each in logs if each["log_level"] == "warning"]
    assert warning["event"] == "partition_counts_differ"
    assert warning["topics"] == {"reservations": 3, "more-reservations": 4}


async def test_what_it_made_itself_it_accepts() -> None:
    broker = MemoryBroker()
    for create in (True, False):
        with capture_logs() as logs:
            await ensure(broker, create=create)
        assert [each for each in logs if each["log_level"] != "info"] == []


async def test_a_cluster_that_allows_fewer_settings_gets_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = MemoryBroker()
    create_topic = broker.create_topic

    def choosy(name: str, partitions: int = 1, **configs: str) -> Topic:
        if "segment.ms" in configs:
            raise InvalidConfigurationError(name)
        return create_topic(name, partitions, **configs)

    monkeypatch.setattr(broker, "create_topic", choosy)
    with capture_logs() as logs:
        await ensure(broker)
    assert broker.topics[TOPICS.state].configs == {"cleanup.policy": "compact"}
    assert "state_topic_settings_refused" in [each["event"] for each in logs]


async def test_all_that_is_missing_is_named_at_once() -> None:
    broker = MemoryBroker()
    broker.create_topic("reservations", 4)
    with pytest.raises(TransportError, match=r"Missing topics: more-reservations, .*, moorage-state\. Create them"):
        await ensure(broker, create=False)
    assert set(broker.topics) == {"reservations"}


@pytest.mark.parametrize("policy", ["delete", ""])
async def test_one_that_forgets_is_refused(policy: str) -> None:
    broker = MemoryBroker()
    broker.create_topic(TOPICS.state, 4, **{"cleanup.policy": policy})
    with pytest.raises(TransportError, match=r"not compacted.*--add-config cleanup.policy=compact.*MOORAGE_STATE"):
        await ensure(broker)


async def test_one_that_forgets_by_age_as_well_is_warned_of() -> None:
    broker = MemoryBroker()
    broker.create_topic(TOPICS.state, 4, **{"cleanup.policy": "compact,delete"})
    with capture_logs() as logs:
        await ensure(broker)
    assert "state_topic_forgets" in [each["event"] for each in logs]


async def test_one_of_another_size_is_refused() -> None:
    broker = MemoryBroker()
    broker.create_topic(TOPICS.state, 3, **{"cleanup.policy": "compact"})
    with pytest.raises(TransportError, match=r"has 3 partitions, the reservation topic 4"):
        await ensure(broker)
