"""GPUs, devices and entrypoints: what the engine is asked for, and what it says when it does not have them."""

from typing import Any

import pytest

from consumer.handling.errors import Permanent
from consumer.provisioners.docker.attachments import attachments
from tests.provisioners.docker.harness import DockerHarness, on_both
from tests.provisioners.harness import ignore

ALL = {"Count": -1, "Capabilities": [["gpu"]]}
TWO = {"Count": 2, "Capabilities": [["gpu"]]}
NAMED = {"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=0", "nvidia.com/gpu=1"]}


@pytest.mark.docker
class TestDevices:
    @pytest.mark.parametrize(
        ("asked", "requests"),
        [
            ({"gpus": "all"}, [ALL]),
            ({"gpus": 2}, [TWO]),
            ({"devices": ("nvidia.com/gpu=0", "nvidia.com/gpu=1")}, [NAMED]),
            ({"gpus": 2, "devices": ("nvidia.com/gpu=0", "nvidia.com/gpu=1")}, [TWO, NAMED]),
            ({}, None),
        ],
    )
    async def test_they_are_asked_of_the_engine_as_it_wants_them(
        self, harness: DockerHarness, asked: dict[str, Any], requests: list[dict[str, Any]] | None
    ) -> None:
        assert attachments(harness.spec(**asked)).get("DeviceRequests") == requests

    @on_both
    @pytest.mark.parametrize("asked", [{"gpus": "all"}, {"gpus": 1}, {"devices": ("example.org/none=all",)}])
    async def test_what_the_machine_does_not_have_is_said_and_nothing_is_left(
        self, harness: DockerHarness, asked: dict[str, Any]
    ) -> None:
        if "gpus" in asked and "nvidia" in (await harness.docker.system.info())["Runtimes"]:
            pytest.skip("this engine may have GPUs")

        with pytest.raises(Permanent, match="GPU or device") as error:
            await harness.provisioner().ensure(harness.spec(**asked), ignore)

        assert error.value.code == "device_not_available"
        assert await harness.leftovers() == []


@pytest.mark.docker
async def test_an_entrypoint_takes_the_place_of_the_images_and_the_command_is_its_arguments(
    harness: DockerHarness,
) -> None:
    spec = harness.spec(entrypoint=("sh", "-c", 'exec sleep "$0"'), command=("1000",))

    config = (await harness.inspect(await harness.provisioner().ensure(spec, ignore)))["Config"]

    assert (config["Entrypoint"], config["Cmd"]) == (list(spec.entrypoint), ["1000"])
