"""The API server as we use it: few verbs on raw objects, every failure already a decision."""

import asyncio
import builtins
import json
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from consumer.handling.errors import Unavailable
from consumer.provisioners.kubernetes.connection import Connection
from consumer.provisioners.kubernetes.errors import Answer, Expired, Missing, NoNamespace, Unauthorized, meaning_of
from consumer.provisioners.kubernetes.kinds import (
    EVENT,
    POD,
    SERVICE_ACCOUNT,
    Kind,
    Object,
    is_dying,
    namespace_of,
    uid_of,
)
from consumer.provisioners.kubernetes.options import KubernetesOptions
from consumer.provisioners.kubernetes.pacing import Pace
from consumer.provisioners.kubernetes.pods import CONTAINER

_PAGE = 500
_APPLY = "application/apply-patch+yaml"
_WATCH_SECONDS = 240
_LATE = 15.0
"""Seconds that the end of a watch may be late before nobody is believed to be there."""

_TURNED_AWAY = 5
"""How often a request is asked again that the server had no time for."""

_LONGEST_WAIT = 30.0
_PATIENCE = 1.0


class Client:
    """Asks for objects. Everything may raise `Transient`, `Permanent` or `Unavailable`.

    Where an object is meant, it is the one of that namespace and name. Lists and watches are of a namespace, or with
    None of all that are called as the options say, or so with a dash and more: others are other installations'.

    What the server turned away for having too much to do (429) is asked again when it says, a few times.
    """

    def __init__(self, options: KubernetesOptions) -> None:
        self._options = options
        self._connection = Connection(options)
        self._pace = Pace(options.requests_per_second, 2 * options.requests_per_second)

    @property
    def runtime(self) -> str:
        """What the cluster is called."""
        return self._options.name

    @property
    def server(self) -> str:
        return self._connection.server

    @property
    def in_cluster(self) -> bool:
        return self._connection.in_cluster

    async def authority(self) -> bytes | None:
        """The certificates that the server is known by; None for those that every machine trusts."""
        try:
            return await self._connection.authority()
        except OSError as error:
            raise Unavailable("The certificates of the cluster cannot be read.") from error

    async def token(self, account: Object, seconds: int) -> tuple[str, int]:
        """A token of a service account, and the seconds that it holds for. Raises `Missing`."""
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": seconds},
        }
        shown = await self.ask("POST", f"{SERVICE_ACCOUNT.path_of(account)}/token", body=body)
        return str(shown["status"]["token"]), int(shown["spec"]["expirationSeconds"])

    async def get(self, kind: Kind, shown: Object) -> Object | None:
        """What there is now where `shown` is, or would be."""
        try:
            return await self.ask("GET", kind.path_of(shown))
        except (Missing, NoNamespace):
            return None

    async def list(self, kind: Kind, selector: str, namespace: str | None) -> builtins.list[Object]:
        """The objects with these labels."""
        return (await self.snapshot(kind, selector, namespace))[0]

    async def snapshot(self, kind: Kind, selector: str, namespace: str | None) -> tuple[builtins.list[Object], str]:
        """The same, and the version of the whole, from which a watch goes on."""
        found: builtins.list[Object] = []
        query = {"labelSelector": selector, "limit": str(_PAGE)}
        while True:
            try:
                page = await self.ask("GET", kind.path(namespace), query=query)
            except Expired:
                if query.pop("continue", None) is None:
                    raise
                found = []  # too slow: the server has forgotten the rest of what it began to tell
                continue
            found += (each for each in page.get("items") or () if namespace is not None or self._is_in_scope(each))
            about = page["metadata"]
            if not about.get("continue"):
                return found, str(about["resourceVersion"])
            query["continue"] = about["continue"]

    async def create(self, kind: Kind, body: Object) -> Object:
        """Raises `Conflicting` when the name is taken."""
        return await self.ask("POST", kind.path(body["metadata"].get("namespace")), body=body)

    async def patch(self, kind: Kind, shown: Object, body: Object) -> Object:
        """Raises `Missing`."""
        return await self.ask("PATCH", kind.path_of(shown), body=body)

    async def apply(self, kind: Kind, body: Object) -> Object:
        """Make an object, or have it be as `body` says in all that `body` or the last of these said.

        Nothing is written where nothing differs. Raises `Conflicting` when somebody else does so at this moment.
        """
        query = {"fieldManager": "moorage", "force": "true"}
        return await self.ask("PATCH", kind.path_of(body), query=query, body=body, content_type=_APPLY)

    async def delete(self, kind: Kind, shown: Object) -> bool:
        """Have this very object deleted.

        True when it is gone already: what only will be says when. Raises `Missing`, and `Conflicting` when another one
        has its name.
        """
        body = {"preconditions": {"uid": uid_of(shown)}, "propagationPolicy": "Background"}
        answer = await self.ask("DELETE", kind.path_of(shown), body=body)
        return answer["kind"] == "Status" or not is_dying(answer)

    async def delete_all(self, kind: Kind, selector: str, namespace: str) -> builtins.list[Object]:
        """Have all objects with these labels deleted; what each was like before. Some may only be gone later."""
        query, body = {"labelSelector": selector}, {"propagationPolicy": "Background"}
        shown = await self.ask("DELETE", kind.path(namespace), query=query, body=body)
        return [*(shown.get("items") or ())]

    async def events(self, shown: Object) -> Sequence[Object]:
        """What the cluster tells of an object, the latest last."""
        query = {"fieldSelector": f"involvedObject.uid={uid_of(shown)}"}
        page = await self.ask("GET", EVENT.path(namespace_of(shown)), query=query)
        return page.get("items") or ()

    async def log(self, pod: Object, lines: int) -> str:
        """The last lines that the program of the pod's container wrote."""
        path = f"{POD.path_of(pod)}/log"
        query = {"container": CONTAINER, "tailLines": str(lines), "limitBytes": "65536"}
        async with self._request("GET", path, query=query) as response:
            return (await response.read()).decode("utf-8", "replace")

    async def version(self) -> str:
        async with self._request("GET", "/version") as response:
            return str(json.loads(await response.read())["gitVersion"])

    async def account(self) -> str:
        """The name that the API server knows us by."""
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        shown = await self.ask("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body=review)
        return str(shown["status"]["userInfo"]["username"])

    async def may(self, verb: str, group: str, resource: str, namespace: str | None, name: str = "") -> bool:
        """Whether we are allowed to do this in the namespace; in all of them, with None."""
        plural, _, part = resource.partition("/")
        about = {"namespace": namespace or "", "verb": verb, "group": group, "resource": plural, "name": name}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": about | ({"subresource": part} if part else {})},
        }
        shown = await self.ask("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body=review)
        return bool((shown.get("status") or {}).get("allowed"))

    async def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content_type: str | None = None,
    ) -> dict[str, Any]:
        """The object that is answered. Raises an `Answer` where the server says no."""
        async with self._request(method, path, query=query, body=body, content_type=content_type) as response:
            shown: dict[str, Any] = json.loads(await response.read())
            if not shown["kind"] or not isinstance(shown.get("items") or [], list):
                raise ValueError("no object of the API")
            return shown

    async def watch(
        self, kind: Kind, selector: str, since: str, namespace: str | None
    ) -> AsyncIterator[tuple[str, Object]]:
        """Changes since that version: ADDED, MODIFIED, DELETED or BOOKMARK, each with the object, until the server
        has had enough. Raises `Expired` when it has forgotten them."""
        query = {
            "labelSelector": selector,
            "resourceVersion": since,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(_WATCH_SECONDS),
        }
        async with self._request("GET", kind.path(namespace), query=query, silence=_WATCH_SECONDS + _LATE) as response:
            async for line in response.content:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    meaning = meaning_of(int(event["object"].get("code") or 500), event["object"], None)
                    raise meaning if isinstance(meaning, Expired) or not isinstance(meaning, Answer) else Expired()
                if namespace is not None or self._is_in_scope(event["object"]):
                    yield event["type"], event["object"]

    def _is_in_scope(self, shown: Object) -> bool:
        """Whether it is where environments may be, or in no namespace at all."""
        at, ours = shown["metadata"].get("namespace"), self._options.namespace
        return at is None or at == ours or at.startswith(f"{ours}-")

    async def close(self) -> None:
        await self._connection.close()

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content_type: str | None = None,
        silence: float | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A response that is a success. With `silence` it may go on for ever, if it is never quiet for that long."""
        limit = self._options.request_timeout
        timeout = (
            aiohttp.ClientTimeout(total=limit)
            if silence is None
            else aiohttp.ClientTimeout(connect=limit, sock_connect=limit, sock_read=silence)
        )
        try:
            response = await self._answered(method, path, query, body, content_type or _content_type(method), timeout)
            try:
                yield response
            finally:
                response.close() if silence is not None else response.release()
        except (TimeoutError, asyncio.IncompleteReadError) as error:
            raise Unavailable("The Kubernetes API does not answer in time.") from error
        except (aiohttp.ClientSSLError, ssl.SSLError) as error:
            raise Unavailable("The Kubernetes API and Moorage do not accept each other's certificates.") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable("The Kubernetes API cannot be reached.") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Unavailable("What answers is not the Kubernetes API.") from error

    async def _answered(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Object | None,
        content_type: str,
        timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        turned_away, logged_in_again = 0, False
        while True:
            await self._pace.turn()
            api, login = await self._connection.api(), self._connection.login
            response: aiohttp.ClientResponse = await api.call_api(
                path,
                method,
                query_params=list((query or {}).items()),
                header_params={"Accept": "application/json", "Content-Type": content_type},
                body=body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _request_timeout=timeout,
            )
            if 200 <= response.status <= 299:
                return response
            meaning = meaning_of(response.status, await _said(response), _retry_after(response))
            if isinstance(meaning, Unauthorized):
                if logged_in_again or not await self._connection.log_in_again(login):
                    raise Unavailable("The Kubernetes API does not accept Moorage's login.")
                logged_in_again = True
                continue
            if response.status != 429 or turned_away == _TURNED_AWAY:
                raise meaning
            turned_away += 1
            await asyncio.sleep(min(_retry_after(response) or _PATIENCE, _LONGEST_WAIT))


def _content_type(method: str) -> str:
    return "application/merge-patch+json" if method == "PATCH" else "application/json"


async def _said(response: aiohttp.ClientResponse) -> Mapping[str, Any]:
    """The Status object of an answer; empty when it is none."""
    try:
        said = json.loads(await response.read())
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else None
