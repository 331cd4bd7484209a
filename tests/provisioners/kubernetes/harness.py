"""The Kubernetes runtime in a namespace of its own, looked at through the API without our code.

Nodes may be simulated ones: nothing runs there, and what a program would do is written into its pod's status.
"""

import asyncio
import base64
import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kubernetes_asyncio.client import (
    ApiClient,
    ApiException,
    ApiextensionsV1Api,
    Configuration,
    CoreV1Api,
    CustomObjectsApi,
    NetworkingV1Api,
    RbacAuthorizationV1Api,
)
from kubernetes_asyncio.config import load_kube_config

from consumer.catalog.environment import EnvironmentSpec, Volume
from consumer.catalog.identity import INSTANCE, KEY, MANAGED_BY
from consumer.catalog.volumes import RECLAIM, VOLUME
from consumer.handling.ports import Environment, Provisioner
from consumer.provisioners.kubernetes import KubernetesOptions, KubernetesProvisioner
from tests.provisioners.harness import Harness

STUCK = {"moorage.test/ready": "false"}
"""Labels of an environment whose simulated node does nothing: its pod is whatever the test says that it is."""


_HTTP_ROUTES = ("gateway.networking.k8s.io", "v1")
_PLURAL = "httproutes"


class KubernetesHarness(Harness):
    serves_http = False
    image = "registry.example.org/web:1"

    def __init__(self, kubeconfig: str, namespace: str) -> None:
        super().__init__()
        self.kubeconfig, self.namespace = kubeconfig, namespace
        self.api: Any = None
        self._volumes: list[str] = []

    async def connect(self) -> None:
        configuration = Configuration()
        await load_kube_config(self.kubeconfig, client_configuration=configuration)
        self.api = ApiClient(configuration)

    @property
    def core(self) -> Any:
        return CoreV1Api(self.api)

    def options(self, instance: str, **changes: Any) -> KubernetesOptions:
        usual = KubernetesOptions(
            instance,
            self.namespace,
            self.kubeconfig,
            service="node-port",
            gone_timeout=20,
            settle=0.0,
            max_lease=_LEASE,
        )
        return replace(usual, **changes)

    def new_provisioner(self, instance: str) -> Provisioner:
        return KubernetesProvisioner(self.options(instance))

    def provisioner_with(self, **changes: Any) -> Provisioner:
        """One with other options than usual."""
        made = KubernetesProvisioner(self.options(self.instance, **changes))
        self._opened.append(made)
        return made

    def unreachable(self) -> Provisioner:
        return KubernetesProvisioner(self.options(self.instance, kubeconfig="/nonexistent/kubeconfig"))

    async def pod(self, environment: Environment | EnvironmentSpec) -> Any:
        """The pod as the API shows it, in its own words."""
        shown = await self.core.read_namespaced_pod(environment.name, self.namespace)
        return self.api.sanitize_for_serialization(shown)

    async def tell(self, name: str, **status: Any) -> None:
        """Say of a pod what its node would say."""
        await self.core.patch_namespaced_pod_status(name, self.namespace, {"status": status})

    async def measures(self) -> None:
        """Have the cluster know what a metrics server says, which is kept as objects like others."""
        with contextlib.suppress(ApiException):
            await ApiextensionsV1Api(self.api).create_custom_resource_definition(_POD_METRICS)
        async with asyncio.timeout(30):
            while True:  # the API of a new kind takes a moment to be there
                with contextlib.suppress(ApiException):
                    await CustomObjectsApi(self.api).list_cluster_custom_object("metrics.k8s.io", "v1beta1", "pods")
                    return
                await asyncio.sleep(0.1)

    async def measure(self, environment: Environment) -> None:
        """What a metrics server would say of it."""
        await self.measures()
        body = {
            "apiVersion": "metrics.k8s.io/v1beta1",
            "kind": "PodMetrics",
            "metadata": {"name": environment.name},
            "timestamp": "2030-01-01T00:00:00Z",
            "window": "15s",
            "containers": [{"name": "environment", "usage": {"cpu": "1500000000n", "memory": "131072Ki"}}],
        }
        await CustomObjectsApi(self.api).create_namespaced_custom_object(
            "metrics.k8s.io", "v1beta1", self.namespace, "pods", body
        )

    async def storage(self, count: int = 1) -> None:
        """There is room for so many volumes of the class that is this test's instance."""
        for number in range(count):
            volume = {
                "storageClassName": self.instance,
                "capacity": {"storage": "10Gi"},
                "accessModes": ["ReadWriteOnce", "ReadWriteMany"],
                "hostPath": {"path": "/nonexistent"},
            }
            name = f"{self.instance}-{number}"
            await self.core.create_persistent_volume({"metadata": {"name": name}, "spec": volume})
            self._volumes.append(name)

    async def there(self, name: str) -> Any:
        """The pod of this name, as soon as there is one."""
        while True:
            try:
                return await self.core.read_namespaced_pod(name, self.namespace)
            except ApiException as error:
                if error.status != 404:
                    raise
            await asyncio.sleep(0.02)

    async def say(self, name: str, reason: str, message: str, *, kind: str = "Normal") -> None:
        """Say of a pod what its kubelet would, as soon as there is one: an event of this kind, or a `Warning`."""
        pod = await self.there(name)
        about = {"kind": "Pod", "namespace": self.namespace, "name": name, "uid": pod.metadata.uid}
        body = {"metadata": {"name": f"{name}.{reason.lower()}"}, "involvedObject": about, "type": kind}
        await self.core.create_namespaced_event(self.namespace, body | {"reason": reason, "message": message})

    async def pod_gone(self, name: str) -> None:
        """Return when there is no pod of this name."""
        while True:
            try:
                await self.core.read_namespaced_pod(name, self.namespace)
            except ApiException as error:
                if error.status == 404:
                    return
                raise
            await asyncio.sleep(0.02)

    async def waits(self, name: str, reason: str, message: str) -> None:
        """The container of a pod waits for something, as soon as there is such a pod."""
        await self.there(name)
        await self.tell(
            name, containerStatuses=[_container() | {"state": {"waiting": {"reason": reason, "message": message}}}]
        )

    async def runs(self, name: str, *, ready: bool) -> None:
        """The program of a pod runs, and is ready or not."""
        await self.there(name)
        conditions = [{"type": "Ready", "status": str(ready)}]
        state = {"running": {"startedAt": "2030-01-01T00:00:00Z"}}
        await self.tell(
            name, phase="Running", containerStatuses=[_container() | {"state": state}], conditions=conditions
        )

    async def stop(self, environment: Environment) -> None:
        await self.end(environment.name, exit_code=1)

    async def end(self, name: str, *, exit_code: int, reason: str = "Error") -> None:
        """The program of a pod ends."""
        ended = {"terminated": {"exitCode": exit_code, "reason": reason}}
        await self.there(name)
        conditions = [{"type": "Ready", "status": "False"}]
        phase = "Failed" if exit_code else "Succeeded"
        await self.tell(name, phase=phase, containerStatuses=[_container() | {"state": ended}], conditions=conditions)

    async def occupy(self, spec: EnvironmentSpec) -> None:
        await self.core.create_namespaced_config_map(self.namespace, {"metadata": {"name": spec.name}})

    async def vacate(self, spec: EnvironmentSpec) -> bool:
        try:
            await self.core.delete_namespaced_config_map(spec.name, self.namespace)
        except ApiException as error:
            if error.status != 404:
                raise
            return False
        return True

    async def leftovers(self) -> list[str]:
        return await self.leftovers_in(self.namespace)

    async def leftovers_in(self, namespace: str) -> list[str]:
        network = NetworkingV1Api(self.api)
        kinds = (
            self.core.list_namespaced_config_map,
            self.core.list_namespaced_pod,
            self.core.list_namespaced_service,
            self.core.list_namespaced_secret,
            self.core.list_namespaced_persistent_volume_claim,
            network.list_namespaced_network_policy,
            network.list_namespaced_ingress,
        )
        found = [each for kind in kinds for each in (await kind(namespace)).items]
        names = [f"{type(each).__name__} {each.metadata.name}" for each in found]
        names += [f"HTTPRoute {each['metadata']['name']}" for each in await self.http_routes()]
        return [name for name in names if name != "V1ConfigMap kube-root-ca.crt"] + await self._rights()

    async def _rights(self) -> list[str]:
        """The accounts and roles of users; tests have some of their own."""
        roles = RbacAuthorizationV1Api(self.api)
        kinds = (
            self.core.list_namespaced_service_account,
            roles.list_namespaced_role,
            roles.list_namespaced_role_binding,
        )
        found = [each for kind in kinds for each in (await kind(self.namespace)).items]
        return [
            f"{type(each).__name__} {each.metadata.name}"
            for each in found
            if each.metadata.name.endswith("-kubeconfig")
        ]

    async def http_routes(self) -> list[dict[str, Any]]:
        """None where the cluster does not know them."""
        objects = CustomObjectsApi(self.api)
        try:
            found = await objects.list_namespaced_custom_object(*_HTTP_ROUTES, self.namespace, _PLURAL)
        except ApiException as error:
            if error.status == 429:  # it has only just got to know them
                await asyncio.sleep(0.1)
                return await self.http_routes()
            if error.status != 404:
                raise
            return []
        routes: list[dict[str, Any]] = found["items"]
        return routes

    async def judge(self, name: str, **conditions: tuple[bool, str]) -> None:
        """Say of an HTTPRoute what a Gateway's controller would say, as soon as there is one."""
        said = [
            {"type": kind, "status": str(holds), "reason": reason, "message": f"{reason}, says the Gateway"}
            | {"lastTransitionTime": "2030-01-01T00:00:00Z"}
            for kind, (holds, reason) in conditions.items()
        ]
        parent = {"parentRef": {"name": "public"}, "controllerName": "example.org/gateways", "conditions": said}
        while True:
            if found := [each for each in await self.http_routes() if each["metadata"]["name"] == name]:
                break
            await asyncio.sleep(0.02)
        judged = found[0] | {"status": {"parents": [parent] if said else []}}
        objects = CustomObjectsApi(self.api)
        await objects.replace_namespaced_custom_object_status(*_HTTP_ROUTES, self.namespace, _PLURAL, name, judged)

    async def nothing_left(self) -> None:
        """Return when the cluster has collected everything."""
        async with asyncio.timeout(45):
            while True:
                if not await self.leftovers():
                    return
                await asyncio.sleep(0.1)

    async def variables(self, environment: Environment) -> Mapping[str, str]:
        secret = await self.core.read_namespaced_secret(environment.name, self.namespace)
        values = {name: base64.b64decode(value).decode() for name, value in (secret.data or {}).items()}
        container = (await self.pod(environment))["spec"]["containers"][0]
        return {each["name"]: values[each["valueFrom"]["secretKeyRef"]["key"]] for each in container.get("env", ())}

    async def clean_up(self) -> list[str]:
        try:
            left = await super().clean_up()
            await self.give_back()
            return left
        finally:
            await self.api.close()

    async def give_back(self) -> None:
        """Remove what the test made for itself."""
        for name in self._volumes:
            await self.core.delete_persistent_volume(name)


def volume_of(harness: Harness, reservation: str | None = None, **changes: Any) -> Volume:
    """A volume of a reservation that goes with it, or of Alice, which stays."""
    key = hashlib.sha256(f"{harness.instance}{reservation}".encode()).hexdigest()[:32]
    labels = {MANAGED_BY: "moorage", INSTANCE: harness.instance, VOLUME: key, RECLAIM: "retain"}
    if reservation is not None:
        labels |= {RECLAIM: "delete", KEY: harness.spec(reservation).key}
    return replace(Volume(f"v-{key[:20]}", key, "/data", labels), **changes)


_POD_METRICS = {
    "metadata": {
        "name": "pods.metrics.k8s.io",
        "annotations": {"api-approved.kubernetes.io": "unapproved, stands in for a metrics server"},
    },
    "spec": {
        "group": "metrics.k8s.io",
        "scope": "Namespaced",
        "names": {"plural": "pods", "kind": "PodMetrics"},
        "versions": [
            {
                "name": "v1beta1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}


_LEASE = 2**31 - 1
"""Longer than the reservations of tests."""


def _container() -> dict[str, Any]:
    return {"name": "environment", "image": "x", "imageID": "", "restartCount": 0, "ready": False}
