"""What the API server's answers, and its silence, mean for a provisioning."""

import re
from collections.abc import Callable, Coroutine, Mapping
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from consumer.handling.errors import Permanent, ProvisionerError, Transient, Unavailable
from consumer.provisioners.text import shortened, without_paths

P = ParamSpec("P")
T = TypeVar("T")

_LONGEST_SAID = 200

_QUOTA = re.compile(r"exceeded quota|failed quota")
_QUOTA_WANTS = re.compile(r"failed quota: .*must specify")
_NOT_YET = re.compile(r"status unknown for quota|not yet ready to handle request")
_POD_SECURITY = re.compile(r"violates PodSecurity")
_WEBHOOK = re.compile(r"admission webhook|denied the request|ValidatingAdmissionPolicy|is forbidden: (?!User )")
_ESCALATION = re.compile(r"attempting to grant RBAC permissions not currently held")
_NO_ACCOUNT = re.compile(r"looking up service account")
_TERMINATING = re.compile(r"being terminated")
_NO_NAMESPACE = re.compile(r'namespaces "[^"]*" not found')
_PORT_TAKEN = re.compile(r"port is already allocated")


class Answer(Exception):
    """What only the one who asked can make a decision of. Does not leave this package."""


class Missing(Answer):
    """There is no such object."""


class Conflicting(Answer):
    """The name is taken, or the object is not what it was when it was looked at."""


class Expired(Answer):
    """The server has forgotten the changes since that version: list again."""


class Unauthorized(Answer):
    """The server does not know who asks: the login has run out, or was never good."""


class NamespaceGone(Unavailable):
    """There is no namespace to work in, or it is going."""


class NoNamespace(NamespaceGone):
    """There is none."""

    def __init__(self) -> None:
        super().__init__("The namespace that the Kubernetes runtime works in does not exist: create it.")


class NoSuchApi(Unavailable):
    """It has no such kind of objects, or is no API server at all."""

    def __init__(self) -> None:
        super().__init__("What answers is not the Kubernetes API.")


class NotAllowed(Unavailable):
    """The rules of the cluster do not let us do this."""


class NotYet(Transient):
    """The namespace is so new that the cluster has not got everything ready in it."""


def meaning_of(status: int, said: Mapping[str, Any], retry_after: float | None) -> ProvisionerError | Answer:
    """What an answer other than success means; `said` is the Status object that came with it, if any did."""
    message = str(said.get("message") or "")
    reason = str(said.get("reason") or "")
    match status:
        case 401:
            return Unauthorized(message)
        case 403:
            return _of_refusal(message)
        case 404 if _NO_NAMESPACE.search(message):
            return NoNamespace()
        case 404 if said.get("kind") == "Status":
            return Missing(message)
        case 409 if "object is being deleted" in message or reason in ("AlreadyExists", "Conflict"):
            return Conflicting(message)
        case 410:
            return Expired(message)
        case 429:
            return Transient("runtime_busy", "The Kubernetes API has too much to do now.", retry_after)
        case 404:
            return NoSuchApi()
        case 400 | 413 | 422 if said.get("kind") == "Status":
            return _of_invalid(message)
        case 502 | 503 | 504:
            return Unavailable("The Kubernetes API is not ready to answer.")
        case 500 if message.startswith("etcdserver:"):
            return Unavailable("The Kubernetes API cannot reach what it keeps everything in.")
        case status if status >= 500:
            return Transient("runtime_error", "The Kubernetes API failed at this request.", retry_after)
        case _:
            return Unavailable("What answers is not the Kubernetes API.")


def decided(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """`method`, with what is left of answers that nobody expected as a decision: it is tried again."""

    @wraps(method)
    async def deciding(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await method(*args, **kwargs)
        except Answer as answer:
            raise Transient("runtime_busy", "What the cluster has changed while Moorage was at work on it.") from answer

    return deciding


def refused(message: str) -> Permanent:
    return Permanent("invalid_spec", f"The cluster refuses this environment: {_short(message)}")


def _of_refusal(message: str) -> ProvisionerError:
    """403 is said by whoever may say no: quotas, admission, and the rules on who may do what."""
    if _NOT_YET.search(message):
        return NotYet("runtime_busy", "The cluster cannot tell yet whether it takes this environment.")
    if _QUOTA_WANTS.search(message):
        return refused(message)
    if _QUOTA.search(message):
        said = _short(message.partition(": ")[2] or message)
        return Transient("runtime_full", f"The namespace's quota has no room for this environment: {said}")
    if _POD_SECURITY.search(message):
        said = message.partition("violates PodSecurity")[2].strip(' "')
        return Permanent(
            "invalid_spec", f"The cluster's Pod Security does not allow what the template gives: {_short(said)}"
        )
    if _NO_ACCOUNT.search(message):
        return NotYet("runtime_error", "The namespace has no service account yet.")
    if _TERMINATING.search(message):
        return NamespaceGone("The namespace that the Kubernetes runtime works in is being deleted.")
    if _ESCALATION.search(message):
        return NotAllowed("Moorage cannot give users rights that it lacks itself: `moorage doctor` names them.")
    if _WEBHOOK.search(message):
        return refused(message)
    return NotAllowed(f"The cluster does not let Moorage do this: {_short(message)}")


def _of_invalid(message: str) -> ProvisionerError:
    if _PORT_TAKEN.search(message):
        return Transient("port_taken", "A port of the nodes that this environment needs is in use.")
    return refused(message)


def _short(message: str) -> str:
    return shortened(without_paths(message), _LONGEST_SAID)
