"""What a container gets from outside itself, as parts of its `HostConfig`: volume, GPUs and devices. No I/O here."""

from typing import Any

from consumer.catalog.environment import EnvironmentSpec, Volume


def attachments(spec: EnvironmentSpec) -> dict[str, Any]:
    """`Mounts` and `DeviceRequests`, each only where there are any."""
    found: dict[str, Any] = {}
    if spec.volume is not None:
        found["Mounts"] = [_mount(spec.volume)]
    if requests := _requests(spec):
        found["DeviceRequests"] = requests
    return found


def _mount(volume: Volume) -> dict[str, Any]:
    # With its labels: a volume that somebody removes in this very moment is made again as ours.
    options = {"Labels": dict(volume.labels)}
    return {"Type": "volume", "Source": volume.name, "Target": volume.path, "VolumeOptions": options}


def _requests(spec: EnvironmentSpec) -> list[dict[str, Any]]:
    requests: list[dict[str, Any]] = []
    if spec.gpus is not None:
        requests.append({"Count": -1 if spec.gpus == "all" else spec.gpus, "Capabilities": [["gpu"]]})
    if spec.devices:
        requests.append({"Driver": "cdi", "DeviceIDs": list(spec.devices)})
    return requests
