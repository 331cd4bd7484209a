"""What an earlier owner had done is believed if it can be read, belongs to this offset, and lies within the log."""

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    UnsupportedVersionError,
)
from structlog.testing import capture_logs

from consumer.dispatch import Assignment, OffsetMap
from consumer.transport.offsets import read_offset_maps
from consumer.transport.partitions import NoMemory, Partitions

ONE, TWO, THREE = (TopicPartition("reservations", number) for number in (1, 2, 3))
KNOWN = OffsetMap(100, 110, [100, 105])


class Committed(NamedTuple):
    offset: int
    metadata: str | None


NOTHING = Committed(-1, "")


class Admin:
    """Both the connection and the client it makes."""

    def __init__(self, *answers: dict[TopicPartition, Committed] | BaseException) -> None:
        self.answers = list(answers)
        """The last one is that to all further questions."""

        self.asked: list[tuple[str, list[TopicPartition]]] = []
        self.takes = 0.0
        self.cannot_start: BaseException | None = None
        self.stopped = 0

    def admin(self, **options: Any) -> "Admin":
        return self

    async def start(self) -> None:
        if self.cannot_start is not None:
            raise self.cannot_start

    async def list_consumer_group_offsets(
        self, group: str, *, partitions: list[TopicPartition]
    ) -> dict[TopicPartition, Committed]:
        self.asked.append((group, partitions))
        await asyncio.sleep(self.takes)
        answer = self.answers[min(len(self.asked), len(self.answers)) - 1]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def close(self) -> None:
        self.stopped += 1


async def read(admin: Admin, positions: dict[TopicPartition, int]) -> tuple[dict[TopicPartition, OffsetMap], list[str]]:
    """The maps, and the warnings."""
    with capture_logs() as logs:
        maps = await read_offset_maps(admin, "moorage", positions)  # type: ignore[arg-type]
    assert admin.stopped == 1
    assert all(entry["log_level"] == "warning" for entry in logs)
    return maps, [entry["event"] for entry in logs]


def now() -> float:
    return asyncio.get_running_loop().time()


# Reading


async def test_the_maps_that_were_committed_with_these_offsets_are_read() -> None:
    other = OffsetMap(7, 20, [7, 8, 9])
    admin = Admin({ONE: Committed(100, KNOWN.encode()), TWO: Committed(7, other.encode()), THREE: Committed(5, "")})
    assert await read(admin, {THREE: 5, TWO: 7, ONE: 100}) == ({ONE: KNOWN, TWO: other}, [])
    assert admin.asked == [("moorage", [ONE, TWO, THREE])]
    assert now() == 0


@pytest.mark.parametrize("metadata", ["", None])
async def test_an_offset_without_metadata_is_nothing_special(metadata: str | None) -> None:
    assert await read(Admin({ONE: Committed(100, metadata)}), {ONE: 100}) == ({}, [])


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param("m2" + KNOWN.encode()[2:], id="a version to come"),
        pytest.param(OffsetMap(90, 110, [90, 105]).encode(), id="of another offset"),
        pytest.param(KNOWN.encode()[:-2], id="cut off"),
        pytest.param(KNOWN.encode()[:-1] + "/", id="garbled"),
        pytest.param("NO_METADATA", id="of another tool"),
        pytest.param('{"host": "a", "at": 1}', id="of yet another tool"),
        pytest.param("m1" + "A" * 10**6, id="huge"),
        pytest.param("\ud800", id="no text"),
    ],
)
async def test_what_is_no_map_of_this_offset_is_left_aside_with_a_warning_and_the_others_are_read(
    metadata: str,
) -> None:
    admin = Admin({ONE: Committed(100, metadata), TWO: Committed(100, KNOWN.encode())})
    assert await read(admin, {ONE: 100, TWO: 100}) == ({TWO: KNOWN}, ["offset_map_ignored"])


async def test_the_map_of_an_offset_at_which_nothing_is_consumed_is_left_aside() -> None:
    """Somebody has reset the group meanwhile, or what was committed is out of the log's range."""
    admin = Admin({ONE: Committed(100, KNOWN.encode()), TWO: Committed(100, KNOWN.encode()), THREE: NOTHING})
    assert await read(admin, {ONE: 0, TWO: 101, THREE: 0}) == ({}, [])


async def test_a_partition_that_was_not_asked_for_is_left_aside() -> None:
    admin = Admin({ONE: Committed(100, KNOWN.encode()), TWO: Committed(100, KNOWN.encode())})
    assert await read(admin, {ONE: 100}) == ({ONE: KNOWN}, [])


async def test_a_coordinator_that_does_not_know_yet_is_asked_again() -> None:
    admin = Admin({}, {ONE: NOTHING}, {ONE: Committed(100, KNOWN.encode())})
    assert await read(admin, {ONE: 100}) == ({ONE: KNOWN}, [])
    assert 0 < now() < 2


async def test_a_group_that_has_never_committed_is_soon_believed() -> None:
    """Consuming may begin at an offset that nobody committed: at the beginning of a log, or at its end."""
    admin = Admin({ONE: NOTHING})
    assert await read(admin, {ONE: 100}) == ({}, [])
    assert (len(admin.asked), now() < 2) == (3, True)


async def test_a_group_that_begins_with_empty_logs_is_asked_for_once() -> None:
    admin = Admin({ONE: NOTHING})
    assert await read(admin, {ONE: 0}) == ({}, [])
    assert (len(admin.asked), now()) == (1, 0)


@pytest.mark.parametrize(
    "error",
    [
        GroupAuthorizationFailedError(),
        UnsupportedVersionError(),
        KafkaTimeoutError(),
        KafkaError(),
        TimeoutError(),
        ConnectionResetError(),
        ValueError("a response that cannot be parsed"),
        IndexError("a response that cannot be parsed"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_without_an_answer_nothing_is_known(error: BaseException) -> None:
    assert await read(Admin(error), {ONE: 100}) == ({}, ["offset_maps_unreadable"])


@pytest.mark.parametrize(
    "error", [KafkaConnectionError("no broker"), OSError("no such file")], ids=lambda e: type(e).__name__
)
async def test_without_a_connection_nothing_is_known(error: BaseException) -> None:
    admin = Admin()
    admin.cannot_start = error
    assert await read(admin, {ONE: 100}) == ({}, ["offset_maps_unreadable"])


async def test_an_answer_is_not_waited_for_for_ever() -> None:
    admin = Admin({ONE: Committed(100, KNOWN.encode())})
    admin.takes = 1e6
    assert await read(admin, {ONE: 100}) == ({}, ["offset_maps_unreadable"])
    assert now() == 5


async def test_cancelling_is_not_mistaken_for_an_answer() -> None:
    admin = Admin({})
    admin.takes = 1e6
    reading = asyncio.create_task(read_offset_maps(admin, "moorage", {ONE: 100}))  # type: ignore[arg-type]
    await asyncio.sleep(1)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert admin.stopped == 1


# Taking over


class Consumer:
    """Where consuming begins, and where the logs end."""

    def __init__(self, positions: dict[TopicPartition, int], ends: dict[TopicPartition, int] | KafkaError) -> None:
        self.positions = positions
        self.ends = ends
        self.located: set[TopicPartition] = set()
        """Whose end was asked for once, as it is for each partition."""

    async def position(self, tp: TopicPartition) -> int:
        return self.positions[tp]

    async def beginning_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    async def committed(self, tp: TopicPartition) -> int:
        return self.positions[tp]

    async def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        if isinstance(self.ends, KafkaError):
            if len(partitions) > 1 or partitions[0] in self.located:
                raise self.ends
            self.located.update(partitions)
            return dict.fromkeys(partitions, 0)
        return {tp: self.ends.get(tp, 0) for tp in partitions}


class Dispatcher:
    def look_again(self) -> None:
        pass


class Options:
    group = "moorage"
    commit_timeout = 5.0


def owned_by(
    admin: Admin, consumer: Consumer, start: Callable[..., asyncio.Task[None]] = asyncio.create_task
) -> Partitions:
    parts: Any = (admin, consumer, Options())
    others: Any = {"dispatcher": Dispatcher(), "committer": None}
    return Partitions(*parts, **others, memory=NoMemory(), start=start)


async def take_over(partitions: Partitions, *tps: TopicPartition) -> list[Assignment]:
    await partitions.take_over(tps)
    await asyncio.sleep(60)
    assert partitions.restored
    taken = [partitions.get(tp) for tp in tps]
    return [assignment for assignment in taken if assignment is not None]


async def test_a_partition_that_is_taken_over_goes_on_from_its_map() -> None:
    admin = Admin({ONE: Committed(100, KNOWN.encode()), TWO: Committed(50, "")})
    partitions = owned_by(admin, Consumer({ONE: 100, TWO: 50}, {ONE: 110}))
    with capture_logs() as logs:
        first, second = await take_over(partitions, ONE, TWO)
    assert first.watermark.snapshot() == KNOWN
    assert second.watermark.snapshot() is None
    assert partitions.positions == {first: 100, second: 50}
    assert [entry["done_above"] for entry in logs if entry["event"] == "offset_map_read"] == [8]


async def test_a_map_that_reaches_beyond_the_end_of_its_log_is_left_aside() -> None:
    """The log has lost its end since. What will be there instead was not done."""
    admin = Admin({tp: Committed(100, KNOWN.encode()) for tp in (ONE, TWO, THREE)})
    partitions = owned_by(admin, Consumer({ONE: 100, TWO: 100, THREE: 100}, {ONE: 109, TWO: 110, THREE: 10**6}))
    with capture_logs() as logs:
        taken = await take_over(partitions, ONE, TWO, THREE)
    assert [assignment.watermark.snapshot() for assignment in taken] == [None, KNOWN, KNOWN]
    assert [entry["partition"] for entry in logs if entry["log_level"] == "warning"] == ["reservations/1"]
    assert list(partitions.positions.values()) == [100, 100, 100]


@pytest.mark.parametrize(
    "error", [KafkaTimeoutError(), UnsupportedVersionError()], ids=lambda error: type(error).__name__
)
async def test_where_the_end_of_the_log_is_unknown_no_map_is_believed(error: KafkaError) -> None:
    admin = Admin({ONE: Committed(100, KNOWN.encode())})
    partitions = owned_by(admin, Consumer({ONE: 100}, error))
    with capture_logs() as logs:
        [assignment] = await take_over(partitions, ONE)
    assert assignment.watermark.snapshot() is None
    assert partitions.positions == {assignment: 100}
    assert [entry["event"] for entry in logs if entry["log_level"] == "warning"] == ["offset_maps_ignored"]


async def test_without_any_map_nobody_asks_where_the_logs_end() -> None:
    partitions = owned_by(Admin({ONE: Committed(100, "")}), Consumer({ONE: 100}, KafkaError("asked all the same")))
    with capture_logs() as logs:
        await take_over(partitions, ONE)
    assert [entry["event"] for entry in logs if entry["log_level"] == "warning"] == []


async def test_without_an_answer_partitions_are_taken_over_all_the_same() -> None:
    partitions = owned_by(Admin(KafkaError("no answer")), Consumer({ONE: 100}, {}))
    [assignment] = await take_over(partitions, ONE)
    assert (assignment.watermark.snapshot(), partitions.positions) == (None, {assignment: 100})


async def test_a_partition_that_was_lost_while_its_map_was_read_is_left_alone() -> None:
    admin = Admin({ONE: Committed(100, KNOWN.encode()), TWO: Committed(100, KNOWN.encode())})
    admin.takes = 3.0
    partitions = owned_by(admin, Consumer({ONE: 100, TWO: 100}, {ONE: 110, TWO: 110}))
    await partitions.take_over([ONE, TWO])
    await asyncio.sleep(1)
    lost, kept = partitions.get(ONE), partitions.get(TWO)
    assert lost is not None
    lost.closed = True
    await asyncio.sleep(60)
    assert list(partitions.positions) == [kept]
    assert lost.watermark.snapshot() is None
