"""What every runtime must do. A runtime's tests inherit this class and bring a `harness` fixture.

Its teardown is `assert await harness.clean_up() == []`: whatever a test does, nothing may be left that nobody finds.
"""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from consumer.catalog.environment import Port
from consumer.catalog.identity import KEY, MANAGED_BY, SPEC_HASH
from consumer.handling.errors import Permanent, Transient, Unavailable
from consumer.handling.ports import Progress, Status
from tests.provisioners.harness import ALICE, GPU, UNTIL, WEB_PORT, Harness, fetch, ignore


class Conformance:
    async def test_what_was_ensured_is_found_listed_and_removed(self, harness: Harness) -> None:
        provisioner, spec = harness.provisioner(), harness.spec()

        made = await provisioner.ensure(spec, ignore)

        assert made.status is Status.RUNNING
        assert await provisioner.find(spec.key) == made
        assert await provisioner.list() == [made]
        assert await provisioner.remove(spec.key) is True
        assert await provisioner.find(spec.key) is None
        assert await provisioner.list() == []

    async def test_an_environment_tells_all_that_it_was_made_from(self, harness: Harness) -> None:
        provisioner, spec = harness.provisioner(), harness.spec()

        made = await provisioner.ensure(spec, ignore)

        assert (made.runtime, made.name, made.key) == (provisioner.runtime, spec.name, spec.key)
        assert (made.reservation_id, made.resource_id, made.user) == ("r-1", GPU.id, ALICE.name)
        assert (made.spec_hash, made.expires_at, made.image) == (spec.spec_hash, UNTIL, spec.image)
        assert made.native_id

    async def test_ensuring_twice_gives_the_same_environment(self, harness: Harness) -> None:
        provisioner, spec = harness.provisioner(), harness.spec()

        assert await provisioner.ensure(spec, ignore) == await provisioner.ensure(spec, ignore)

    async def test_what_is_prepared_has_left_nothing_to_remove_and_starts_as_ever(self, harness: Harness) -> None:
        provisioner, spec = harness.provisioner(), harness.spec()

        await provisioner.prepare(spec, ignore)

        assert await provisioner.list() == []
        assert await provisioner.remove(spec.key) is False
        assert await harness.leftovers() == []
        assert (await provisioner.ensure(spec, ignore)).status is Status.RUNNING

    async def test_a_later_end_is_not_another_environment(self, harness: Harness) -> None:
        provisioner, spec = harness.provisioner(), harness.spec()
        made = await provisioner.ensure(spec, ignore)

        extended = await provisioner.ensure(replace(spec, expires_at=UNTIL + timedelta(hours=1)), ignore)

        assert extended.native_id == made.native_id

    async def test_an_end_that_moved_is_shown_where_that_can_be(self, harness: Harness) -> None:
        provisioner, spec, later = harness.provisioner(), harness.spec(), UNTIL + timedelta(hours=1)
        assert await provisioner.extend(spec.key, later) is False
        made = await provisioner.ensure(spec, ignore)

        told = [await provisioner.extend(spec.key, until) for until in (later, later)]

        assert told == [harness.labels_change] * 2
        shown = later if harness.labels_change else UNTIL
        assert await provisioner.find(spec.key) == replace(made, expires_at=shown)
        await harness.stop(made)
        assert await provisioner.extend(spec.key, UNTIL) is harness.labels_change
        stopped = await provisioner.find(spec.key)
        assert stopped is not None
        assert (stopped.status, stopped.expires_at) == (Status.STOPPED, UNTIL)
        await provisioner.remove(spec.key)
        assert await provisioner.extend(spec.key, later) is False

    async def test_what_runs_tells_what_it_uses(self, harness: Harness) -> None:
        provisioner, spec = harness.provisioner(), harness.spec()
        assert await provisioner.usage(spec.key) is None
        made = await provisioner.ensure(spec, ignore)
        await harness.measure(made)

        used = await provisioner.usage(spec.key)

        assert used is not None
        assert used.cpu_seconds is None or used.cpu_seconds >= 0
        assert (used.cpu_seconds is None) is (used.cores is not None)
        assert used.memory_bytes >= 0
        await harness.stop(made)
        assert await provisioner.usage(spec.key) is None
        await provisioner.remove(spec.key)
        assert await provisioner.usage(spec.key) is None

    async def test_ensuring_at_once_makes_one(self, harness: Harness) -> None:
        provisioners, spec = [harness.provisioner(), harness.provisioner()], harness.spec()

        made = await asyncio.gather(*(each.ensure(spec, ignore) for each in provisioners * 3))

        assert len({each.native_id for each in made}) == 1
        assert len(await provisioners[0].list()) == 1

    async def test_different_reservations_do_not_disturb_each_other(self, harness: Harness) -> None:
        provisioner, first, second = harness.provisioner(), harness.spec("r-1"), harness.spec("r-2")
        made = [await provisioner.ensure(spec, ignore) for spec in (first, second)]

        await provisioner.remove(first.key)

        assert await provisioner.find(first.key) is None
        assert await provisioner.find(second.key) == made[1]

    async def test_two_instances_do_not_see_each_other(self, harness: Harness) -> None:
        ours, theirs = harness.provisioner(), harness.provisioner(f"{harness.instance}-b")
        spec = harness.spec()
        await ours.ensure(spec, ignore)

        assert await theirs.list() == []
        assert await theirs.find(harness.spec(instance=f"{harness.instance}-b").key) is None
        assert await theirs.remove(harness.spec(instance=f"{harness.instance}-b").key) is False
        assert len(await ours.list()) == 1

    async def test_twenty_at_once_all_come_up_and_all_go(self, harness: Harness) -> None:
        provisioner = harness.provisioner()
        specs = [harness.spec(f"r-{number}") for number in range(20)]

        made = await asyncio.gather(*(provisioner.ensure(spec, ignore) for spec in specs))

        assert len({each.access.ports[0].host_port for each in made}) == 20
        assert {each.key for each in await provisioner.list()} == {spec.key for spec in specs}
        assert all(await asyncio.gather(*(provisioner.remove(spec.key) for spec in specs)))

    async def test_one_that_stopped_is_started_again(self, harness: Harness) -> None:
        provisioner, spec = harness.provisioner(), harness.spec()
        await harness.stop(await provisioner.ensure(spec, ignore))
        stopped = await provisioner.find(spec.key)
        assert stopped is not None
        assert stopped.status is Status.STOPPED

        again = await provisioner.ensure(spec, ignore)

        assert again.status is Status.RUNNING
        assert await provisioner.list() == [again]
        if harness.serves_http:
            await harness.variables(again)

    async def test_one_that_stopped_is_removed(self, harness: Harness) -> None:
        provisioner, spec = harness.provisioner(), harness.spec()
        await harness.stop(await provisioner.ensure(spec, ignore))

        assert await provisioner.remove(spec.key) is True

    async def test_other_settings_are_a_conflict_and_nothing_is_deleted(self, harness: Harness) -> None:
        provisioner, spec = harness.provisioner(), harness.spec()
        made = await provisioner.ensure(spec, ignore)

        with pytest.raises(Permanent) as conflict:
            await provisioner.ensure(replace(spec, environment={"OTHER": "1"}), ignore)

        assert conflict.value.code == "conflict"
        assert await provisioner.find(spec.key) == made

    async def test_other_settings_under_another_name_are_a_conflict_too(self, harness: Harness) -> None:
        provisioner, spec = harness.provisioner(), harness.spec()
        made = await provisioner.ensure(spec, ignore)

        with pytest.raises(Permanent, match="other settings"):
            await provisioner.ensure(replace(spec, name=f"{spec.name}-x", environment={"OTHER": "1"}), ignore)

        assert await provisioner.list() == [made]

    async def test_what_somebody_else_made_under_our_name_is_left_alone(self, harness: Harness) -> None:
        provisioner, spec = harness.provisioner(), harness.spec()
        await harness.occupy(spec)

        with pytest.raises(Permanent) as conflict:
            await provisioner.ensure(spec, ignore)
        removed, found, listed = (
            await provisioner.remove(spec.key),
            await provisioner.find(spec.key),
            await provisioner.list(),
        )

        assert await harness.vacate(spec), "it was deleted though it was not ours"
        assert conflict.value.code == "conflict"
        assert (removed, found, listed) == (False, None, [])

    async def test_removing_nothing_is_fine(self, harness: Harness) -> None:
        assert await harness.provisioner().remove(harness.spec().key) is False

    async def test_removing_at_once_is_fine(self, harness: Harness) -> None:
        provisioners, spec = [harness.provisioner(), harness.provisioner()], harness.spec()
        await provisioners[0].ensure(spec, ignore)

        removed = await asyncio.gather(*(each.remove(spec.key) for each in provisioners * 2))

        assert any(removed)
        assert await provisioners[0].list() == []

    @pytest.mark.parametrize("after", [0.0, 0.01, 0.1])
    async def test_a_cancelled_ensure_leaves_nothing_that_remove_does_not_find(
        self, harness: Harness, after: float
    ) -> None:
        provisioner, spec = harness.provisioner(), harness.spec()
        ensuring = asyncio.create_task(provisioner.ensure(spec, ignore))
        await asyncio.sleep(after)
        ensuring.cancel()
        await asyncio.gather(ensuring, return_exceptions=True)

        await provisioner.remove(spec.key)

        await asyncio.sleep(0.1)
        assert await provisioner.find(spec.key) is None
        assert await harness.leftovers() == []

    async def test_ensure_and_remove_at_once_end_with_one_or_none(self, harness: Harness) -> None:
        provisioner, spec = harness.provisioner(), harness.spec()
        await provisioner.ensure(spec, ignore)

        results = await asyncio.gather(
            provisioner.remove(spec.key),
            provisioner.ensure(spec, ignore),
            provisioner.remove(spec.key),
            provisioner.ensure(spec, ignore),
            return_exceptions=True,
        )

        assert not [each for each in results if isinstance(each, Exception) and not isinstance(each, Transient)]
        assert len(await provisioner.list()) <= 1

    async def test_a_restarted_moorage_finds_adopts_and_removes_it(self, harness: Harness) -> None:
        spec = harness.spec()
        before = harness.provisioner()
        made = await before.ensure(spec, ignore)
        await before.close()

        after = harness.provisioner()

        assert await after.find(spec.key) == made
        assert await after.ensure(spec, ignore) == made
        assert await after.remove(spec.key) is True

    async def test_access_answers(self, harness: Harness) -> None:
        made = await harness.provisioner().ensure(harness.spec(), ignore)

        port = made.access.ports[0]
        assert (port.port, port.protocol) == (WEB_PORT, "tcp")
        assert made.access.url == f"http://{made.access.host}:{port.host_port}"
        if harness.serves_http:
            assert await fetch(f"{made.access.url}/env.txt")

    async def test_a_host_port_asked_for_is_the_one_that_answers(self, harness: Harness, free_port: int) -> None:
        spec = harness.spec(ports=(Port(WEB_PORT, host=free_port),))

        made = await harness.provisioner().ensure(spec, ignore)

        assert made.access.ports[0].host_port == free_port
        if harness.serves_http:
            await harness.variables(made)

    async def test_variables_arrive_as_they_are(self, harness: Harness) -> None:
        wanted = {"PLAIN": "1", "SPACES": " a  b ", "QUOTES": "\"'`$HOME\\", "EQUALS": "a=b=c", "UMLAUT": "grün ☃"}

        made = await harness.provisioner().ensure(harness.spec(environment=wanted), ignore)

        seen = await harness.variables(made)
        assert {name: seen.get(name) for name in wanted} == wanted

    async def test_our_own_variables_stay_at_home(self, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MOORAGE_KAFKA_PASSWORD", "hunter2")

        made = await harness.provisioner().ensure(harness.spec(), ignore)

        assert "hunter2" not in str(await harness.variables(made))

    async def test_labels_of_users_never_override_ours(self, harness: Harness) -> None:
        forged = {MANAGED_BY: "me", KEY: "0" * 32, SPEC_HASH: "0" * 16, "moorage/ssh-port": str(WEB_PORT), "team": "x"}
        provisioner, spec = harness.provisioner(), harness.spec(labels=forged)

        made = await provisioner.ensure(spec, ignore)

        assert (made.key, made.spec_hash, made.access.ssh) == (spec.key, spec.spec_hash, None)
        assert await provisioner.find(spec.key) == made

    async def test_progress_is_reported(self, harness: Harness) -> None:
        steps: list[Progress] = []

        await harness.provisioner().ensure(harness.spec(), steps.append)

        assert steps or not harness.serves_http
        assert all(step.stage.isalpha() for step in steps)

    async def test_ping_returns_when_the_runtime_answers(self, harness: Harness) -> None:
        await harness.provisioner().ping()

    async def test_a_runtime_that_does_not_answer_is_unavailable(self, harness: Harness) -> None:
        gone, spec = harness.unreachable(), harness.spec()
        for call in (gone.ping(), gone.ensure(spec, ignore), gone.find(spec.key), gone.remove(spec.key), gone.list()):
            with pytest.raises(Unavailable) as error:
                await call
            assert error.value.code == "runtime_unavailable"
        await gone.close()

    async def test_closing_leaves_environments_alone(self, harness: Harness) -> None:
        provisioner, spec = harness.provisioner(), harness.spec()
        made = await provisioner.ensure(spec, ignore)

        await provisioner.close()

        assert await harness.provisioner().list() == [made]


class SurvivalConformance(Conformance):
    """For a runtime whose environments outlive Moorage, which is all but the in-memory one."""

    async def test_a_killed_moorages_environment_is_found_adopted_and_removed(self, harness: Harness) -> None:
        spec = harness.spec()

        native_id = await harness.ensure_elsewhere(spec)

        provisioner = harness.provisioner()
        found = await provisioner.find(spec.key)
        assert found is not None
        assert (found.native_id, found.status) == (native_id, Status.RUNNING)
        await harness.variables(found)
        assert await provisioner.ensure(spec, ignore) == found
        assert await provisioner.remove(spec.key) is True

    async def test_moorages_that_ensure_at_once_make_one(self, harness: Harness) -> None:
        spec = harness.spec()

        native_ids = await asyncio.gather(*(harness.ensure_elsewhere(spec) for _ in range(3)))

        assert len(set(native_ids)) == 1
        assert [each.native_id for each in await harness.provisioner().list()] == [native_ids[0]]
