"""A move: away with the old environment, in with the new one, both told."""

from consumer.handling.errors import Permanent, Transient
from consumer.handling.publications import Channel
from schemas.state import Phase
from tests.handling.stage import KEY, NAME, Stage, created, end, resource, start, updated

MOVED_NAME = NAME.replace("server-1", "server-2")


async def _running() -> Stage:
    stage = Stage()
    await stage.deliver_all(created(), start())
    return stage


async def test_another_resource_is_released_then_provisioned() -> None:
    stage = await _running()
    told = await stage.deliver(updated(1, resource=resource()))
    assert told.outcomes == [("released", "moved"), ("provisioned", None)]
    old, new = told.results
    assert (old.resource_id, old.access, old.environment) == ("12", None, None)
    assert (new.resource_id, new.environment) == ("13", MOVED_NAME)
    assert old.revision != new.revision
    assert stage.running == {MOVED_NAME}
    (note,) = told.notifications
    assert note.message.startswith("GPU Server 2 is ready until 12:00 UTC. Log in: ssh -p ")
    assert [each.channel for each in told.publications][-1] is Channel.STATE


async def test_another_owner_gets_a_new_environment_and_both_are_told() -> None:
    stage = await _running()
    before = stage.state
    told = await stage.deliver(updated(1, keycloakId="bob"))
    first, second = told.notifications
    assert (first.user_id, first.message) == (
        before.user.id,
        "Your environment on GPU Server 1 was removed. The reservation was moved to another resource or owner.",
    )
    assert first.metadata == {
        "resultId": told.results[0].id,
        "outcome": "released",
        "runtime": "docker",
        "reason": "moved",
    }
    assert second.user_id == "bob"
    assert stage.docker.spec_of(KEY).user.name is None


async def test_a_move_to_another_runtime_leaves_nothing_on_the_first() -> None:
    stage = await _running()
    await stage.deliver(updated(1, resource=resource(13, "Pod")))
    assert (stage.docker.names(), stage.podman.names()) == (set(), {MOVED_NAME})
    assert (await stage.deliver(end())).outcomes == [("released", None)]
    assert stage.running == set()


async def test_a_move_to_what_is_refused_releases_and_fails() -> None:
    stage = await _running()
    told = await stage.deliver(updated(1, resource=resource(13, "Blackboard")))
    assert told.outcomes == [("released", "moved"), ("failed", "no_template")]
    assert (stage.running, told.letters) == (set(), [])


async def test_a_move_that_cannot_be_done_leaves_nothing_on_any_runtime() -> None:
    stage = await _running()
    stage.podman.lose_reply("ensure", Permanent("conflict", "Taken."))
    told = await stage.deliver(updated(1, resource=resource(13, "Pod")))
    assert told.outcomes == [("released", "moved"), ("failed", "conflict")]
    assert (stage.running, len(told.letters)) == (set(), 1)
    assert stage.state.phase is Phase.FAILED
    assert stage.state.runtime is None


async def test_a_move_that_is_tried_again_does_not_begin_anew() -> None:
    stage = await _running()
    stage.docker.lose_reply("ensure", Transient("runtime_error", "no"))
    told = await stage.deliver(updated(1, resource=resource()))
    assert told.outcomes == [("released", "moved"), ("provisioned", None)]
    assert [call.operation for call in stage.docker.calls].count("remove") == 1


async def test_a_move_waits_until_the_old_environment_is_gone() -> None:
    stage = await _running()
    stage.docker.fail("remove", Transient("runtime_error", "no"))
    told = await stage.deliver(updated(1, resource=resource()))
    assert told.outcomes == [("released", "moved"), ("provisioned", None)]
    assert stage.docker.max_live_per_key == {KEY: 1}


async def test_without_versions_a_start_for_another_owner_is_a_move() -> None:
    stage = Stage()
    await stage.deliver(start())
    told = await stage.deliver(start(userId="bob", username="bob"))
    assert told.outcomes == [("released", "moved"), ("provisioned", None)]
    assert stage.docker.spec_of(KEY).user.id == "bob"
