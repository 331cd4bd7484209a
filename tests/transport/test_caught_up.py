"""Timers wait for what was sent while nobody listened, in every topic that shares their partition's state."""

import asyncio

from aiokafka import TopicPartition

from consumer.dispatch import Assignment
from consumer.transport.partitions import Partitions
from tests.transport.test_offset_maps_on_assignment import Admin, Consumer, owned_by

BOOKINGS, EVENTS, OTHER = TopicPartition("bookings", 0), TopicPartition("events", 0), TopicPartition("events", 1)


def consumer() -> Consumer:
    return Consumer({BOOKINGS: 5, EVENTS: 7, OTHER: 0}, {BOOKINGS: 5, EVENTS: 9, OTHER: 100})


async def take_over(partitions: Partitions, *tps: TopicPartition) -> list[Assignment]:
    """Well before a log from which nothing comes counts as taken in."""
    await partitions.take_over(tps)
    await asyncio.sleep(10)
    return [each for tp in tps if (each := partitions.get(tp)) is not None]


async def test_a_backlog_in_one_topic_holds_up_the_reservations_of_all() -> None:
    partitions = owned_by(Admin({}), consumer())
    bookings, events, _ = await take_over(partitions, BOOKINGS, EVENTS, OTHER)
    assert not partitions.caught_up(bookings)
    assert not partitions.caught_up(events)
    partitions.moved(events, 9)
    assert partitions.caught_up(bookings)
    assert partitions.caught_up(events)


async def test_a_partition_of_another_number_is_none_of_their_business() -> None:
    partitions = owned_by(Admin({}), consumer())
    bookings, other = await take_over(partitions, BOOKINGS, OTHER)
    assert partitions.caught_up(bookings)
    assert not partitions.caught_up(other)


async def test_what_is_not_owned_is_not_caught_up() -> None:
    partitions = owned_by(Admin({}), consumer())
    await take_over(partitions, BOOKINGS)
    assert not partitions.caught_up(Assignment("bookings", 0, epoch=0))


async def test_a_topic_whose_partition_was_only_just_assigned_holds_up_the_others() -> None:
    partitions = owned_by(Admin({}), consumer())
    (bookings,) = await take_over(partitions, BOOKINGS)
    assert partitions.caught_up(bookings)
    await partitions.take_over([EVENTS])
    assert not partitions.caught_up(bookings)
    await asyncio.sleep(1)
