"""The Kubernetes runtime as a `Provisioner`."""

import asyncio
import builtins
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from consumer.catalog.environment import EnvironmentSpec
from consumer.catalog.identity import EXPIRES_AT
from consumer.catalog.needs import Needs
from consumer.handling.errors import Permanent, ProvisionerError, Transient, Unavailable
from consumer.handling.ports import Environment, Finding, Progress, Report, Status
from consumer.handling.usage import Usage
from consumer.provisioners.credentials import Login, RegistryCredentials
from consumer.provisioners.inflight import InFlight
from consumer.provisioners.kubernetes.client import Client
from consumer.provisioners.kubernetes.diagnosis import diagnose
from consumer.provisioners.kubernetes.errors import Answer, Conflicting, Missing, decided
from consumer.provisioners.kubernetes.kinds import (
    ANCHOR,
    NETWORK_POLICY,
    OWNED,
    POD,
    SECRET,
    SERVICE,
    Object,
    belongs_to_anchor,
    is_dying,
    name_of,
    namespace_of,
    uid_of,
)
from consumer.provisioners.kubernetes.leading import Routes
from consumer.provisioners.kubernetes.logins import login_secret_of, secret_name
from consumer.provisioners.kubernetes.manifests import anchor_of, network_policy_of, owned_by, secret_of, service_of
from consumer.provisioners.kubernetes.metrics import POD_METRICS, usage_of
from consumer.provisioners.kubernetes.names import facts_of, selector
from consumer.provisioners.kubernetes.objects import Objects
from consumer.provisioners.kubernetes.options import KubernetesOptions
from consumer.provisioners.kubernetes.pods import pod_of
from consumer.provisioners.kubernetes.sights import Sight, sights_of, status_of
from consumer.provisioners.kubernetes.starting import Starts
from consumer.provisioners.kubernetes.volumes import Volumes
from consumer.provisioners.kubernetes.watching import Watch, tell_endings
from consumer.provisioners.labels import refuse_foreign, refuse_other_spec

_LOOK_AGAIN = 0.1


class KubernetesProvisioner:
    """Runs each environment as a pod, with an anchor that everything else of it belongs to.

    What exists is asked of the API server every time; nothing is remembered that a restart would lose.
    Raises ValueError when the file with logins is none.
    """

    def __init__(self, options: KubernetesOptions) -> None:
        self._options = options
        self._client = Client(options)
        ours = selector(options.instance)
        self._pods = Watch(self._client, POD, ours, options.scope)
        self._anchors = Watch(self._client, ANCHOR, ours, options.scope)
        self._objects = Objects(self._client, {POD: self._pods, ANCHOR: self._anchors}, options.gone_timeout)
        self._starts = Starts(self._client, self._pods, options)
        self._routes = Routes(self._client, self._objects, options)
        self._volumes = Volumes(self._client, self._objects, options)
        self._requests = InFlight()
        path = options.registry_credentials
        self._credentials = RegistryCredentials(path) if path is not None else None

    @property
    def runtime(self) -> str:
        return self._options.name

    @decided
    async def ensure(self, spec: EnvironmentSpec, report: Report) -> Environment:
        anchor, new = await self._requests.run(spec.key, self._anchor(spec))
        spec = replace(spec, name=name_of(anchor))  # events name people in one way or another, or not at all
        try:
            return await self._completed(spec, anchor, report)
        except (Permanent, Transient, Answer):
            # When the API is away nothing was decided: another member may have gone on with it, and told the user.
            if new:
                with suppress(ProvisionerError, Answer):  # what is left behind, `remove` finds
                    await self._requests.run(spec.key, self._objects.delete(ANCHOR, anchor, foreground=True))
            raise

    async def prepare(self, spec: EnvironmentSpec, report: Report) -> None:
        """Nothing: which node a pod comes to, and so who needs its image, is decided when there is one."""

    @decided
    async def find(self, key: str) -> Environment | None:
        found = min(await self._of(key), key=lambda each: each.status is Status.DYING, default=None)
        return found.environment(self._options) if found is not None else None

    @decided
    async def remove(self, key: str, *, keep: bool = False) -> bool:
        await self._requests.settled(key)
        ours = selector(self._options.instance, key)
        anchors, _ = await self._client.list(ANCHOR, ours, self._options.scope)
        await asyncio.gather(*(self._objects.request_deletion(ANCHOR, anchor, foreground=True) for anchor in anchors))
        # The cluster does the rest by itself, but in its own time: it collects so many objects a second, and no more.
        found = await asyncio.gather(*(self._client.list(kind, ours, self._options.scope) for kind in OWNED))
        left = [(kind, each) for kind, (objects, _) in zip(OWNED, found, strict=True) for each in objects]
        left += await self._routes.of(anchors, ours)
        await asyncio.gather(*(self._objects.delete(kind, each) for kind, each in left))
        await asyncio.gather(*(self._objects.gone(ANCHOR, anchor) for anchor in anchors))
        volume = not keep and await self._volumes.remove(key)
        return volume or bool(anchors or left)

    @decided
    async def list(self) -> list[Environment]:
        return [each.environment(self._options) for each in await self._of()]

    @decided
    async def usage(self, key: str) -> Usage | None:
        for each in await self._of(key):
            if each.status is Status.RUNNING:
                with suppress(ProvisionerError, Missing):  # not every cluster measures, or lets everybody see it
                    if (read := await self._client.get(POD_METRICS, each.anchor)) is not None:
                        return usage_of(read, each.environment(self._options).memory_bytes)
        return None

    async def watch(self, ended: Callable[[str], None]) -> None:
        await tell_endings(self._pods, ended)

    async def ping(self) -> None:
        try:
            await self._client.list(ANCHOR, selector(self._options.instance, "none"), self._options.scope)
        except (Transient, Permanent) as error:
            raise Unavailable(error.message) from error
        except Answer as error:
            raise Unavailable("What answers is not the Kubernetes API.") from error

    async def diagnose(self, needs: Needs) -> Sequence[Finding]:
        return await diagnose(self._client, self._options, needs)

    async def close(self) -> None:
        await self._requests.close()
        await self._pods.close()
        await self._anchors.close()
        await self._client.close()

    async def _of(self, key: str | None = None) -> builtins.list[Sight]:
        ours = selector(self._options.instance, key)
        kinds = (ANCHOR, POD, SERVICE)
        found = await asyncio.gather(*(self._client.list(kind, ours, self._options.scope) for kind in kinds))
        anchors, pods, services = (objects for objects, _ in found)
        routes = [route for _, route in await self._routes.of(anchors, ours)]
        return [*sights_of(anchors, pods, services, routes)]

    async def _anchor(self, spec: EnvironmentSpec) -> tuple[Object, bool]:
        """The anchor of this very spec, and whether it is new. Dying ones are waited out."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._options.gone_timeout
        wanted = anchor_of(spec, self._options.namespace, self._options)
        while loop.time() < deadline:
            found = await self._anchors_of(spec.key)
            for anchor in sorted(found, key=_age):
                if not is_dying(anchor):
                    refuse_other_spec(facts_of(anchor), spec)
                    return await self._extended(spec, anchor), False
                await self._objects.gone(ANCHOR, anchor)
            try:
                made = await self._objects.create(ANCHOR, wanted)
                if await self._is_first(spec.key, made):
                    return made, True
                await self._objects.delete(ANCHOR, made, foreground=True)
            except Conflicting:
                holder = await self._client.get(ANCHOR, wanted)
                if holder is not None:
                    refuse_foreign(facts_of(holder), self._options.instance, spec)
            await asyncio.sleep(_LOOK_AGAIN)  # ours, but made or removed by somebody else in this moment
        raise Transient("runtime_busy", "Something else is still at work on this environment.")

    async def _is_first(self, key: str, made: Object) -> bool:
        """Whether nobody else made an anchor before, under another name: not every event tells people's names."""
        alive = [each for each in await self._anchors_of(key) if not is_dying(each)]
        return uid_of(min(alive, key=_age, default=made)) == uid_of(made)

    async def _anchors_of(self, key: str) -> builtins.list[Object]:
        found, _ = await self._client.list(ANCHOR, selector(self._options.instance, key), self._options.scope)
        return found

    async def _extended(self, spec: EnvironmentSpec, anchor: Object) -> Object:
        """The anchor with the end of its reservation as it is now."""
        until = spec.expires_at.isoformat()
        if facts_of(anchor).get(EXPIRES_AT) == until:
            return anchor
        try:
            return await self._client.patch(ANCHOR, anchor, {"metadata": {"annotations": {EXPIRES_AT: until}}})
        except Missing as error:
            raise Transient("runtime_busy", "The environment was removed while it was looked at.") from error

    async def _completed(self, spec: EnvironmentSpec, anchor: Object, report: Report) -> Environment:
        """The environment of an anchor, with all that is missing of it made and its pod ready."""
        report(Progress("creating", spec.name))
        notes = await self._requests.run(spec.key, self._volumes.ensure(spec, namespace_of(anchor)))
        service, route, pod = await self._requests.run(spec.key, self._parts(spec, anchor))
        pod = await self._starts.ready(spec, pod, report)
        if service is not None and service["spec"]["type"] == "LoadBalancer":
            service = await self._starts.address(service)
        await self._routes.taken(route)
        return replace(Sight(anchor, pod, service, route).environment(self._options), notes=notes)

    async def _login(self, spec: EnvironmentSpec) -> Login | None:
        return await asyncio.to_thread(self._credentials.login_for, spec.image) if self._credentials else None

    async def _parts(self, spec: EnvironmentSpec, anchor: Object) -> tuple[Object | None, Object | None, Object]:
        """The service, the route and the pod of an anchor. What keeps the pod in its place is there before it."""
        about = owned_by(anchor, spec, self._options)
        alive = await self._is_alive(spec.key, anchor)
        login = await self._login(spec)
        pod = pod_of(spec, about, self._options, secret_name(spec.name) if login else None)
        secrets = [secret_of(spec, about), *([login_secret_of(login, about)] if login else [])]
        await asyncio.gather(
            self._objects.have(NETWORK_POLICY, network_policy_of(spec, about), anchor),
            *(
                self._objects.have(SECRET, secret, anchor) if alive else self._objects.have_secret(secret, anchor)
                for secret in secrets
            ),
        )
        service = None
        if spec.ports:
            service = await self._objects.have(SERVICE, service_of(spec, about, self._options), anchor)
        route = await self._routes.ensure(spec, about, anchor)
        seen = await self._objects.have(POD, pod, anchor)
        if status_of(seen) is Status.STOPPED:  # it ended before we came: its program is started again, in a new one
            await self._objects.delete(POD, seen)
            return await self._parts(spec, anchor)
        return service, route, seen

    async def _is_alive(self, key: str, anchor: Object) -> bool:
        """Whether the anchor has a pod that has not ended. Pods of other anchors are waited out first."""
        pods, _ = await self._client.list(POD, selector(self._options.instance, key), self._options.scope)
        pods = [pod for pod in pods if facts_of(pod) and status_of(pod) is not Status.STOPPED]
        for pod in pods:
            if not belongs_to_anchor(pod, anchor):
                await self._objects.gone(POD, pod)
        return any(belongs_to_anchor(pod, anchor) and not is_dying(pod) for pod in pods)


def _age(anchor: Object) -> tuple[str, int]:
    """What sorts anchors by when they were made: times are told in seconds, versions count up."""
    about = anchor["metadata"]
    return about["creationTimestamp"], int(about["resourceVersion"])
