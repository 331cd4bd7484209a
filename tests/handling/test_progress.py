"""A start that takes long tells machines how far it is: seldom, in order, and never of what is over."""

import asyncio

import pytest

from consumer.catalog.environment import EnvironmentSpec
from consumer.dispatch import Work
from consumer.handling.errors import Permanent, Transient
from consumer.handling.ports import Environment, Progress, Report
from consumer.handling.publications import Channel
from consumer.handling.records import Item
from consumer.handling.routing import route
from consumer.provisioners.memory import MemoryProvisioner
from schemas.outbound import ProgressReport
from tests.handling.stage import INSTANCE, Document, Stage, created, end, resource, start, updated


class Slow(MemoryProvisioner):
    """Pulls for `takes` seconds before it does anything, and says so each second; and once more when it is over."""

    takes = 12
    report: Report

    async def ensure(self, spec: EnvironmentSpec, report: Report) -> Environment:
        self.report = report
        for second in range(self.takes):
            await asyncio.sleep(1)
            report(Progress("pulling", f"{second + 1} of {self.takes}"))
        return await super().ensure(spec, report)


def staged(takes: int = 12) -> tuple[Stage, Slow]:
    stage = Stage()
    slow = Slow(stage.docker, instance=INSTANCE, runtime="docker")
    slow.takes = takes
    stage.lifecycle._runtimes._provisioners["docker"] = slow  # type: ignore[index] # it is a dictionary
    return stage, slow


def told(stage: Stage) -> list[str]:
    return [ProgressReport.model_validate_json(each.value or b"").detail for each in stage.told]


async def test_it_is_told_every_five_seconds() -> None:
    stage, _ = staged()
    await stage.deliver(start(), headers=(("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),))
    assert told(stage) == ["5 of 12", "10 of 12"]
    first = ProgressReport.model_validate_json(stage.told[0].value or b"")
    assert (first.event_id, first.event_type, first.instance) == ("1841", "EVENT_START", INSTANCE)
    assert (first.stage, first.user_id, first.resource_id) == ("pulling", stage.state.user.id, "12")
    assert (stage.told[0].channel, stage.told[0].key) == (Channel.OUTBOUND, b"1841")
    headers = [dict(each.headers) for each in stage.told]
    assert [each["ce_type"] for each in headers] == [b"io.moorage.progress.v1"] * 2
    assert len({each["ce_id"] for each in headers}) == 2
    assert headers[0]["traceparent"]
    assert (headers[0]["ce_time"] or b"").decode() == first.occurred_at.isoformat().replace("+00:00", "Z")


async def test_a_quick_start_tells_its_result_alone() -> None:
    stage, _ = staged(takes=4)
    assert (await stage.deliver(start())).outcomes == [("provisioned", None)]
    assert told(stage) == []


async def test_after_the_result_nothing_is_told_of_its_attempt() -> None:
    stage, slow = staged()
    await stage.deliver(start())
    before = told(stage)
    await asyncio.sleep(60)
    slow.report(Progress("pulling", "late"))
    assert told(stage) == before


@pytest.mark.parametrize("error", [Transient("image_pull_failed", "no"), Permanent("image_not_found", "no")])
async def test_an_attempt_that_failed_tells_nothing_either(error: Exception) -> None:
    stage, slow = staged()
    stage.docker.fail("ensure", error)  # type: ignore[arg-type]
    delivered = asyncio.create_task(stage.deliver(start()))
    await asyncio.sleep(12.001)
    slow.report(Progress("pulling", "late"))
    await delivered
    assert "late" not in told(stage)


async def test_an_assignment_that_was_lost_tells_nothing() -> None:
    stage, _ = staged()
    stage.assignment.closed = True
    await stage.deliver(start())
    assert told(stage) == []


async def test_an_interrupted_start_tells_nothing_any_more() -> None:
    stage, slow = staged()
    work = work_of(stage, start())
    handling = asyncio.create_task(stage.handler.handle(work))
    await asyncio.sleep(6)
    work.interrupt()
    await handling
    slow.report(Progress("pulling", "late"))
    assert told(stage) == ["5 of 12"]
    await stage.deliver(end())


async def test_a_move_tells_of_the_new_environment() -> None:
    stage, slow = staged(takes=0)
    await stage.deliver_all(created(), start())
    slow.takes = 12
    await stage.deliver(updated(1, resource=resource()))
    assert {ProgressReport.model_validate_json(each.value or b"").resource_id for each in stage.told} == {"13"}


def work_of(stage: Stage, document: Document) -> Work[Item]:
    record = stage.record(document)
    ((lane, item),) = route(record, max_bytes=262_144)
    return Work(stage.assignment, record.offset, lane, item, record.size, 0.0)
