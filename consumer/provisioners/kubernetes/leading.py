"""Making what leads to an environment's pages, and asking for it where there is any."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from consumer.catalog.environment import EnvironmentSpec
from consumer.handling.errors import Permanent, Transient
from consumer.handling.ports import Progress, Report
from consumer.provisioners.kubernetes.client import Client
from consumer.provisioners.kubernetes.errors import NoSuchApi, NotAllowed
from consumer.provisioners.kubernetes.kinds import HTTP_ROUTE, Kind, Object, name_of
from consumer.provisioners.kubernetes.objects import Objects
from consumer.provisioners.kubernetes.options import KubernetesOptions
from consumer.provisioners.kubernetes.routes import is_taken, kinds_of, refusal_of, route_of

_LOOK_AGAIN = 0.5
_BELIEVED = 10.0
"""Seconds for which a route must have been refused: a Gateway may not know the Service yet, or be starting itself."""


class Routes:
    """An Ingress is there when it is made: controllers do not tell alike what they do with it. An HTTPRoute is when a
    Gateway has taken it."""

    def __init__(self, client: Client, objects: Objects, options: KubernetesOptions) -> None:
        self._client, self._objects, self._options = client, objects, options

    async def ensure(self, spec: EnvironmentSpec, about: dict[str, Any], anchor: Object) -> Object | None:
        """The route of this environment, if its template wants one. Raises `Permanent("route_refused")`."""
        if (wanted := route_of(spec, about)) is None:
            return None
        kind, body = wanted
        try:
            return await self._objects.have(kind, body, anchor)
        except NoSuchApi as error:
            why = f"The cluster does not know the kind {kind.name} ({kind.api_version}), which the template wants."
            raise Permanent("route_refused", why) from error
        except NotAllowed as error:
            raise Permanent(
                "route_refused", f"Moorage may not make an {kind.name}, which the template wants."
            ) from error

    async def of(self, anchors: Iterable[Object], selector: str) -> Sequence[tuple[Kind, Object]]:
        """Those that are there, of the kinds that these anchors have."""
        found = []
        for kind in kinds_of(anchors):
            # A kind that the cluster no longer has, or shows us, takes no environment from us.
            with suppress(NoSuchApi, NotAllowed):
                found += [(kind, each) for each in await self._client.list(kind, selector, self._options.scope)]
        return found

    async def taken(self, route: Object | None, report: Report) -> None:
        """Return when people are led here, as far as can be told. Raises `Permanent("route_refused")`."""
        if route is None or route["kind"] != HTTP_ROUTE.name:
            return
        if not is_taken(route):
            report(Progress("routing", name_of(route)))
        loop = asyncio.get_running_loop()
        began = since = loop.time()
        while not is_taken(route):
            now = loop.time()
            if (why := refusal_of(route)) is None:
                since = now
            if now >= min(since + _BELIEVED, began + self._options.address_timeout):
                said = why or "none has said in time that it knows the HTTPRoute."
                raise Permanent("route_refused", f"No Gateway leads to this environment: {said}")
            await asyncio.sleep(_LOOK_AGAIN)
            if (shown := await self._client.get(HTTP_ROUTE, route)) is None:
                raise Transient("runtime_busy", "The HTTPRoute was deleted while the environment was being started.")
            route = shown
