"""The pod of an environment, as the API takes it. No I/O here."""

from collections.abc import Iterator
from typing import Any

from consumer.catalog.environment import EnvironmentSpec, Limits
from consumer.catalog.images import split_reference
from consumer.catalog.ssh_keys import Login
from consumer.handling.errors import Permanent
from consumer.provisioners.kubernetes.hardening import container_security, pod_security
from consumer.provisioners.kubernetes.options import KubernetesOptions

CONTAINER = "environment"
AUTHORIZED_KEYS = "ssh.authorized_keys"
"""The key of the secret that holds the user's SSH key: no variable can have this name."""

_PULL = {"always": "Always", "if-not-present": "IfNotPresent", "never": "Never"}
_NOT_MOVED = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}


def pod_of(
    spec: EnvironmentSpec, about: dict[str, Any], options: KubernetesOptions, login: str | None = None
) -> dict[str, Any]:
    """`about` is its metadata, `login` the name of the secret with the login for its image's registry.

    The secrets and the volume that it names must be there before it can start.
    """
    mounts = {name: (volume, mount) for name, volume, mount in _mounts(spec)}
    pod: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": options.stop_timeout,
        "activeDeadlineSeconds": options.max_lease,
        "securityContext": pod_security(spec),
        "volumes": [{"name": name} | volume for name, (volume, _) in mounts.items()],
        "containers": [_container(spec) | {"volumeMounts": [{"name": name} | m for name, (_, m) in mounts.items()]}],
    }
    if login is not None:
        pod["imagePullSecrets"] = [{"name": login}]
    if spec.kubernetes.runtime_class is not None:
        pod["runtimeClassName"] = spec.kubernetes.runtime_class
    return {"metadata": about | {"annotations": about["annotations"] | _NOT_MOVED}, "spec": pod}


def _container(spec: EnvironmentSpec) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": image_of(spec),
        "imagePullPolicy": _PULL[spec.pull],
        "ports": [{"containerPort": port.container, "protocol": port.protocol.upper()} for port in spec.ports],
        "env": [
            {"name": name, "valueFrom": {"secretKeyRef": {"name": spec.name, "key": name}}}
            for name in sorted(spec.environment)
        ],
        "resources": {"limits": _limits(spec), "requests": _quantities(spec.kubernetes.requests)},
        "securityContext": container_security(spec),
    }
    # What an image calls its entrypoint is a command here, and its command are arguments.
    if spec.entrypoint:
        container["command"] = [_literal(word) for word in spec.entrypoint]
    if spec.command:
        container["args"] = [_literal(word) for word in spec.command]
    if spec.working_dir:
        container["workingDir"] = spec.working_dir
    if spec.ready.port is not None:
        container["readinessProbe"] = _probe(spec.ready.port, spec.ready.path)
    return container


def image_of(spec: EnvironmentSpec) -> str:
    """The reference to run: by digest where the content is known. With a digest, a tag decides nothing."""
    name, _, digest = split_reference(spec.image)
    digest = spec.image_digest or digest
    return spec.image if digest is None else f"{name}@{digest}"


def _limits(spec: EnvironmentSpec) -> dict[str, str]:
    found = _quantities(spec.limits)
    if spec.gpus == "all" or spec.devices:
        raise Permanent("device_not_available", "Kubernetes gives GPUs by number and no other devices.")
    if spec.gpus:
        found["nvidia.com/gpu"] = str(spec.gpus)
    return found


def _quantities(amounts: Limits) -> dict[str, str]:
    found = {}
    if amounts.cpu_millis is not None:
        found["cpu"] = f"{amounts.cpu_millis}m"
    if amounts.memory_bytes is not None:
        found["memory"] = str(amounts.memory_bytes)
    if amounts.storage_bytes is not None:
        found["ephemeral-storage"] = str(amounts.storage_bytes)
    return found


def _mounts(spec: EnvironmentSpec) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Name, volume and mount."""
    for number, (path, size) in enumerate(sorted(spec.security.tmpfs.items())):
        yield f"memory-{number}", {"emptyDir": {"medium": "Memory", "sizeLimit": str(size)}}, {"mountPath": path}
    if (volume := spec.volume) is not None:
        yield "data", {"persistentVolumeClaim": {"claimName": volume.name}}, {"mountPath": volume.path}
    if spec.login is not None:
        items = [{"key": AUTHORIZED_KEYS, "path": "authorized_keys", "mode": 0o444}]
        secret = {"secret": {"secretName": spec.name, "items": items}}
        # The account cannot own it, but sshd is content with a file of root's that nobody else can write.
        file = {"mountPath": f"{_home(spec.login)}/.ssh/authorized_keys", "subPath": "authorized_keys"}
        yield "ssh", secret, file | {"readOnly": True}


def _home(login: Login) -> str:
    """Nobody can look into the image: without `ssh_home` it is where homes usually are."""
    return login.home or ("/root" if login.user == "root" else f"/home/{login.user}")


def _probe(port: int, path: str | None) -> dict[str, Any]:
    how = {"tcpSocket": {"port": port}} if path is None else {"httpGet": {"port": port, "path": path}}
    return how | {"periodSeconds": 1, "timeoutSeconds": 3, "failureThreshold": 3}


def _literal(word: str) -> str:
    """A word that means itself: the kubelet puts variables in place of `$(NAME)`, and `$` in place of `$$`."""
    return word.replace("$", "$$")
