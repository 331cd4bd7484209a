"""Environments as pods, without Kafka: by Moorage's Kubernetes runtime, or by a bare client that asks for the same."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from kubernetes_asyncio.client import ApiClient, Configuration, CoreV1Api, NetworkingV1Api
from kubernetes_asyncio.config import load_kube_config
from kubernetes_asyncio.watch import Watch

from benchmarks.contestants.coming import Contestant, Moorage, come_and_go
from benchmarks.contestants.harness import Task, run
from consumer.catalog.environment import EnvironmentSpec
from consumer.ops.logging import configure_logging
from consumer.provisioners.kubernetes import KubernetesOptions, KubernetesProvisioner
from consumer.provisioners.kubernetes.failures import is_ready
from consumer.provisioners.kubernetes.manifests import anchor_of, network_policy_of, owned_by, secret_of, service_of
from consumer.provisioners.kubernetes.names import selector
from consumer.provisioners.kubernetes.pods import pod_of


class Bare:
    """Creates the five objects and deletes them by their names; one watch tells it when pods are ready, and gone.

    It looks for nothing that is there already, minds no reply that is lost and nobody else, and hopes for the best.
    """

    def __init__(self, options: KubernetesOptions) -> None:
        self._options = options
        self._waiting: dict[tuple[str, str], asyncio.Future[None]] = {}
        self._watching: asyncio.Task[None] | None = None
        self._api: ApiClient | None = None
        self._connecting = asyncio.Lock()

    async def create(self, spec: EnvironmentSpec) -> None:
        core, network = await self._apis()
        options, namespace = self._options, self._options.namespace
        ready = self._expect("ready", spec.name)
        shown = await core.create_namespaced_config_map(namespace, anchor_of(spec, namespace, options))
        anchor = {"metadata": {"name": spec.name, "namespace": namespace, "uid": shown.metadata.uid}}
        about = owned_by(anchor, spec, options)
        await asyncio.gather(
            network.create_namespaced_network_policy(namespace, network_policy_of(spec, about)),
            core.create_namespaced_secret(namespace, secret_of(spec, about)),
            core.create_namespaced_service(namespace, service_of(spec, about, options)),
        )
        await core.create_namespaced_pod(namespace, pod_of(spec, about, options))
        await ready

    async def remove(self, spec: EnvironmentSpec) -> None:
        core, network = await self._apis()
        name, namespace = spec.name, self._options.namespace
        gone = self._expect("gone", name)
        await asyncio.gather(
            core.delete_namespaced_pod(name, namespace),
            core.delete_namespaced_service(name, namespace),
            core.delete_namespaced_secret(name, namespace),
            network.delete_namespaced_network_policy(name, namespace),
        )
        await core.delete_namespaced_config_map(name, namespace)
        await gone

    async def aclose(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching
        if self._api is not None:
            await self._api.close()

    async def _apis(self) -> tuple[Any, Any]:
        async with self._connecting:
            if self._api is None:
                configuration = Configuration()
                await load_kube_config(self._options.kubeconfig, client_configuration=configuration)
                self._api = ApiClient(configuration)
                self._watching = asyncio.create_task(self._watch(CoreV1Api(self._api)))
        return CoreV1Api(self._api), NetworkingV1Api(self._api)

    def _expect(self, what: str, name: str) -> asyncio.Future[None]:
        return self._waiting.setdefault((what, name), asyncio.get_running_loop().create_future())

    async def _watch(self, core: Any) -> None:
        ours = selector(self._options.instance)
        async with Watch("object") as watch:
            async for event in watch.stream(
                core.list_namespaced_pod, self._options.namespace, label_selector=ours, resource_version="0"
            ):
                pod: Mapping[str, Any] = event["raw_object"]
                if event["type"] == "DELETED":
                    self._tell("gone", pod["metadata"]["name"])
                elif is_ready(pod):
                    self._tell("ready", pod["metadata"]["name"])

    def _tell(self, what: str, name: str) -> None:
        if (waiting := self._waiting.pop((what, name), None)) is not None:
            waiting.set_result(None)


_KINDS: dict[str, Callable[[KubernetesOptions], Contestant]] = {
    "moorage": lambda options: Moorage(KubernetesProvisioner(options)),
    "bare": Bare,
}


async def live(task: Task, stop: asyncio.Event) -> None:
    settings = dict(task.settings)
    del settings["templates"]
    kind = _KINDS[settings.pop("kind")]
    options = KubernetesOptions(**settings)
    await come_and_go(task, options.instance, kind(options))
    await stop.wait()


if __name__ == "__main__":
    configure_logging("warning")  # also because standard output is for talking to the runner
    run(live)
