"""Any events in any order, with crashes and runtimes that stumble in between, come to what the model says."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.dispatch import RetryPolicy
from consumer.handling.errors import ProvisionerError, Transient, Unavailable
from consumer.provisioners.memory import Operation
from schemas.events import ReservationEvent
from schemas.outbound import Outcome
from tests.handling.stage import KEY, Stage, Told
from tests.reservations.test_permutations import expected, histories
from tests.virtual_clock import run

pytestmark = pytest.mark.no_cover  # measured, it takes three times as long; others reach what it reaches

PATIENT = RetryPolicy(max_attempts=100, base_delay=0.001, max_delay=0.001)
OPERATIONS: tuple[Operation, ...] = ("find", "ensure", "remove")
ERRORS: tuple[ProvisionerError, ...] = (
    Transient("runtime_error", "It stumbled."),
    Unavailable("It does not answer."),
)

# Whether to crash afterwards; what fails, and how; whether that is done all the same.
troubles = st.tuples(st.booleans(), st.sampled_from(OPERATIONS), st.sampled_from(ERRORS), st.booleans())


@settings(max_examples=200)
@given(histories(), st.data())
def test_what_exists_in_the_end_is_what_the_model_says(events: list[ReservationEvent], data: st.DataObject) -> None:
    run(_tell(events, data))


async def _tell(events: list[ReservationEvent], data: st.DataObject) -> None:
    stage = Stage(provision_retries=PATIENT, release_retries=PATIENT)
    stage.outage = 0.001
    ids: dict[object, str] = {}
    for event in events:
        lost: list[Told] = []
        for crash, operation, error, done in data.draw(st.lists(troubles, max_size=2)):
            (stage.docker.lose_reply if done else stage.docker.fail)(operation, error)
            if crash:
                lost.append(await stage.crash_after(event))
        told = await stage.deliver_event(event)
        assert told.letters == []
        assert all(each.ids == told.ids for each in lost)
        for result in told.results:
            skipped_for = result.reason and result.outcome is Outcome.SKIPPED and result.reason.code
            assert ids.setdefault((result.revision, result.outcome, skipped_for), result.id) == result.id
    assert stage.docker.violations == []
    if events:
        phase, exists = expected(events)
        assert stage.state.phase is phase
        made = [stage.docker.spec_of(KEY)] if stage.running else []
        assert [(spec.resource.id, spec.user.id) for spec in made] == ([exists] if exists else [])
