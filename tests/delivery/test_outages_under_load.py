"""Kafka in trouble while records come in all the time: nothing is lost, and all goes on by itself when it is over.

The broker is one of our own. What is proved is read from topics and committed offsets alone.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services import KafkaBroker
from tests.support.double import Stage
from tests.support.installation import Installation, installation
from tests.support.ledger import Ledger, sampled
from tests.support.operator import Operator
from tests.support.service import DoubleService, Service
from tests.support.traffic import traffic
from tests.support.waiting import eventually

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(150)]

SEED = 23
PER_SECOND = 150


@pytest.fixture
def troubled(mortal: KafkaBroker, tmp_path: Path, stage: Stage) -> Iterator[Installation]:
    slow = {"MOORAGE_DOUBLE_SECONDS": "0.01", "MOORAGE_DOUBLE_SLOW": "1"}
    with installation(mortal.bootstrap_servers, tmp_path, **stage.settings, **slow) as ours:
        yield ours


def wait_for_more(ours: Installation, outcomes: int = 100) -> None:
    """Return when the outbound topic holds so many more than it does now."""
    ours.wait_for(ours.names.outbound, ours.kafka.count(ours.names.outbound) + outcomes)


def stalled_at(ours: Installation) -> dict[int, int]:
    """The committed offsets, once they no longer move although records keep coming."""

    def look() -> dict[int, int]:
        committed = ours.kafka.committed(ours.names.group, ours.names.inbound)
        time.sleep(2.0)
        return committed if committed == ours.kafka.committed(ours.names.group, ours.names.inbound) else {}

    return eventually(look, what="nothing more is committed")


def settle_and_stop(ours: Installation, service: Service) -> Ledger:
    ours.settle()
    assert service.stop() == 0
    return Ledger(ours.kafka, ours.names)


def test_a_broker_that_is_restarted_costs_nothing(mortal: KafkaBroker, troubled: Installation) -> None:
    with sampled(troubled.kafka, troubled.names) as samples, troubled.service(kind=DoubleService) as service:
        with traffic(troubled, seed=SEED, per_second=PER_SECOND):
            wait_for_more(troubled)
            mortal.restart()
            wait_for_more(troubled)
        books = settle_and_stop(troubled, service)
    assert books.lost() == []
    assert books.out_of_order() == []
    assert books.committed_too_early(samples) == []
    assert books.repetitions < 0.05 * len(books)


def test_what_may_not_be_written_is_kept_until_it_may(troubled: Installation) -> None:
    operator = Operator(troubled.kafka.bootstrap_servers)
    with sampled(troubled.kafka, troubled.names) as samples, troubled.service(kind=DoubleService) as service:
        with traffic(troubled, seed=SEED, per_second=PER_SECOND):
            wait_for_more(troubled)
            with operator.forbidding(troubled.names.outbound):
                service.wait_for("publishing_failed")
                stalled_at(troubled)
            wait_for_more(troubled)
        books = settle_and_stop(troubled, service)
    assert books.lost() == []
    assert books.out_of_order() == []
    assert books.committed_too_early(samples) == []
    assert books.repetitions < 0.05 * len(books)


def test_what_comes_while_the_outbound_topic_is_gone_waits_for_the_next_one(troubled: Installation) -> None:
    names = troubled.names
    with troubled.service(kind=DoubleService) as service:
        with traffic(troubled, seed=SEED, per_second=PER_SECOND):
            wait_for_more(troubled)
            troubled.kafka.delete(names.outbound)
            gone_at = troubled.kafka.ends(names.inbound)  # what came before may have had its outcome in the old topic
            committed = stalled_at(troubled)
            troubled.kafka.create(names.outbound)
            wait_for_more(troubled)
        books = settle_and_stop(troubled, service)
    waiting = [entry for entry in books.entries if entry.reservation and entry.offset >= gone_at[entry.partition]]
    assert [str(entry) for entry in waiting if entry.offset < committed.get(entry.partition, 0)] == []
    assert books.lost(since=gone_at) == []
    assert books.out_of_order() == []
