"""What comes twice — because the platform repeats it, or because a crash lost the state — does no harm."""

from typing import Any

import pytest

from schemas.state import Phase, ReservationState
from tests.handling.stage import KEY, NAME, TEMPLATES, Stage, created, deleted, end, resource, start, updated

OTHER_TEMPLATES = TEMPLATES.replace("nginx:1.27", "nginx:1.28")

STORIES: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "created": ([], created()),
    "start": ([], start()),
    "start after created": ([created()], start()),
    "start that is refused": ([created()], start(customParameters='{"image": "evil:1"}')),
    "start after the end": ([end()], start()),
    "end": ([start()], end()),
    "end never seen": ([], end()),
    "deleted": ([created(), start()], deleted()),
    "deleted never seen": ([], deleted()),
    "extension": ([created(), start()], updated(1)),
    "shortening": ([created(), start()], updated(1, end="2026-03-02T08:30:00Z")),
    "postponement": ([created(), start()], updated(1, start="2026-03-02T11:00:00Z")),
    "another resource": ([created(), start()], updated(1, resource=resource())),
    "another runtime": ([created(), start()], updated(1, resource=resource(14, "Pod"))),
    "another owner": ([created(), start()], updated(1, keycloakId="bob")),
    "move to what is refused": ([created(), start()], updated(1, resource=resource(15, "Blackboard"))),
    "stale update": ([updated(2)], updated(1)),
}


@pytest.mark.parametrize("story", STORIES)
async def test_an_event_handled_again_after_a_crash_says_the_same_and_makes_nothing_new(story: str) -> None:
    before, event = STORIES[story]
    stage = Stage()
    await stage.deliver_all(*before)
    first = await stage.crash_after(event)
    made = {name: engine._made[name].native_id for engine in (stage.docker, stage.podman) for name in engine.names()}
    again = await stage.deliver(event)
    assert again.outcomes == first.outcomes
    assert again.ids == first.ids
    assert [each.value for each in again.notifications_raw] == [each.value for each in first.notifications_raw]
    assert made == {
        name: engine._made[name].native_id for engine in (stage.docker, stage.podman) for name in engine.names()
    }
    assert stage.docker.violations == stage.podman.violations == []


@pytest.mark.parametrize("story", [name for name in STORIES if name not in ("postponement", "shortening")])
async def test_a_repeated_event_tells_no_person_again_and_changes_nothing(story: str) -> None:
    before, event = STORIES[story]
    stage = Stage()
    await stage.deliver_all(*before, event)
    running, phase, revision = stage.running, stage.state.phase, stage.state.revision
    again = await stage.deliver(event | {"timestamp": "2026-03-02T08:59:59Z"})
    assert (stage.running, stage.state.phase, stage.state.revision) == (running, phase, revision)
    assert again.notifications == []


async def test_a_repeated_start_says_the_same_under_the_same_id() -> None:
    stage = Stage()
    first, again = await stage.deliver_all(start(), start(timestamp="2026-03-02T08:59:59Z"))
    assert again.ids == first.ids[:1]
    assert again.results[0].access == first.results[0].access
    assert again.notifications == []
    assert [call.operation for call in stage.docker.calls].count("ensure") == 1


async def test_a_repeated_start_says_the_same_after_a_restart() -> None:
    stage = Stage()
    first = await stage.deliver(start())
    stage.states.remembered = {"1841": ReservationState.model_validate_json(stage.state.to_bytes())}
    stage.use(TEMPLATES)
    assert (await stage.deliver(start())).ids == first.ids[:1]


async def test_what_runs_stays_as_it_is_when_templates_change() -> None:
    stage = Stage()
    first = await stage.deliver(start())
    stage.use(OTHER_TEMPLATES)
    again = await stage.deliver(start())
    assert again.results[0].image == first.results[0].image
    assert [call.operation for call in stage.docker.calls].count("ensure") == 1


@pytest.mark.parametrize("before", [[], [created()]])
async def test_what_runs_survives_a_crash_and_new_templates(before: list[dict[str, Any]]) -> None:
    stage = Stage()
    await stage.deliver_all(*before)
    first = await stage.crash_after(start())
    stage.use(OTHER_TEMPLATES)
    again = await stage.deliver(start())
    assert again.ids == first.ids
    assert again.results[0].access == first.results[0].access
    assert again.results[0].image == first.results[0].image


async def test_losing_all_state_loses_no_environment() -> None:
    stage = Stage()
    first = await stage.deliver(start())
    stage.states.remembered.clear()
    stage.use(OTHER_TEMPLATES)
    again = await stage.deliver(start())
    assert again.results[0].access == first.results[0].access
    assert (await stage.deliver(end())).outcomes == [("released", None)]
    assert stage.running == set()


async def test_leftovers_for_another_owner_are_replaced_and_never_handed_over() -> None:
    stage = Stage()
    await stage.deliver(start())
    stage.states.remembered.clear()
    told = await stage.deliver(start(userId="bob", username="bob"))
    assert told.outcomes == [("provisioned", None)]
    assert stage.docker.spec_of(KEY).user.id == "bob"


async def test_leftovers_of_a_failure_are_replaced() -> None:
    stage = Stage()
    await stage.deliver(start())
    state = stage.state.model_copy(update={"phase": Phase.FAILED, "environment": None, "runtime": None})
    stage.states.remembered["1841"] = state
    stage.use(OTHER_TEMPLATES)
    told = await stage.deliver(start())
    assert told.results[0].image == "nginx:1.28"
    assert stage.docker.violations == []


async def test_an_environment_that_was_lost_behind_our_back_is_made_again_and_told_as_news() -> None:
    stage = Stage()
    first = await stage.deliver(start())
    stage.docker._made.clear()
    again = await stage.deliver(start())
    assert stage.running == {NAME}
    assert again.ids[0] != first.ids[0]
    assert again.results[0].access != first.results[0].access
    assert len(again.notifications) == 1
    assert again.ids[1] != first.ids[1]


async def test_an_environment_that_died_is_started_again() -> None:
    stage = Stage()
    await stage.deliver(start())
    stage.docker.stop(KEY)
    assert (await stage.deliver(start())).outcomes == [("provisioned", None)]
    assert stage.docker.max_live_per_key == {KEY: 1}


async def test_an_environment_that_died_is_not_left_behind_when_its_template_moved_to_another_runtime() -> None:
    stage = Stage()
    await stage.deliver(start())
    stage.docker.stop(KEY)
    stage.use(TEMPLATES.replace("runtime: docker", "runtime: podman"))
    assert (await stage.deliver(start())).outcomes == [("provisioned", None)]
    assert (stage.docker.names(), stage.podman.names()) == (set(), {NAME})
    assert (await stage.deliver(end())).outcomes == [("released", None)]
    assert stage.running == set()


async def test_what_a_late_hand_made_after_the_end_goes_with_the_next_end() -> None:
    stage = Stage()
    await stage.deliver(start())
    spec = stage.docker.spec_of(KEY)
    await stage.deliver(end())
    stage.docker._create(spec, "lab")
    told = await stage.deliver(end())
    assert (told.outcomes, told.notifications) == ([("released", None)], [])
    assert stage.running == set()
