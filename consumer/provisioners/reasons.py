"""Every code a provisioner fails with, in one line each: docs and tests are made from this."""

from collections.abc import Mapping
from types import MappingProxyType

REASONS: Mapping[str, str] = MappingProxyType(
    {
        "conflict": "The environment's name or reservation is taken by something else, which was left alone.",
        "invalid_spec": "The runtime cannot make an environment with these settings, now or later.",
        "limit_not_enforceable": "The runtime cannot enforce a limit that the template insists on.",
        "device_not_available": "The runtime has no driver for a GPU or device of the template, or no such device.",
        "ssh_key_not_installed": "The template insists on the user's SSH key, and the image has no place for it.",
        "exited_at_start": "The environment's program could not be started, or ended as soon as it was.",
        "not_started": "The cluster did not bring the environment up in time; the message has what it warned of.",
        "route_refused": "The cluster cannot lead people to the environment in the way that its template says.",
        "not_ready": "The environment ran, but what its template asks for did not answer in time.",
        "image_runs_as_root": "The template wants a user other than root, and the image names root or nobody certain.",
        "image_not_found": "The registry has no such image, or none for this machine's architecture.",
        "image_not_present": "The runtime does not have the image, and the template says never to pull it.",
        "image_pull_denied": "The registry does not hand out the image without a login, or has no such image.",
        "image_pull_failed": "The image could not be fetched this time; it is tried again.",
        "port_taken": "A host port that was asked for is in use; it is tried again.",
        "runtime_busy": "Something else works on this environment and did not finish in time; it is tried again.",
        "runtime_full": "The runtime is out of disk space, memory, processes or files; it is tried again.",
        "runtime_error": "The runtime failed at this request; it is tried again.",
        "runtime_unavailable": "The runtime does not answer; all its work waits until it does.",
    }
)
