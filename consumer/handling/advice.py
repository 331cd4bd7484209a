"""What the user of a reservation can do when something is not as it should be, by reason code.

Refusals need none: their messages end with it.
"""

from consumer.catalog.wording import clipped
from schemas.outbound import Result

_ASK = "Ask whoever runs this service for help, and name reservation {reservation}."
_LATER = "Book again later, or ask whoever runs this service and name reservation {reservation}."
_YOURS = "If you chose the image or its settings, check them. If not, ask whoever runs this service."

ADVICE = {
    # skipped, released
    "already_over": "Book again if you still need it.",
    "ended_by_update": "Book again if you still need it.",
    "postponed": "You get a new one at {start}.",
    "lost": "Book again to have a new one, or ask whoever runs this service and name reservation {reservation}.",
    "ended": "Book again to have a new one. If you did not end it, ask whoever runs this service.",
    "out_of_memory": "Book again and ask for more memory, or run what needs less.",
    # failed
    "start_timeout": _LATER,
    "release_timeout": _LATER,
    "look_timeout": _LATER,
    "resource_busy": _LATER,
    "runtime_not_configured": _ASK,
    "conflict": _ASK,
    "invalid_spec": _YOURS,
    "exited_at_start": _YOURS,
    "not_started": _LATER,
    "not_ready": _YOURS,
    "route_refused": _ASK,
    "image_runs_as_root": _ASK,
    "limit_not_enforceable": _ASK,
    "device_not_available": _ASK,
    "ssh_key_not_installed": _ASK,
    "image_not_found": "If you chose the image, check its name. If not, ask whoever runs this service.",
    "image_not_present": _ASK,
    "image_pull_denied": _ASK,
    "image_pull_failed": _LATER,
    "port_taken": "If you chose the host port, leave it out or take another. If not, book again later.",
    "runtime_busy": _LATER,
    "runtime_full": _LATER,
    "runtime_error": _LATER,
    "runtime_unavailable": _LATER,
}


def advice_for(result: Result, start: str) -> str:
    """A sentence for the user, or nothing. `start` is when the reservation starts, in words."""
    if result.reason is None:
        return ""
    advice = ADVICE.get(result.reason.code, "")
    return advice.replace("{reservation}", clipped(result.event_id, 40)).replace("{start}", start)
