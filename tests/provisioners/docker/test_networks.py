"""Networks that Moorage makes: made once, known by labels, gone when they are not needed."""

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest

from consumer.catalog.identity import INSTANCE, KEY, MANAGED_BY
from consumer.handling.errors import Permanent, Transient, Unavailable
from consumer.handling.ports import Status
from consumer.provisioners.docker.networks import bridge_of
from tests.provisioners.docker.harness import SOON, DockerHarness
from tests.provisioners.docker.proxy import EngineProxy
from tests.provisioners.harness import ignore, until

pytestmark = pytest.mark.docker

_A_DAY = timedelta(days=1)
DELETE = r"DELETE \S+/networks/\S+"
MAKE = r"POST \S+/networks/create"


async def networks_of(harness: DockerHarness, container: str) -> list[str]:
    shown = await harness.docker.containers.container(container).show()
    return list(shown["NetworkSettings"]["Networks"])


class TestShared:
    async def test_all_environments_of_an_installation_are_on_one_that_keeps_them_apart(
        self, harness: DockerHarness
    ) -> None:
        provisioner = harness.provisioner()
        made = [await provisioner.ensure(harness.spec(name), ignore) for name in ("r-1", "r-2")]

        (network,) = await harness.networks()
        assert network["Name"] == f"moorage-{harness.instance}"
        assert network["Labels"] == {MANAGED_BY: "moorage", INSTANCE: harness.instance}
        assert network["Options"]["com.docker.network.bridge.enable_icc"] == "false"
        assert network["Options"]["com.docker.network.bridge.name"] == bridge_of(network["Name"])
        assert not network["EnableIPv6"]
        assert [await networks_of(harness, each.native_id) for each in made] == [[network["Name"]]] * 2

    async def test_members_that_make_it_at_the_same_moment_make_one(self, harness: DockerHarness) -> None:
        members = [harness.provisioner() for _ in range(4)]

        made = await asyncio.gather(
            *(member.ensure(harness.spec(f"r-{index}"), ignore) for index, member in enumerate(members))
        )

        assert {each.status for each in made} == {Status.RUNNING}
        assert len(await harness.networks()) == 1

    async def test_it_stays_while_an_environment_is_on_it_and_goes_with_the_last_member(
        self, harness: DockerHarness
    ) -> None:
        first, second, spec = harness.provisioner(), harness.provisioner(), harness.spec()
        await first.ensure(spec, ignore)

        await first.close()
        there = len(await harness.networks())
        await second.remove(spec.key)
        await second.close()

        assert (there, len(await harness.networks())) == (1, 0)

    @pytest.mark.parametrize("differs", ["labels", "options"])
    async def test_another_network_of_that_name_is_left_alone(self, harness: DockerHarness, differs: str) -> None:
        config: dict[str, Any] = {"Name": f"moorage-{harness.instance}"}
        if differs == "options":
            config["Labels"] = {MANAGED_BY: "moorage", INSTANCE: harness.instance}
        foreign = await harness.docker.networks.create(config)

        with pytest.raises(Permanent, match="network") as error:
            await harness.provisioner().ensure(harness.spec(), ignore)

        assert error.value.code == "conflict"
        assert (await foreign.show())["Containers"] == {}
        await foreign.delete()

    async def test_one_that_was_removed_by_hand_is_made_again(self, harness: DockerHarness) -> None:
        provisioner = harness.provisioner()
        await provisioner.ensure(harness.spec("r-1"), ignore)
        await provisioner.remove(harness.spec("r-1").key)
        await self._remove_network(harness)

        with pytest.raises(Transient):
            await provisioner.ensure(harness.spec("r-2"), ignore)
        made = await provisioner.ensure(harness.spec("r-2"), ignore)

        await harness.variables(made)

    async def test_an_environment_whose_network_was_removed_while_it_was_stopped_gets_another(
        self, harness: DockerHarness
    ) -> None:
        provisioner, spec = harness.provisioner(), harness.spec()
        made = await provisioner.ensure(spec, ignore)
        await harness.stop(made)
        await self._remove_network(harness)

        with pytest.raises(Transient):
            await provisioner.ensure(spec, ignore)
        again = await provisioner.ensure(spec, ignore)

        assert again.native_id == made.native_id
        await harness.variables(again)
        (endpoint,) = (await harness.inspect(again))["NetworkSettings"]["Networks"].values()
        assert "169.254.169.254" in endpoint["IPAMConfig"]["LinkLocalIPs"]

    async def _remove_network(self, harness: DockerHarness) -> None:
        (network,) = await harness.networks()
        await (await harness.docker.networks.get(network["Id"])).delete()


class TestPrivate:
    async def test_each_environment_has_its_own_which_goes_with_it(self, harness: DockerHarness) -> None:
        provisioner = harness.provisioner_with(network="private")
        specs = [harness.spec(name) for name in ("r-1", "r-2")]
        made = [await provisioner.ensure(spec, ignore) for spec in specs]

        assert [await networks_of(harness, each.native_id) for each in made] == [[spec.name] for spec in specs]
        assert {each["Labels"][KEY] for each in await harness.networks()} == {spec.key for spec in specs}
        assert await provisioner.remove(specs[0].key) is True
        assert [each["Name"] for each in await harness.networks()] == [specs[1].name]

    async def test_what_does_not_start_leaves_none(self, harness: DockerHarness) -> None:
        provisioner = harness.provisioner_with(network="private", settle=SOON)
        with pytest.raises(Permanent):
            await provisioner.ensure(harness.spec(command=("false",)), ignore)

        assert await harness.networks() == []

    async def test_two_members_at_once_make_one(self, harness: DockerHarness) -> None:
        members = [harness.provisioner_with(network="private") for _ in range(3)]

        made = await asyncio.gather(*(member.ensure(harness.spec(), ignore) for member in members))

        assert len({each.native_id for each in made}) == 1
        assert len(await harness.networks()) == 1

    async def test_what_a_crash_left_of_it_is_removed_with_the_reservation(
        self, harness: DockerHarness, proxy: EngineProxy
    ) -> None:
        provisioner, spec = harness.provisioner_with(network="private"), harness.spec()
        await provisioner.ensure(spec, ignore)
        await harness.vacate(spec)

        assert await provisioner.remove(spec.key) is True
        assert await harness.networks() == []

    async def test_a_cancelled_creation_leaves_nothing_that_remove_does_not_find(
        self, harness: DockerHarness, proxy: EngineProxy
    ) -> None:
        provisioner, spec = harness.provisioner_with(network="private", url=proxy.url), harness.spec()
        ensuring = asyncio.create_task(provisioner.ensure(spec, ignore))
        await until(lambda: proxy.count(MAKE) == 1)
        ensuring.cancel()
        await asyncio.gather(ensuring, return_exceptions=True)

        await provisioner.remove(spec.key)

        await asyncio.sleep(0.5)
        assert await harness.leftovers() == []

    async def test_what_nobody_ends_is_swept_up_when_it_is_old(
        self, harness: DockerHarness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        provisioner = harness.provisioner_with(network="private")
        kept, lost = harness.spec("r-1"), harness.spec("r-2")
        for spec in (kept, lost):
            await provisioner.ensure(spec, ignore)
        await harness.stop(await provisioner.ensure(kept, ignore))  # without a program no network is in use
        await harness.vacate(lost)

        await provisioner.list()
        young = {each["Name"] for each in await harness.networks()}
        monkeypatch.setattr("consumer.provisioners.docker.networks._LEFT_OVER_AFTER", -_A_DAY)
        await provisioner.list()

        assert young == {kept.name, lost.name}
        assert [each["Name"] for each in await harness.networks()] == [kept.name]

    async def test_one_that_the_engine_keeps_though_it_is_empty_is_left_to_the_sweep(
        self, harness: DockerHarness, proxy: EngineProxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        provisioner, spec = harness.provisioner_with(network="private", url=proxy.url), harness.spec()
        await provisioner.ensure(spec, ignore)
        proxy.answer(DELETE, 403, "error while removing network: network has active endpoints", times=5)

        assert await provisioner.remove(spec.key) is True

        assert [each["Name"] for each in await harness.networks()] == [spec.name]
        monkeypatch.setattr("consumer.provisioners.docker.networks._LEFT_OVER_AFTER", -_A_DAY)
        await provisioner.list()
        assert await harness.networks() == []

    async def test_one_that_is_in_use_is_not_left(self, harness: DockerHarness) -> None:
        provisioner, spec = harness.provisioner_with(network="private"), harness.spec()
        await provisioner.ensure(spec, ignore)
        other = await harness.docker.containers.run(
            {"Image": harness.image, "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": spec.name}}
        )

        with pytest.raises(Transient, match="still in use"):
            await provisioner.remove(spec.key)

        await other.delete(force=True)
        assert await provisioner.remove(spec.key) is True


class TestTroubles:
    @pytest.mark.parametrize(
        ("status", "message"),
        [
            (404, "could not find an available, non-overlapping IPv4 address pool among the defaults to assign"),
            (500, "all predefined address pools have been fully subnetted"),
        ],
    )
    async def test_an_engine_without_addresses_is_full(
        self, harness: DockerHarness, proxy: EngineProxy, status: int, message: str
    ) -> None:
        proxy.answer(MAKE, status, message)

        with pytest.raises(Transient) as error:
            await harness.provisioner_with(url=proxy.url).ensure(harness.spec(), ignore)

        assert error.value.code == "runtime_full"

    async def test_a_network_without_addresses_is_full(self, harness: DockerHarness) -> None:
        name = f"{harness.instance}-tiny"
        tiny = await harness.docker.networks.create(
            {"Name": name, "IPAM": {"Config": [{"Subnet": "10.199.250.0/30"}]}}  # one address beside the gateway's
        )
        provisioner = harness.provisioner_with(network=name)
        await provisioner.ensure(harness.spec("r-1"), ignore)

        with pytest.raises(Transient) as error:
            await provisioner.ensure(harness.spec("r-2"), ignore)

        assert error.value.code == "runtime_full"
        await provisioner.remove(harness.spec("r-1").key)
        await tiny.delete()

    async def test_when_the_reply_is_lost_the_network_is_found(
        self, harness: DockerHarness, proxy: EngineProxy
    ) -> None:
        provisioner = harness.provisioner_with(url=proxy.url)
        proxy.on(MAKE, "lose_reply")
        with pytest.raises(Unavailable):
            await provisioner.ensure(harness.spec(), ignore)

        assert (await provisioner.ensure(harness.spec(), ignore)).status is Status.RUNNING
        assert proxy.count(MAKE) == 1

    async def test_a_network_that_can_neither_be_made_nor_found_is_worth_another_try(
        self, harness: DockerHarness, proxy: EngineProxy
    ) -> None:
        proxy.answer(MAKE, 403, "networks have same bridge name", times=5)

        with pytest.raises(Transient) as error:
            await harness.provisioner_with(url=proxy.url).ensure(harness.spec(), ignore)

        assert error.value.code == "runtime_busy"

    async def test_closing_does_not_mind_an_engine_that_is_gone(
        self, harness: DockerHarness, proxy: EngineProxy
    ) -> None:
        provisioner = harness.provisioner_with(url=proxy.url)
        await provisioner.ping()
        proxy.on(r"GET \S+/networks", "refuse")

        await provisioner.close()


class TestOthers:
    async def test_default_is_the_engines_own_bridge(self, harness: DockerHarness) -> None:
        made = await harness.provisioner_with(network="default").ensure(harness.spec(), ignore)

        assert await networks_of(harness, made.native_id) == ["bridge"]
        assert await harness.networks() == []

    async def test_one_that_exists_is_joined_by_its_name_and_left_as_it_is(self, harness: DockerHarness) -> None:
        name = f"{harness.instance}-own"
        own = await harness.docker.networks.create({"Name": name})
        provisioner = harness.provisioner_with(network=name)

        made = await provisioner.ensure(harness.spec(), ignore)
        joined = await networks_of(harness, made.native_id)
        await provisioner.remove(harness.spec().key)
        await provisioner.close()

        assert joined == [name]
        await own.delete()


class TestExamination:
    @pytest.mark.parametrize("options", [[], ["name=seccomp,profile=unconfined"]])
    async def test_an_engine_that_would_run_programs_unconfined_gets_none(
        self, harness: DockerHarness, proxy: EngineProxy, options: list[str]
    ) -> None:
        provisioner = harness.provisioner_with(url=proxy.url)
        answer = json.dumps({"SecurityOptions": options, "PidsLimit": True}).encode()
        proxy.answer(r"GET \S+/info", 200, "", raw=answer)

        with pytest.raises(Unavailable, match="seccomp"):
            await provisioner.ensure(harness.spec(), ignore)

        assert await harness.leftovers() == []
        assert (await provisioner.ensure(harness.spec(), ignore)).status is Status.RUNNING  # once it was set right
