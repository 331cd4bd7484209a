"""Where a user's environments are: in the namespace of all, or in one of the user's that is made and kept bounded."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

from consumer.handling.errors import Permanent, Transient
from consumer.provisioners.kubernetes.client import Client
from consumer.provisioners.kubernetes.errors import Conflicting, NamespaceGone, NotAllowed
from consumer.provisioners.kubernetes.kinds import ANCHOR, NAMESPACE, ROLE_BINDING, Kind, Object, is_dying, name_of
from consumer.provisioners.kubernetes.names import selector
from consumer.provisioners.kubernetes.objects import Objects
from consumer.provisioners.kubernetes.options import KubernetesOptions
from consumer.provisioners.kubernetes.user_namespaces import (
    binding_of,
    bounds_of,
    is_same_users,
    lacking_labels,
    user_namespace_of,
)
from schemas.events import User

_LOOK_AGAIN = 0.1
_TAKES_EFFECT = 10.0
"""Seconds after which a role that was just bound holds, on every API server of the cluster."""


class Namespaces:
    """Those of users are never deleted: volumes that are kept lie in them, and another member may be using them."""

    def __init__(self, client: Client, objects: Objects, options: KubernetesOptions) -> None:
        self._client, self._objects, self._options = client, objects, options
        self._account: str | None = None

    async def ensure(self, user: User) -> str:
        """The namespace for new environments of `user`. One of the user's own is there then, with all its bounds.

        It is looked at every time: what a crash left out, or a setting changed, is put right. Raises
        `Permanent("conflict")` when its name is somebody else's.
        """
        if (users := self._options.users) is None:
            return self._options.namespace
        wanted = user_namespace_of(user, self._options, users)
        found = await self._have(wanted)
        if labels := lacking_labels(found, wanted):
            await self._client.patch(NAMESPACE, found, {"metadata": {"labels": labels}})
        name = name_of(found)
        await self.let_us_in(name)
        await asyncio.gather(*(self._apply(kind, body) for kind, body in bounds_of(name, users)))
        return name

    async def ping(self) -> None:
        """Ask for next to nothing that only we may ask for. A list of all namespaces' objects would be much."""
        if self._options.users is None:
            await self._client.list(ANCHOR, selector(self._options.instance, "none"), self._options.namespace)
        else:
            await self._client.get(NAMESPACE, {"metadata": {"name": self._options.namespace}})

    def of(self, user: User) -> str:
        """The name of the namespace for new environments of `user`."""
        users = self._options.users
        return self._options.namespace if users is None else name_of(user_namespace_of(user, self._options, users))

    async def let_us_in(self, name: str) -> None:
        """Where we are let do little everywhere, have us let do in this namespace what the role says.

        It may be there already, and our account or its role be another by now.
        """
        users = self._options.users
        if users is None or users.role is None or name == self._options.namespace:
            return
        self._account = self._account or await self._client.account()
        body = binding_of(name, users.role, self._account)
        if await self._client.get(ROLE_BINDING, body) is not None:
            return
        with suppress(Conflicting):
            await self._objects.create(ROLE_BINDING, body)
        for _ in range(int(_TAKES_EFFECT / _LOOK_AGAIN)):
            if await self._client.may("get", "", "secrets", name):
                return
            await asyncio.sleep(_LOOK_AGAIN)

    @asynccontextmanager
    async def in_use(self, *names: str) -> AsyncIterator[None]:
        """A user's namespace that somebody deletes meanwhile is one user's trouble, and over when it is made again.

        The cluster may take our rights in it away before all that is in it.
        """
        try:
            yield
        except (NamespaceGone, NotAllowed) as error:
            if self._options.users is None or not (isinstance(error, NamespaceGone) or await self._any_goes(names)):
                raise
            raise Transient("runtime_busy", "The user's namespace was deleted while it was used.") from error

    async def _any_goes(self, names: Iterable[str]) -> bool:
        seen = await asyncio.gather(*(self._client.get(NAMESPACE, {"metadata": {"name": name}}) for name in names))
        return any(each is None or is_dying(each) for each in seen)

    async def _have(self, wanted: dict[str, Any]) -> Object:
        while True:
            if (seen := await self._client.get(NAMESPACE, wanted)) is None:
                with suppress(Conflicting):  # somebody was quicker
                    return await self._objects.create(NAMESPACE, wanted)
            elif not is_same_users(seen, wanted):
                raise Permanent(
                    "conflict", f"The namespace {name_of(wanted)} is not one that Moorage made for this user."
                )
            elif not is_dying(seen):
                return seen
            else:
                await self._objects.gone(NAMESPACE, seen)

    async def _apply(self, kind: Kind, body: dict[str, Any]) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _TAKES_EFFECT
        while True:
            try:
                await self._client.apply(kind, body)
            except (Conflicting, NotAllowed):  # two do it at once, or what lets us do it is too new to be known
                if loop.time() > deadline:
                    raise
            else:
                return
            await asyncio.sleep(_LOOK_AGAIN)
