"""Giving out kubeconfigs, renewing them, and taking them back.

The anchor is told last: whoever finds it without a word of a kubeconfig gives one out, whatever was done before.
"""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime

from consumer.provisioners.inflight import together
from consumer.provisioners.kubernetes.client import Client
from consumer.provisioners.kubernetes.errors import Missing, NotAllowed
from consumer.provisioners.kubernetes.kinds import (
    ANCHOR,
    ROLE,
    ROLE_BINDING,
    SECRET,
    SERVICE_ACCOUNT,
    Kind,
    Object,
    belongs_to_anchor,
)
from consumer.provisioners.kubernetes.kubeconfig import (
    RENEW_AT,
    about_user,
    account_of,
    binding_of,
    kubeconfig_in,
    kubeconfig_of,
    kubeconfig_secret_of,
    place_of,
    renewal,
    role_of,
    token_seconds,
)
from consumer.provisioners.kubernetes.manifests import has_values_of
from consumer.provisioners.kubernetes.objects import Objects
from consumer.provisioners.kubernetes.options import KubernetesOptions

_RIGHTS = (SERVICE_ACCOUNT, ROLE_BINDING, ROLE)


class Kubeconfigs:
    """Those of the users of one installation's environments, by their anchors."""

    def __init__(self, client: Client, objects: Objects, options: KubernetesOptions) -> None:
        self._client, self._objects, self._options = client, objects, options

    async def give(self, anchor: Object, until: datetime) -> dict[str, str]:
        """Have a kubeconfig that holds until then, or as long as any may; what the anchor is to carry from now on."""
        account, _ = await asyncio.gather(
            self._objects.have(SERVICE_ACCOUNT, account_of(anchor), anchor),
            self._objects.have(ROLE, role_of(anchor), anchor),
        )
        await self._objects.have(ROLE_BINDING, binding_of(anchor), anchor)
        now = datetime.now(UTC)
        token, seconds = await self._client.token(account, token_seconds(until, now))
        server, authority = self._options.public_server or self._client.server, await self._client.authority()
        await self._keep(anchor, kubeconfig_of(anchor, server=server, authority=authority, token=token))
        return {RENEW_AT: renewal(until, now, seconds).isoformat()}

    async def of(self, anchor: Object) -> str | None:
        """The kubeconfig itself, if there is one."""
        if place_of(anchor) is None:
            return None
        secret = await self._client.get(SECRET, {"metadata": about_user(anchor)})
        return kubeconfig_in(secret) if secret is not None and belongs_to_anchor(secret, anchor) else None

    async def take_back(self, anchor: Object) -> None:
        """Have it lead nowhere. What is left, its secret, goes with the environment.

        The anchor is told first: should it come to nothing more, there is one again when the environment is needed.
        """
        if place_of(anchor) is not None:
            with suppress(Missing):
                await self._client.patch(ANCHOR, anchor, {"metadata": {"annotations": {RENEW_AT: None}}})
            await together(*(self._remove(kind, anchor) for kind in _RIGHTS))

    async def _keep(self, anchor: Object, kubeconfig: str) -> None:
        body = kubeconfig_secret_of(anchor, kubeconfig)
        secret = await self._objects.have(SECRET, body, anchor)
        if not has_values_of(secret, body):  # an earlier one, or another member's: the last one counts
            await self._client.patch(SECRET, secret, {"stringData": body["stringData"]})

    async def _remove(self, kind: Kind, anchor: Object) -> None:
        with suppress(NotAllowed):  # no longer ours to remove: the cluster does, once the anchor is gone
            shown = await self._client.get(kind, {"metadata": about_user(anchor)})
            if shown is not None and belongs_to_anchor(shown, anchor):
                await self._objects.delete(kind, shown)
