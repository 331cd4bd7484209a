"""The Kubernetes runtime as a `Provisioner`."""

import asyncio
import builtins
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from consumer.catalog.environment import EnvironmentSpec
from consumer.catalog.identity import EXPIRES_AT, KEY
from consumer.catalog.needs import Needs
from consumer.handling.errors import Permanent, ProvisionerError, Transient, Unavailable
from consumer.handling.ports import Environment, Finding, Progress, Report, Status
from consumer.handling.usage import Usage
from consumer.provisioners.credentials import Login, RegistryCredentials
from consumer.provisioners.inflight import InFlight, together
from consumer.provisioners.kubernetes.client import Client
from consumer.provisioners.kubernetes.diagnosis import diagnose
from consumer.provisioners.kubernetes.errors import Answer, Conflicting, Missing, NotAllowed, decided
from consumer.provisioners.kubernetes.kinds import (
    ANCHOR,
    NETWORK_POLICY,
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
from consumer.provisioners.kubernetes.kubeconfig import RENEW_AT, renew_at
from consumer.provisioners.kubernetes.kubeconfigs import Kubeconfigs
from consumer.provisioners.kubernetes.leading import Routes
from consumer.provisioners.kubernetes.logins import login_secret_of, secret_name
from consumer.provisioners.kubernetes.manifests import anchor_of, network_policy_of, owned_by, secret_of, service_of
from consumer.provisioners.kubernetes.metrics import POD_METRICS, usage_of
from consumer.provisioners.kubernetes.names import facts_of, selector
from consumer.provisioners.kubernetes.namespaces import Namespaces
from consumer.provisioners.kubernetes.objects import Objects
from consumer.provisioners.kubernetes.options import KubernetesOptions
from consumer.provisioners.kubernetes.pods import pod_of
from consumer.provisioners.kubernetes.removing import Removals
from consumer.provisioners.kubernetes.sights import Sight, sights_of, status_of
from consumer.provisioners.kubernetes.starting import Starts
from consumer.provisioners.kubernetes.volumes import Volumes
from consumer.provisioners.kubernetes.watching import Watch, tell_endings
from consumer.provisioners.labels import memory_limit_of, refuse_foreign, refuse_other_spec

_DAY = 24 * 3600
_LOOK_AGAIN = 0.1
_TIDYING = 1.0
"""Seconds that who is to hear why a start failed waits until nothing is left of it. The rest goes on by itself."""


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
        self._namespaces = Namespaces(self._client, self._objects, options)
        self._volumes = Volumes(self._client, self._objects, options)
        self._kubeconfigs = Kubeconfigs(self._client, self._objects, options)
        self._removals = Removals(
            self._client, self._objects, self._namespaces, self._volumes, self._routes, self._kubeconfigs, options
        )
        self._requests = InFlight()
        path = options.registry_credentials
        self._credentials = RegistryCredentials(path) if path is not None else None

    @property
    def runtime(self) -> str:
        return self._options.name

    @decided
    async def ensure(self, spec: EnvironmentSpec, report: Report) -> Environment:
        await self._requests.settled(spec.key)  # what is left of an attempt before is being removed, perhaps
        async with self._namespaces.in_use(self._namespaces.of(spec.user)):
            return await self._ensured(spec, report)

    async def _ensured(self, spec: EnvironmentSpec, report: Report) -> Environment:
        anchor, new = await self._requests.run(spec.key, self._anchor(spec))
        spec = replace(spec, name=name_of(anchor))  # events name people in one way or another, or not at all
        try:
            return await self._completed(spec, anchor, report, new=new)
        except (Permanent, Transient, Answer):
            # When the API is away nothing was decided: another member may have gone on with it, and told the user.
            if new:
                with suppress(ProvisionerError, Answer, TimeoutError):  # what is left behind, `remove` finds
                    async with asyncio.timeout(_TIDYING):
                        await self._requests.run(spec.key, self._removals.undo(spec.key, anchor))
            raise

    async def prepare(self, spec: EnvironmentSpec, report: Report) -> None:
        """Nothing: which node a pod comes to, and so who needs its image, is decided when there is one."""

    @decided
    async def find(self, key: str) -> Environment | None:
        found = min(await self._of(key), key=lambda each: each.status is Status.DYING, default=None)
        return found.environment(self._options) if found is not None else None

    @decided
    async def extend(self, key: str, until: datetime) -> bool:
        found = await self._anchors_of(key)
        alive = [anchor for anchor in found if facts_of(anchor) and not is_dying(anchor)]
        try:
            for anchor in alive:
                await self._namespaces.let_us_in(namespace_of(anchor))
                await self._requests.run(key, self._extended(anchor, until))
        except Unavailable as error:  # it has just answered: this is about one environment, and others may go on
            raise Transient("runtime_error", error.message) from error
        return bool(alive)

    @decided
    async def kubeconfig(self, key: str) -> str | None:
        """The kubeconfig of the user of this key's environment, if they have one. It is told nobody else."""
        for each in await self._of(key):
            if each.status is not Status.DYING and (found := await self._kubeconfigs.of(each.anchor)) is not None:
                return found
        return None

    @decided
    async def remove(self, key: str, *, keep: bool = False) -> bool:
        await self._requests.settled(key)
        return await self._removals.remove(key, volumes=not keep)

    @decided
    async def list(self) -> list[Environment]:
        return [each.environment(self._options) for each in await self._of()]

    @decided
    async def usage(self, key: str) -> Usage | None:
        heard = self._heard_of(key)
        pods = await self._listed(key) if heard is None else [await self._client.get(POD, pod) for pod in heard]
        for pod in pods:
            if pod is not None and status_of(pod) is Status.RUNNING:
                with suppress(ProvisionerError, Missing):  # not every cluster measures, or lets everybody see it
                    if (read := await self._client.get(POD_METRICS, pod)) is not None:
                        return usage_of(read, memory_limit_of(facts_of(pod)))
        return None

    async def watch(self, ended: Callable[[str], None]) -> None:
        await tell_endings(self._pods, ended)

    async def ping(self) -> None:
        try:
            await self._namespaces.ping()
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
        wanted = (self._client.list(kind, ours, self._options.scope) for kind in kinds)
        anchors, pods, services = await asyncio.gather(*wanted)
        routes = [route for _, route in await self._routes.of(anchors, ours)]
        return [*sights_of(anchors, pods, services, routes)]

    async def _anchor(self, spec: EnvironmentSpec) -> tuple[Object, bool]:
        """The anchor of this very spec, and whether it is new. Dying ones are waited out."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._options.gone_timeout
        if self._options.users is not None:  # what is there already may be elsewhere, and its user need no namespace
            there = [each for each in await self._anchors_of(spec.key) if not is_dying(each)]
            if there:
                return await self._adopted(min(there, key=_age), spec), False
        while loop.time() < deadline:
            wanted = anchor_of(spec, await self._namespaces.ensure(spec.user), self._options)
            made, refusal = await self._made(wanted)  # mostly there is none: trying costs less than looking first
            found = await self._anchors_of(spec.key)
            # Somebody else may have made one under another name: not every event tells people's names.
            first = min((each for each in found if not is_dying(each)), key=_age, default=made)
            if made is not None and first is not None and uid_of(first) != uid_of(made):
                await self._objects.delete(ANCHOR, made)
                made = None
            if made is None and first is not None:
                return await self._adopted(first, spec), False
            for anchor in found:
                if is_dying(anchor):
                    await self._objects.gone(ANCHOR, anchor)
            if made is not None:
                return made, True
            if refusal is not None:
                raise refusal
            if not found and (holder := await self._client.get(ANCHOR, wanted)) is not None:
                refuse_foreign(facts_of(holder), self._options.instance, spec)
                await asyncio.sleep(_LOOK_AGAIN)  # ours, but made or removed by somebody else in this moment
        raise Transient("runtime_busy", "Something else is still at work on this environment.")

    async def _adopted(self, anchor: Object, spec: EnvironmentSpec) -> Object:
        await self._namespaces.let_us_in(namespace_of(anchor))
        refuse_other_spec(facts_of(anchor), spec)
        return await self._extended(anchor, spec.expires_at)

    async def _made(self, wanted: dict[str, Any]) -> tuple[Object | None, ProvisionerError | None]:
        """A new anchor; or none: its name is taken, or the cluster refuses it, as quotas do even if it is there."""
        try:
            return await self._objects.create(ANCHOR, wanted), None
        except Conflicting:
            return None, None
        except (Transient, Permanent) as error:
            return None, error

    async def _anchors_of(self, key: str) -> builtins.list[Object]:
        return await self._client.list(ANCHOR, selector(self._options.instance, key), self._options.scope)

    async def _extended(self, anchor: Object, until: datetime) -> Object:
        """The anchor with the end of its reservation as it is now. If there is a kubeconfig, it holds until then."""
        due, now = renew_at(anchor), datetime.now(UTC)
        if facts_of(anchor).get(EXPIRES_AT) != until.isoformat():
            # Due from now on: should this be all that is done, the next one to come by goes on.
            end = {EXPIRES_AT: until.isoformat()} | ({} if due is None else {RENEW_AT: now.isoformat()})
            anchor, due = await self._annotated(anchor, end), due and now
        if due is not None and due <= now:
            return await self._with_kubeconfig(anchor, until)
        return anchor

    async def _with_kubeconfig(self, anchor: Object, until: datetime) -> Object:
        try:
            given = await self._kubeconfigs.give(anchor, until)
        except NotAllowed as error:  # about templates that want one: others may go on
            raise Transient("runtime_error", error.message) from error
        return await self._annotated(anchor, given)

    async def _annotated(self, anchor: Object, annotations: Mapping[str, str]) -> Object:
        try:
            return await self._client.patch(ANCHOR, anchor, {"metadata": {"annotations": annotations}})
        except Missing as error:
            raise Transient("runtime_busy", "The environment was removed while it was looked at.") from error

    async def _completed(self, spec: EnvironmentSpec, anchor: Object, report: Report, *, new: bool) -> Environment:
        """The environment of an anchor, with all that is missing of it made and its pod ready."""
        report(Progress("creating", spec.name))
        notes = await self._requests.run(spec.key, self._volumes.ensure(spec, anchor))
        service, route, pod = await self._requests.run(spec.key, self._parts(spec, anchor, new=new))
        notes += self._lease(spec, pod)
        if spec.kubernetes.kubeconfig and renew_at(anchor) is None:
            anchor = await self._requests.run(spec.key, self._with_kubeconfig(anchor, spec.expires_at))
        pod = await self._starts.ready(spec, pod, report)
        if service is not None and service["spec"]["type"] == "LoadBalancer":
            service = await self._starts.address(service, report)
        await self._routes.taken(route, report)
        return replace(Sight(anchor, pod, service, route).environment(self._options), notes=notes)

    def _lease(self, spec: EnvironmentSpec, pod: Object) -> tuple[str, ...]:
        """What a user should know whose reservation is longer than the cluster lets this pod live."""
        made = datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
        if spec.expires_at - made <= timedelta(seconds=self._options.max_lease):
            return ()
        return (f"The cluster ends it after {self._options.max_lease / _DAY:.3g} days, before the reservation ends.",)

    async def _login(self, spec: EnvironmentSpec) -> Login | None:
        return await asyncio.to_thread(self._credentials.login_for, spec.image) if self._credentials else None

    async def _parts(
        self, spec: EnvironmentSpec, anchor: Object, *, new: bool
    ) -> tuple[Object | None, Object | None, Object]:
        """The service, the route and the pod of an anchor. What keeps the pod in its place is there before it."""
        about = owned_by(anchor, spec, self._options)
        alive = await self._is_alive(spec.key, anchor, new=new)
        login = await self._login(spec)
        pod = pod_of(spec, about, self._options, secret_name(spec.name) if login else None)
        secrets = [secret_of(spec, about), *([login_secret_of(login, about)] if login else [])]
        made = [
            self._objects.have(NETWORK_POLICY, network_policy_of(spec, about), anchor),
            *(
                self._objects.have(SECRET, secret, anchor) if alive else self._objects.have_secret(secret, anchor)
                for secret in secrets
            ),
        ]
        if spec.ports:
            made.append(self._objects.have(SERVICE, service_of(spec, about, self._options), anchor))
        *_, last = await together(*made)
        service = last if spec.ports else None
        route = await self._routes.ensure(spec, about, anchor)
        seen = await self._objects.have(POD, pod, anchor)
        if status_of(seen) is Status.STOPPED:  # it ended before we came: its program is started again, in a new one
            await self._objects.delete(POD, seen)
            return await self._parts(spec, anchor, new=False)
        return service, route, seen

    async def _is_alive(self, key: str, anchor: Object, *, new: bool) -> bool:
        """Whether the anchor has a pod that has not ended. Pods of other anchors are waited out first."""
        # Of a new one there is none, and of others hardly ever: what was heard of will do.
        heard = self._heard_of(key) if new else None
        pods = await self._listed(key) if heard is None else heard
        pods = [pod for pod in pods if status_of(pod) is not Status.STOPPED]
        for pod in pods:
            if not belongs_to_anchor(pod, anchor):
                await self._objects.gone(POD, pod)
        return any(belongs_to_anchor(pod, anchor) and not is_dying(pod) for pod in pods)

    def _heard_of(self, key: str) -> builtins.list[Object] | None:
        """The pods of a key as the watch has last told; None before it has looked."""
        known = self._pods.known()
        return None if known is None else [pod for pod in known if facts_of(pod).get(KEY) == key]

    async def _listed(self, key: str) -> builtins.list[Object]:
        found = await self._client.list(POD, selector(self._options.instance, key), self._options.scope)
        return [pod for pod in found if facts_of(pod).get(KEY) == key]


def _age(anchor: Object) -> tuple[str, int]:
    """What sorts anchors by when they were made: times are told in seconds, versions count up."""
    about = anchor["metadata"]
    return about["creationTimestamp"], int(about["resourceVersion"])
