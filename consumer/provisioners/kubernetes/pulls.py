"""How a node fetches a pod's image, as its kubelet tells in events: how long, and with what login. No I/O here."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from consumer.provisioners.kubernetes.kinds import Object
from consumer.provisioners.kubernetes.sights import container_state

_NOTABLE = 2.0
"""Seconds: times in a pod's status are whole ones, and what takes less is not worth a question."""

_TOOK = re.compile(r"Successfully pulled image .* in (\S+?)(?: \((\S+) including waiting\))?\.?(?: Image size|$)")
_DURATION = re.compile(r"(?:(?P<h>[\d.]+)h)?(?:(?P<m>[\d.]+)m(?!s))?(?:(?P<s>[\d.]+)s)?(?:(?P<ms>[\d.]+)ms)?")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3}


def took_long(pod: Object) -> bool:
    """Whether so much time went by between its node's taking a pod and its program's start that a pull may be in it."""
    taken, began = pod.get("status", {}).get("startTime"), container_state(pod).get("running", {}).get("startedAt")
    if not taken or not began:
        return False
    return (datetime.fromisoformat(began) - datetime.fromisoformat(taken)).total_seconds() >= _NOTABLE


def is_pulling(events: Sequence[Mapping[str, Any]]) -> bool:
    """Whether an image is being fetched now, of the events of a pod in any order."""
    told = [each for each in events if each.get("reason") in ("Pulling", "Pulled", "Failed", "BackOff")]
    return bool(told) and max(told, key=_when).get("reason") == "Pulling"


def seconds_of_pulls(events: Sequence[Mapping[str, Any]]) -> float:
    """How long images were fetched, waiting for other pulls included; 0 where nothing was, or nobody tells."""
    found = [_TOOK.search(each.get("message") or "") for each in events if each.get("reason") == "Pulled"]
    return sum(_seconds(took[2] or took[1]) for took in found if took is not None)


def lacked_login(events: Sequence[Mapping[str, Any]], secret: str) -> bool:
    """Whether every pull that failed so far may have been without the login in a secret.

    A node that cannot read it in time, since it has only just got the pod, pulls without, and again some seconds later.
    """
    without = _count(events, "FailedToRetrieveImagePullSecret", secret)
    return 0 < without >= _count(events, "Failed", "Failed to pull image")


def _count(events: Sequence[Mapping[str, Any]], reason: str, words: str) -> int:
    told = [each for each in events if each.get("reason") == reason and words in (each.get("message") or "")]
    return sum(each.get("count") or 1 for each in told)


def _when(event: Mapping[str, Any]) -> tuple[str, int]:
    about = event.get("metadata") or {}
    when = event.get("lastTimestamp") or event.get("eventTime") or about.get("creationTimestamp") or ""
    return when, int(about.get("resourceVersion") or 0)


def _seconds(duration: str) -> float:
    """Of a duration as Go writes it: `1m2.5s`, `350ms`."""
    read = _DURATION.fullmatch(duration)
    return sum(float(text) * _SECONDS[unit] for unit, text in read.groupdict().items() if text) if read else 0.0
