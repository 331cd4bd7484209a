"""Following a pod until it is ready, or until it can be told why it will not be."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from consumer.catalog.environment import EnvironmentSpec
from consumer.handling.errors import Permanent, ProvisionerError, Transient
from consumer.handling.ports import Progress, Report
from consumer.provisioners.kubernetes.client import Client
from consumer.provisioners.kubernetes.errors import Answer, NotAllowed
from consumer.provisioners.kubernetes.failures import (
    ended_by_cluster,
    failure_of,
    has_login,
    is_ready,
    not_startable,
    unscheduled,
)
from consumer.provisioners.kubernetes.kinds import POD, SERVICE, Object, name_of, uid_of
from consumer.provisioners.kubernetes.logins import secret_name
from consumer.provisioners.kubernetes.options import KubernetesOptions
from consumer.provisioners.kubernetes.pods import image_of
from consumer.provisioners.kubernetes.pulls import is_pulling, lacked_login, seconds_of_pulls, took_long
from consumer.provisioners.kubernetes.sights import address_of, container_state
from consumer.provisioners.kubernetes.watching import Watch
from consumer.provisioners.readiness import said
from consumer.provisioners.text import shortened, without_paths

_LOOK_ANYWAY = 5.0
"""Seconds after which the server is asked though the watch told nothing: it may be cut off."""

_LOOK_AGAIN = 0.5
_LINES = 20
_LONGEST_WARNING = 200
_MOST_OF_IT = 0.9
"""The share of the time for a start after which a pod that did not come up is told of, before that is cut off."""

_NOT_PULLED = ("image_pull_denied", "image_not_found", "image_pull_failed")
_NEVER_RAN = ("StartError", "ContainerCannotRun")


class Starts:
    """Waits for pods, and for the addresses of load balancers."""

    def __init__(self, client: Client, pods: Watch, options: KubernetesOptions) -> None:
        self._client, self._pods, self._options = client, pods, options

    async def ready(self, spec: EnvironmentSpec, pod: Object, report: Report) -> Object:
        """The pod, once it is ready. Raises what the failure means, with the program's last words if it had any."""
        patience = _Patience(spec, self._options, report)
        asked, settle, timed = False, 0.0, False
        loop, until = asyncio.get_running_loop(), None
        while True:
            with self._pods.expecting(pod) as changed:
                pod = pod if asked else self._newer(pod)
                asked = False
                if "running" in container_state(pod) and not timed:
                    timed = True
                    if took_long(pod) and (pulled := seconds_of_pulls(await self._events(pod))):
                        report(Progress("pulled", image_of(spec), pulled))
                if is_ready(pod) and "running" in container_state(pod):
                    now = loop.time()
                    until = now + settle if until is None else until
                    if now >= until:
                        return pod
                    if not await changed(until - now):
                        pod, asked = await self._asked(pod), True
                    continue
                until = None
                if "terminated" in container_state(pod):
                    raise await self._ended(spec, pod)
                if (failure := failure_of(spec, pod)) is not None and not await self._passes(spec, pod, failure):
                    raise failure
                if (left := patience.left(pod)) <= 0:
                    raise await self._late(spec, pod)
                # Who is asked whether it is ready shows that it runs; others may end as soon as they have begun.
                settle = self._options.settle if spec.ready.port is None else 0.0
                if not await changed(min(left, _LOOK_ANYWAY)):
                    pod, asked = await self._asked(pod), True
                    patience.pulling = not container_state(pod).get("running") and is_pulling(await self._events(pod))

    async def address(self, service: Object, report: Report) -> Object:
        """The service, once its load balancer has an address."""
        report(Progress("addressing", name_of(service)))
        deadline = asyncio.get_running_loop().time() + self._options.address_timeout
        while address_of(service) is None:
            if asyncio.get_running_loop().time() > deadline:
                raise Permanent("not_ready", "The cluster gave the environment's load balancer no address in time.")
            await asyncio.sleep(_LOOK_AGAIN)
            if (shown := await self._client.get(SERVICE, service)) is None:
                raise Transient("runtime_busy", "The service was deleted while the environment was being started.")
            service = shown
        return service

    def _newer(self, pod: Object) -> Object:
        seen = self._pods.latest(pod)
        return seen if seen is not None and uid_of(seen) == uid_of(pod) else pod

    async def _asked(self, pod: Object) -> Object:
        seen = await self._client.get(POD, pod)
        if seen is None or uid_of(seen) != uid_of(pod):
            raise Transient("runtime_busy", "The pod was deleted while it was being started.")
        return seen

    async def _ended(self, spec: EnvironmentSpec, pod: Object) -> ProvisionerError:
        if ended_by_cluster(pod):
            return Transient("runtime_busy", "The cluster stopped the program while it was being started.")
        ended = container_state(pod)["terminated"]
        why = "out of memory" if ended.get("reason") == "OOMKilled" else f"exit code {ended.get('exitCode')}"
        if ended.get("reason") in _NEVER_RAN:
            return not_startable(ended.get("message") or "")
        words = said(spec, await self._words(pod))
        return Permanent("exited_at_start", f"The program ended at once ({why}).{words}")

    async def _late(self, spec: EnvironmentSpec, pod: Object) -> ProvisionerError:
        if (why := unscheduled(pod)) is not None:
            return Transient("runtime_full", f"No node of the cluster takes the pod: {why}")
        if not pod["spec"].get("nodeName"):
            return Transient("runtime_full", "No scheduler of the cluster has found a node for the pod in time.")
        if "running" not in container_state(pod):
            events = await self._events(pod)
            what = "fetch the image" if is_pulling(events) else "start the pod"
            return Permanent("not_started", f"The node did not {what} in time.{_warning(events)}")
        words, warning = said(spec, await self._words(pod)), _warning(await self._events(pod))
        return Permanent("not_ready", f"{_missing(spec)} within {spec.ready.within:g} s.{words}{warning}")

    async def _passes(self, spec: EnvironmentSpec, pod: Object, failure: ProvisionerError) -> bool:
        """Whether its node did not get the image only because it had not got the login yet."""
        if failure.code not in _NOT_PULLED or not has_login(spec, pod):
            return False
        with suppress(NotAllowed, Answer):
            return lacked_login(await self._client.events(pod), secret_name(spec.name))
        return False

    async def _events(self, pod: Object) -> Sequence[Object]:
        """What the cluster tells of a pod; nothing where nobody may know."""
        with suppress(ProvisionerError, Answer):
            return await self._client.events(pod)
        return ()

    async def _words(self, pod: Object) -> str:
        with suppress(ProvisionerError, Answer):
            return await self._client.log(pod, _LINES)
        return ""


class _Patience:
    """How long a pod has been waiting for the same thing, and how long it may."""

    def __init__(self, spec: EnvironmentSpec, options: KubernetesOptions, report: Report) -> None:
        self._spec, self._options, self._report = spec, options, report
        self._stage: str | None = None
        self._told: Progress | None = None
        self._since = 0.0
        self.pulling = False
        """Whether the node fetches the image, as far as was heard."""

    def left(self, pod: Object) -> float:
        """Seconds that may go by without a change. Negative when it has waited long enough."""
        stage, most = "starting", _MOST_OF_IT * (self._spec.start_timeout or self._options.start_timeout)
        if unscheduled(pod) is not None:
            stage, most = "scheduling", self._options.schedule_timeout
        elif "running" in container_state(pod):
            stage, most = "waiting", self._spec.ready.within
        now = asyncio.get_running_loop().time()
        if stage != self._stage:
            self._stage, self._since = stage, now
        shown = Progress("pulling" if self.pulling and stage == "starting" else stage, self._detail(pod))
        if shown != self._told:
            self._told = shown
            self._report(shown)
        return self._since + most - now

    def _detail(self, pod: Object) -> str:
        match self._stage:
            case "scheduling":
                return unscheduled(pod) or ""
            case "waiting":
                return _missing(self._spec)
        return name_of(pod)


def _warning(events: Sequence[Object]) -> str:
    """What the cluster warned of last, as a sentence; empty when it did not."""
    for each in reversed(events):
        if each.get("type") == "Warning":
            said = f"{each.get('reason')}: {each.get('message')}"
            return f" {shortened(without_paths(said), _LONGEST_WARNING)}"
    return ""


def _missing(spec: EnvironmentSpec) -> str:
    if spec.ready.port is None:
        return "The pod is not ready"
    what = "Nothing" if spec.ready.path is None else "No page"
    return f"{what} answered on port {spec.ready.port}"
