"""Removing an environment, in an order in which nothing is forgotten wherever it is broken off."""

from collections.abc import Sequence
from contextlib import suppress

from consumer.handling.errors import ProvisionerError
from consumer.provisioners.inflight import together
from consumer.provisioners.kubernetes.client import Client
from consumer.provisioners.kubernetes.errors import Answer
from consumer.provisioners.kubernetes.kinds import (
    ANCHOR,
    CLAIM,
    NETWORK_POLICY,
    POD,
    SECRET,
    SERVICE,
    Kind,
    Object,
    belongs_to_anchor,
    namespace_of,
    uid_of,
)
from consumer.provisioners.kubernetes.kubeconfigs import Kubeconfigs
from consumer.provisioners.kubernetes.leading import Routes
from consumer.provisioners.kubernetes.manifests import belonging_to
from consumer.provisioners.kubernetes.names import selector
from consumer.provisioners.kubernetes.namespaces import Namespaces
from consumer.provisioners.kubernetes.objects import Objects
from consumer.provisioners.kubernetes.options import KubernetesOptions
from consumer.provisioners.kubernetes.volumes import Volumes


class Removals:
    """Of the environments of one installation."""

    def __init__(
        self,
        client: Client,
        objects: Objects,
        namespaces: Namespaces,
        volumes: Volumes,
        routes: Routes,
        kubeconfigs: Kubeconfigs,
        options: KubernetesOptions,
    ) -> None:
        self._client, self._objects, self._options = client, objects, options
        self._namespaces, self._volumes, self._routes, self._kubeconfigs = namespaces, volumes, routes, kubeconfigs

    async def remove(self, key: str, *, volumes: bool) -> bool:
        """Remove all of an environment, with the volumes that go with it or without; True when there was anything.

        All of it is what belongs to the anchors that are there now: another member may make it anew meanwhile, and
        nothing of that is touched.
        """
        ours = selector(self._options.instance, key)
        anchors, *more = await together(self._anchors(ours), *([self._volumes.temporary(key)] if volumes else []))
        claims = [claim for found in more for claim in found]
        pods = [] if anchors else await self._strays(ours)
        return await self._remove(ours, anchors, claims, pods)

    async def undo(self, key: str, anchor: Object) -> None:
        """Remove what was made for this very anchor. What another member has made anew by now is none of it."""
        with suppress(ProvisionerError, Answer):  # by now it may tell more, of a kubeconfig
            shown = await self._client.get(ANCHOR, anchor)
            anchor = shown if shown is not None and uid_of(shown) == uid_of(anchor) else anchor
        await self._remove(selector(self._options.instance, key), [anchor])

    async def _remove(
        self, ours: str, anchors: Sequence[Object], claims: Sequence[Object] = (), pods: Sequence[Object] = ()
    ) -> bool:
        theirs, places = f"{ours},{belonging_to(anchors)}", {namespace_of(each) for each in (*anchors, *pods, *claims)}

        async def delete(*kinds: Kind) -> None:
            wanted = (self._objects.delete_all(kind, theirs, at) for kind in kinds for at in places if anchors)
            await together(*wanted)

        async def end() -> None:
            """Claims belong to no anchor: without one nobody would look for them."""
            await together(*(self._objects.delete(CLAIM, claim) for claim in claims))
            await together(*(self._objects.delete(ANCHOR, anchor) for anchor in anchors))

        async with self._namespaces.in_use(*places):
            await together(*(self._namespaces.let_us_in(place) for place in places))
            routes = await self._routes.of(anchors, theirs)
            await together(*(self._kubeconfigs.take_back(anchor) for anchor in anchors))
            # The cluster would do it by itself, but in its own time: it collects so many objects a second, and no more.
            # What keeps a pod in its place stays until it is gone; so does the anchor, which tells others of it.
            alone = [*((POD, pod) for pod in pods), *routes]
            await together(delete(POD, SERVICE, SECRET), *(self._objects.delete(*each) for each in alone))
            await together(delete(NETWORK_POLICY), end())
        return bool(anchors or claims or alone)

    async def _strays(self, ours: str) -> list[Object]:
        """Pods that have lost their anchor. All else that has the cluster collects, and nobody waits for it."""
        pods = await self._client.list(POD, ours, self._options.scope)
        anchors = await self._anchors(ours) if pods else []  # since it was looked one may have been made
        return [pod for pod in pods if not any(belongs_to_anchor(pod, anchor) for anchor in anchors)]

    async def _anchors(self, ours: str) -> list[Object]:
        return await self._client.list(ANCHOR, ours, self._options.scope)
