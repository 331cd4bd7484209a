"""Data outlives containers where the template says so, and nobody gets what is another's."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from aiodocker.exceptions import DockerError
from aiodocker.volumes import DockerVolume

from consumer.catalog.environment import EnvironmentSpec, Volume
from consumer.catalog.identity import INSTANCE, KEY, MANAGED_BY
from consumer.catalog.volumes import VolumeSection, volume_for
from consumer.handling.errors import Permanent, Transient, Unavailable
from consumer.handling.ports import Environment
from consumer.provisioners.docker.dialects import DOCKER
from consumer.provisioners.docker.volumes import Volumes
from schemas.events import User
from schemas.state import Phase, ReservationState
from tests.provisioners.docker.harness import DockerHarness, on_both, shell
from tests.provisioners.docker.proxy import EngineProxy
from tests.provisioners.harness import ALICE, GPU, UNTIL, ignore

pytestmark = pytest.mark.docker

PATH = "/data"
WRITE = shell(f"echo written >> {PATH}/file; echo done > /www/done; exec sleep 1000")


@pytest.fixture(autouse=True)
async def retained(harness: DockerHarness) -> AsyncIterator[None]:
    """What is kept on purpose goes with the test, after the containers."""
    yield
    provisioner = harness.provisioner()
    await asyncio.gather(*(provisioner.remove(each.key) for each in await provisioner.list()))
    labels = [f"{INSTANCE}={harness.instance}", "moorage/reclaim=retain"]
    for each in (await harness.docker.volumes.list(filters={"label": labels}))["Volumes"] or ():
        await DockerVolume(harness.docker, each["Name"]).delete()


def volume(harness: DockerHarness, reservation: str = "r-1", user: User = ALICE, **section: Any) -> Volume:
    state = ReservationState(
        reservation_id=reservation,
        phase=Phase.ACTIVE,
        revision="1",
        start=UNTIL - timedelta(hours=1),
        end=UNTIL,
        user=user,
        resource=GPU,
        changed_at=UNTIL,
    )
    return volume_for(VolumeSection(path=PATH, **section), "web", state, instance=harness.instance)


def spec_of(harness: DockerHarness, reservation: str = "r-1", **section: Any) -> EnvironmentSpec:
    return harness.spec(reservation, command=WRITE, volume=volume(harness, reservation, **section))


async def names(harness: DockerHarness) -> set[str]:
    found = await harness.docker.volumes.list(filters={"label": [f"{INSTANCE}={harness.instance}"]})
    return {each["Name"] for each in found["Volumes"] or ()}


async def written(harness: DockerHarness, made: Environment) -> Environment:
    """It, once its container has written to the volume."""
    async with asyncio.timeout(30):
        while True:
            with suppress(DockerError):  # there is no such file yet
                await harness.docker.containers.container(made.native_id).get_archive("/www/done")
                return made
            await asyncio.sleep(0.05)


async def lines_in(harness: DockerHarness, made: Environment) -> int:
    """How many containers have written to the volume."""
    await written(harness, made)
    archive = await harness.docker.containers.container(made.native_id).get_archive(f"{PATH}/file")
    content = archive.extractfile("file")
    assert content is not None
    return len(content.read().splitlines())


@on_both
class TestReservationVolumes:
    async def test_it_goes_with_its_environment(self, harness: DockerHarness) -> None:
        provisioner, spec = harness.provisioner(), spec_of(harness)
        assert spec.volume is not None
        made = await provisioner.ensure(spec, ignore)
        (mount,) = (await harness.inspect(made))["Mounts"]
        assert (mount["Type"], mount["Name"], mount["Destination"]) == ("volume", spec.volume.name, PATH)
        assert await names(harness) == {spec.volume.name}

        assert await provisioner.remove(spec.key)

        assert await names(harness) == set()

    async def test_it_carries_whose_it_is(self, harness: DockerHarness) -> None:
        spec = spec_of(harness)
        assert spec.volume is not None
        await harness.provisioner().ensure(spec, ignore)

        labels = (await DockerVolume(harness.docker, spec.volume.name).show())["Labels"]

        assert labels == dict(spec.volume.labels)
        assert labels.items() >= {MANAGED_BY: "moorage", INSTANCE: harness.instance, KEY: spec.key}.items()

    async def test_a_container_that_is_made_again_finds_its_data(self, harness: DockerHarness) -> None:
        provisioner, spec = harness.provisioner(), spec_of(harness)
        made = await written(harness, await provisioner.ensure(spec, ignore))
        await harness.docker.containers.container(made.native_id).delete(force=True)

        again = await provisioner.ensure(spec, ignore)

        assert again.native_id != made.native_id
        assert await lines_in(harness, again) == 2

    async def test_a_container_that_is_replaced_leaves_it_to_the_next(self, harness: DockerHarness) -> None:
        provisioner, spec = harness.provisioner(), spec_of(harness)
        await written(harness, await provisioner.ensure(spec, ignore))

        assert await provisioner.remove(spec.key, keep=True)

        again = await provisioner.ensure(spec, ignore)
        assert await lines_in(harness, again) == 2

    async def test_one_that_shall_be_retained_is(self, harness: DockerHarness) -> None:
        provisioner, spec = harness.provisioner(), spec_of(harness, reclaim="retain")
        await provisioner.ensure(spec, ignore)

        await provisioner.remove(spec.key)

        assert spec.volume is not None
        assert await names(harness) == {spec.volume.name}

    async def test_what_a_crash_left_of_it_is_removed(self, harness: DockerHarness) -> None:
        provisioner, spec = harness.provisioner(), spec_of(harness)
        assert spec.volume is not None
        # A Moorage that died between volume and container; the volume is all there is.
        await harness.docker.volumes.create({"Name": spec.volume.name, "Labels": dict(spec.volume.labels)})

        assert await provisioner.remove(spec.key)
        assert await names(harness) == set()
        assert not await provisioner.remove(spec.key)

    async def test_a_creation_that_nobody_waits_for_any_more_is_cleaned_up(
        self, harness: DockerHarness, proxy: EngineProxy
    ) -> None:
        provisioner, spec = harness.provisioner_with(url=proxy.url), spec_of(harness)
        task = asyncio.create_task(provisioner.ensure(spec, ignore))
        while not await names(harness):  # noqa: ASYNC110 - the engine tells nobody
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

        await provisioner.remove(spec.key)

        assert await names(harness) == set()
        assert await harness.leftovers() == []

    async def test_one_in_use_elsewhere_is_waited_for(
        self, harness: DockerHarness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("consumer.provisioners.docker.volumes._FREE_WITHIN", 0.3)
        provisioner, spec = harness.provisioner(), spec_of(harness)
        await provisioner.ensure(spec, ignore)
        assert spec.volume is not None
        host = {"Mounts": [{"Type": "volume", "Source": spec.volume.name, "Target": "/x"}]}
        config = {"Image": harness.image, "Cmd": ["true"], "HostConfig": host}
        other = await harness.docker.containers.create(config, name=f"{harness.instance}-user")

        with pytest.raises(Transient) as error:
            await provisioner.remove(spec.key)
        assert error.value.code == "runtime_busy"
        await other.delete(force=True)

        assert await provisioner.remove(spec.key)
        assert await names(harness) == set()


@on_both
class TestUserVolumes:
    async def test_the_next_reservation_finds_what_the_last_one_left(self, harness: DockerHarness) -> None:
        provisioner = harness.provisioner()
        first, second = (spec_of(harness, reservation, scope="user") for reservation in ("r-1", "r-2"))
        await written(harness, await provisioner.ensure(first, ignore))
        await provisioner.remove(first.key)

        made = await provisioner.ensure(second, ignore)

        assert await lines_in(harness, made) == 2

    async def test_two_reservations_at_a_time_share_it(self, harness: DockerHarness) -> None:
        provisioner = harness.provisioner()
        first, second = (spec_of(harness, reservation, scope="user") for reservation in ("r-1", "r-2"))
        made = [await written(harness, await provisioner.ensure(spec, ignore)) for spec in (first, second)]

        await provisioner.remove(first.key)

        assert await lines_in(harness, made[1]) == 2

    async def test_another_user_has_another(self, harness: DockerHarness) -> None:
        bob = User("u-2", "Bob")
        provisioner, theirs = harness.provisioner(), spec_of(harness, "r-1", scope="user")
        await written(harness, await provisioner.ensure(theirs, ignore))
        bobs = harness.spec("r-2", command=WRITE, volume=volume(harness, "r-2", bob, scope="user"))

        made = await provisioner.ensure(bobs, ignore)

        assert await lines_in(harness, made) == 1


class SizedEngine:
    """One whose driver enforces sizes; no engine here has a file system that can."""

    dialect = DOCKER

    def __init__(self) -> None:
        self.made: dict[str, dict[str, Any]] = {}

    async def volume(self, name: str) -> dict[str, Any] | None:
        return self.made.get(name)

    async def create_volume(self, config: dict[str, Any]) -> dict[str, Any]:
        made = {"Name": config["Name"], "Labels": config["Labels"], "Options": config.get("DriverOpts")}
        return self.made.setdefault(config["Name"], made)


@on_both
class TestForeignVolumes:
    @pytest.mark.parametrize("labels", [{}, {MANAGED_BY: "moorage"}, {MANAGED_BY: "moorage", INSTANCE: "other"}])
    async def test_one_that_has_the_name_is_refused_and_left_alone(
        self, harness: DockerHarness, labels: dict[str, str]
    ) -> None:
        provisioner, spec = harness.provisioner(), spec_of(harness)
        assert spec.volume is not None
        await harness.docker.volumes.create({"Name": spec.volume.name, "Labels": labels})

        try:
            with pytest.raises(Permanent, match="Moorage did not make") as error:
                await provisioner.ensure(spec, ignore)

            assert error.value.code == "conflict"
            assert not await provisioner.remove(spec.key)
        finally:
            await DockerVolume(harness.docker, spec.volume.name).delete()


class TestSizes:
    async def enforced(self, harness: DockerHarness) -> bool:
        if not harness.dialect.bounds_volumes:
            return False
        name = f"{harness.instance}-probe"
        try:
            await harness.docker.volumes.create({"Name": name, "DriverOpts": {"size": "1048576"}})
        except DockerError:
            return False
        await DockerVolume(harness.docker, name).delete()
        return True

    @on_both
    async def test_what_the_driver_cannot_enforce_is_said_each_time(self, harness: DockerHarness) -> None:
        enforced = await self.enforced(harness)
        provisioner, spec = harness.provisioner(), spec_of(harness, size="5Gi")

        notes = [(await provisioner.ensure(spec, ignore)).notes for _ in range(2)]

        said = () if enforced else ("The volume's size of 5Gi is not enforced here.",)
        assert notes == [said, said]

    async def test_what_must_be_enforced_and_cannot_be_is_refused_and_leaves_nothing(
        self, harness: DockerHarness
    ) -> None:
        if await self.enforced(harness):
            pytest.skip("this engine can")
        spec = replace(spec_of(harness, size="5Gi"), must_enforce=True)

        for _ in range(2):
            with pytest.raises(Permanent, match="cannot be held to 5Gi") as error:
                await harness.provisioner().ensure(spec, ignore)

            assert error.value.code == "limit_not_enforceable"
        assert await names(harness) == set()

    async def test_what_the_driver_enforces_is_set_and_needs_no_word(self, harness: DockerHarness) -> None:
        engine = SizedEngine()
        volumes = Volumes(engine, harness.instance)  # type: ignore[arg-type]
        spec = replace(spec_of(harness, size="5Gi"), must_enforce=True)

        assert await volumes.ensure(spec) == await volumes.ensure(spec) == ()

        (made,) = engine.made.values()
        assert made["Options"] == {"size": str(5 * 1024**3)}

    async def test_one_that_exists_keeps_its_size(self, harness: DockerHarness) -> None:
        volumes = Volumes(SizedEngine(), harness.instance)  # type: ignore[arg-type]
        await volumes.ensure(spec_of(harness, size="5Gi"))

        notes = await volumes.ensure(spec_of(harness, size="10Gi"))

        assert notes == ("The volume keeps the size that it was made with.",)

    async def test_one_that_exists_without_a_bound_is_no_substitute(self, harness: DockerHarness) -> None:
        provisioner, spec = harness.provisioner(), spec_of(harness, size="5Gi")
        assert spec.volume is not None
        await harness.docker.volumes.create({"Name": spec.volume.name, "Labels": dict(spec.volume.labels)})

        with pytest.raises(Permanent, match="cannot be held"):
            await provisioner.ensure(replace(spec, must_enforce=True), ignore)

        await provisioner.remove(spec.key)


class TestLostReplies:
    async def test_a_volume_whose_creation_was_not_confirmed_is_used(
        self, harness: DockerHarness, proxy: EngineProxy
    ) -> None:
        provisioner, spec = harness.provisioner_with(url=proxy.url), spec_of(harness)
        proxy.on("POST .*/volumes/create", "lose_reply")
        with pytest.raises(Unavailable):
            await provisioner.ensure(spec, ignore)

        made = await provisioner.ensure(spec, ignore)

        assert await lines_in(harness, made) == 1

    async def test_a_removal_that_was_not_confirmed_is_finished(
        self, harness: DockerHarness, proxy: EngineProxy
    ) -> None:
        provisioner, spec = harness.provisioner_with(url=proxy.url), spec_of(harness)
        await provisioner.ensure(spec, ignore)
        for lost in ("DELETE .*/containers/", "DELETE .*/volumes/"):
            proxy.on(lost, "lose_reply")
            with suppress(Unavailable):  # unless the client asks again by itself
                await provisioner.remove(spec.key)

        await provisioner.remove(spec.key)

        assert await names(harness) == set()
