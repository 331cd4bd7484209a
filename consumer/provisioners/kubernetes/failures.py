"""Why a pod does not come up, as soon as it can be told. No I/O here."""

import re
from collections.abc import Mapping
from typing import Any

from consumer.catalog.environment import EnvironmentSpec
from consumer.handling.errors import Permanent, ProvisionerError, Transient
from consumer.handling.ports import Status
from consumer.provisioners.kubernetes.kinds import Object, is_dying
from consumer.provisioners.kubernetes.logins import secret_name
from consumer.provisioners.kubernetes.pods import image_of
from consumer.provisioners.kubernetes.sights import container_state, status_of
from consumer.provisioners.refusals import denied, limited, not_found
from consumer.provisioners.text import shortened, without_paths

_PULLING = ("ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ImageInspectError", "SignatureValidationFailed")
_MADE_TO_END = (
    "Evicted",
    "Preempting",
    "Preempted",
    "Terminated",
    "NodeShutdown",
    "NodeLost",
    "UnexpectedAdmissionError",
)
_ROOT = re.compile(r"runAsNonRoot|non-numeric user|run as root", re.IGNORECASE)
_NOT_FOUND = re.compile(r"not found|manifest unknown|name unknown|no match for platform|does not exist", re.IGNORECASE)
_DENIED = re.compile(r"denied|unauthorized|authentication required|forbidden|no basic auth", re.IGNORECASE)
_LIMITED = re.compile(r"toomanyrequests|too many requests|rate limit|\b429\b", re.IGNORECASE)
_DIGEST = re.compile(r"sha256:[0-9a-f]+")
_MISCONFIGURED = re.compile(r"couldn't find key|invalid (?:environment )?variable")
_NOT_STARTABLE = re.compile(
    r"executable file not found|no such file or directory|permission denied|exec format error|is a directory"
    r"|not a directory|no command specified|unable to find user|no users found"
)
_LONGEST_SAID = 160


def failure_of(spec: EnvironmentSpec, pod: Object) -> ProvisionerError | None:
    """What keeps the pod from coming up and will not pass by itself; None while there is hope.

    A program that ran and ended is none of these: what it said last belongs to the reason.
    """
    if is_dying(pod):
        return Transient("runtime_busy", "The pod was deleted while it was being started.")
    status = pod.get("status", {})
    state = container_state(pod)
    if (waiting := state.get("waiting")) is not None:
        said = waiting.get("message") or ""
        return _of_waiting(spec, waiting.get("reason") or "", said, with_login=has_login(spec, pod))
    if status_of(pod) is Status.STOPPED and "terminated" not in state:
        reason, said = status.get("reason") or "", _short(status.get("message") or "")
        if reason.startswith("OutOf"):
            return Transient("runtime_full", f"The pod's node has no room: {said}")
        if reason == "DeadlineExceeded":
            return Permanent("invalid_spec", "The pod took longer to start than the cluster lets any pod live.")
        return Transient("runtime_error", f"The cluster gave the pod up ({reason or 'no reason told'}). {said}".strip())
    return None


def has_login(spec: EnvironmentSpec, pod: Object) -> bool:
    """Whether its node is to pull with a login of ours."""
    return {"name": secret_name(spec.name)} in (pod["spec"].get("imagePullSecrets") or ())


def ended_by_cluster(pod: Object) -> bool:
    """Whether its program ended because the pod had to go: evicted, or its node was shut down."""
    return pod.get("status", {}).get("reason") in _MADE_TO_END


def not_startable(said: str) -> ProvisionerError:
    """The node's engine could not start the program, and says so at length: for want of time or space, perhaps."""
    if (found := _NOT_STARTABLE.search(said)) is None:
        return Transient("runtime_error", f"The node could not start the container: {_short(said)}")
    return Permanent("exited_at_start", f"The image cannot run this command: {found[0]}.")


def unscheduled(pod: Object) -> str | None:
    """Why no node takes the pod, in the scheduler's words; None when one does, or nobody has tried yet."""
    for condition in pod.get("status", {}).get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return _short(condition.get("message") or condition.get("reason") or "")
    return None


def is_ready(pod: Object) -> bool:
    conditions: list[Mapping[str, Any]] = pod.get("status", {}).get("conditions") or []
    return any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions)


def _of_waiting(spec: EnvironmentSpec, reason: str, said: str, *, with_login: bool) -> ProvisionerError | None:
    name = shortened(image_of(spec), 120)
    match reason:
        case "InvalidImageName":
            return Permanent("invalid_spec", f"{name} is not a valid image name.")
        case "ErrImageNeverPull":
            return Permanent("image_not_present", f"The image {name} is not at hand on the pod's node.")
        case reason if reason in _PULLING:
            said = said.replace(image_of(spec), "").replace(spec.image, "")
            return _of_pull(name, said, reason, with_login=with_login)
        case "CreateContainerConfigError" if _ROOT.search(said):
            return Permanent(
                "image_runs_as_root", "The image runs as root: only a user other than root, by number, may run."
            )
        case "CreateContainerConfigError" if "not found" in said:
            return Transient("runtime_error", f"Something that the pod needs is not there: {_short(said)}")
        case "CreateContainerConfigError" if _MISCONFIGURED.search(said):
            return Permanent("invalid_spec", f"The node cannot make this container: {_short(said)}")
        case "CreateContainerError" | "RunContainerError" | "PreCreateHookError" | "PostStartHookError":
            return not_startable(said)
    return None


def _of_pull(name: str, said: str, reason: str, *, with_login: bool) -> ProvisionerError:
    """A registry's refusal, in the words of whatever engine the node has."""
    if _LIMITED.search(_DIGEST.sub("", said)):
        return limited(name)
    if _DENIED.search(said):
        return denied(name, with_login=with_login)
    if _NOT_FOUND.search(said):
        return not_found(name)
    return Transient("image_pull_failed", f"The image {name} could not be pulled ({reason}).")


def _short(said: str) -> str:
    return shortened(without_paths(said), _LONGEST_SAID)
