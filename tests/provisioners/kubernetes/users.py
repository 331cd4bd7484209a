"""The Kubernetes runtime with a namespace for each user, looked at through the API without our code."""

import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kubernetes_asyncio.client import NetworkingV1Api

from consumer.provisioners.kubernetes import KubernetesOptions, UserNamespaces
from consumer.provisioners.kubernetes.user_namespaces import namespace_name
from tests.provisioners.harness import ALICE
from tests.provisioners.kubernetes.harness import KubernetesHarness

QUOTA = {"pods": "50", "services": "50", "configmaps": "60", "secrets": "100"}
LIMITS = {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "1Gi"}
_OF_THE_NAMESPACE = ("V1ConfigMap kube-root-ca.crt", "V1NetworkPolicy moorage")


class UsersHarness(KubernetesHarness):
    """`namespace` is Alice's, which is not there before she has had an environment."""

    def __init__(self, kubeconfig: str) -> None:
        self.prefix = f"users-{uuid.uuid4().hex[:6]}"
        self.users = UserNamespaces(quota=QUOTA, limits=LIMITS)
        super().__init__(kubeconfig, "")
        self.namespace = self.namespace_of(ALICE.id)

    def namespace_of(self, user_id: str) -> str:
        return namespace_name(self.prefix, self.instance, user_id)

    def options(self, instance: str, **changes: Any) -> KubernetesOptions:
        return replace(super().options(instance), **({"namespace": self.prefix, "users": self.users} | changes))

    async def namespaces(self) -> Mapping[str, Any]:
        """Those of all users, by name, as the API shows them."""
        shown = self.api.sanitize_for_serialization(await self.core.list_namespace())
        names = {each["metadata"]["name"]: each for each in shown["items"]}
        return {name: each for name, each in names.items() if name.startswith(f"{self.prefix}-")}

    async def bounds(self, namespace: str) -> tuple[Any, Any, Any]:
        """The specs of its quota, its limits and its network policy."""
        core, network = self.core, NetworkingV1Api(self.api)
        found = (
            await core.read_namespaced_resource_quota("moorage", namespace),
            await core.read_namespaced_limit_range("moorage", namespace),
            await network.read_namespaced_network_policy("moorage", namespace),
        )
        quota, limits, policy = (self.api.sanitize_for_serialization(each)["spec"] for each in found)
        return quota, limits, policy

    async def leftovers(self) -> list[str]:
        found = [each for name in await self.namespaces() for each in await self.leftovers_in(name)]
        return [each for each in found if each not in _OF_THE_NAMESPACE]

    async def give_back(self) -> None:
        await super().give_back()
        for name in await self.namespaces():
            await self.core.delete_namespace(name)
