"""Write every reason code, with its meaning and what to do, into a reference page: `python -m tools.reasons`."""

from collections.abc import Mapping
from pathlib import Path

from consumer.catalog import codes
from consumer.handling import lifecycle, sealed
from consumer.provisioners import reasons
from consumer.reservations import REASONS as RESERVATION_REASONS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "reasons.md"

UNREADABLE: Mapping[str, str] = {
    "empty": "The record has no value, or a blank one.",
    "too_large": "The record has more bytes than allowed; it was not looked at.",
    "not_json": "The record is not UTF-8 JSON.",
    "not_an_object": "The record is JSON, but not an object.",
    "unknown_event_type": "The record's `eventType` is none that Moorage knows.",
    "invalid_field": "A field is missing or cannot be read; the message names it.",
}

OURS: Mapping[str, str] = {
    "internal_error": "Handling the record met a defect of Moorage; nothing else was told.",
}

REMEDIES: Mapping[str, str] = {
    # skipped, released
    "already_ended": "Nothing. To run again, book again: an ended reservation stays ended.",
    "already_over": "Nothing for this reservation. If it happens often, look at the consumer's lag.",
    "too_early": "Nothing: it runs when its start comes.",
    "stale_update": "Nothing: the newer version holds.",
    "remembered": "Nothing: it runs when its start comes.",
    "nothing_to_release": "Nothing.",
    "ended_by_update": "Nothing. A later version with an end in the future makes it run again.",
    "postponed": "Nothing: it runs when its new start comes.",
    "moved": "Nothing: the new environment has a result of its own.",
    "ended_while_starting": "Nothing: whatever was made of it is removed.",
    "expired": "Nothing. If it happens often, ask the platform why its END events do not arrive.",
    "ended": "User: see what it did; `restart: always` in the template would make it again.",
    "out_of_memory": "User: ask for more memory. Operator: raise the template's limit or maximum.",
    "lost": "Operator: see who or what removed it. With `restart: always` in the template it is made again.",
    # failed: refused
    "no_template": "Operator: add a template whose `match` fits the resource's type.",
    "override_not_allowed": "User: leave the parameter out. Operator: list it in `overrides`.",
    "parameter_ambiguous": "User: leave one of the two labels out.",
    "image_invalid": "User: correct the image's name.",
    "image_not_allowed": "User: ask for one of those in the message. Operator: extend `images.allow`.",
    "quantity_invalid": "User: write it as `500m`, `2`, `256Mi` (see [parameters](parameters.md)).",
    "limit_above_maximum": "User: ask for less. Operator: raise `maximum`.",
    "limit_below_minimum": "User: ask for more. Operator: lower `minimum`.",
    "ports_invalid": "User: correct the list, as in `8080:80, 53/udp`.",
    "host_port_not_allowed": "User: leave the host port out, or take one from the range in the message.",
    "ssh_key_missing": "User: add a public key to your profile, then book again. Operator: `ssh_key: optional`.",
    "ssh_key_invalid": "User: correct the public key in your profile, then book again.",
    "quota_exceeded": "User: end another reservation, or ask for less. Operator: raise the quota, or let it `queue`.",
    "no_capacity": "User: try again later. Operator: raise `capacity`, add an engine, or let it `queue`.",
    "environment_invalid": "User: correct the variables, as in `NAME=value,OTHER=value`.",
    # failed: could not be done
    "start_timeout": "Operator: see why it takes so long (image size, load), or raise `start_timeout`; then replay.",
    "release_timeout": "Operator: see what the runtime is doing; replay the dead letter to remove what is left.",
    "look_timeout": "Operator: see why the runtime is slow; then replay.",
    "runtime_not_configured": "Operator: configure the runtime, or name another in the template; then replay.",
    "resource_busy": "Operator: see why the environment before was not gone in time; then replay.",
    "conflict": "Operator: rename or remove what has the name; then replay.",
    "invalid_spec": "Operator: correct the template; the message has the runtime's words. Then replay.",
    "limit_not_enforceable": "Operator: use a storage driver that can, or `on_unenforceable: warn`; then replay.",
    "device_not_available": "Operator: install the device's driver for containers on the host; then replay.",
    "ssh_key_not_installed": "Operator: make the account in the image, or give `ssh_home` and `ssh_owner`; replay.",
    "exited_at_start": "Operator: run the image by hand with the template's command; the message has its last words.",
    "not_started": "Operator: see `kubectl describe pod` while it starts, or raise `start_timeout`; then replay.",
    "route_refused": "Operator: see `moorage doctor`, correct the template, its Gateway or the Role; then replay.",
    "not_ready": "Operator: see what the program says (the message has its last words), or raise `ready.within`.",
    "image_runs_as_root": "User: ask for an image whose user is a number above 0. Operator: give one, `user: 1000`.",
    "image_not_found": "User: ask for another image. Operator: correct the template, or push the image; then replay.",
    "image_not_present": "Operator: put the image onto the runtime, or change `pull` in the template; then replay.",
    "image_pull_denied": "Operator: check the name, and the login in `MOORAGE_REGISTRY_CREDENTIALS`; then replay.",
    "image_pull_failed": "Operator: check the registry and the way to it; then replay.",
    "port_taken": "User: leave the host port out. Operator: free it; then replay.",
    "runtime_busy": "Operator: see what else works on the environment; then replay.",
    "runtime_full": "Operator: make room on the runtime's host; then replay.",
    "runtime_error": "Operator: look at the runtime's own log; then replay.",
    "runtime_unavailable": "Operator: start the runtime, or make it reachable. Its work goes on by itself.",
    # dead letters only
    "empty": "Publisher: send the event as JSON; tombstones mean nothing on this topic.",
    "too_large": "Publisher: send fewer reservations at a time. Operator: raise `MOORAGE_MAX_RECORD_BYTES`.",
    "not_json": "Publisher: send UTF-8 JSON.",
    "not_an_object": "Publisher: send one event as one object.",
    "unknown_event_type": "Publisher: send reservation events only (see [events](events.md)).",
    "invalid_field": "Publisher: correct the field, then publish again.",
    "state_from_newer_version": "Operator: upgrade all members, then replay.",
    "state_unreadable": "Operator: mend its record in the state topic, or publish a tombstone; restart, then replay.",
    "internal_error": "Operator: report it with the log's `handling_failed`; replay with a version that mends it.",
}

_INTRODUCTION = """# Reasons

Why something was skipped, released early or failed: the `reason.code` of results, `metadata.reason` of notifications
and the header `moorage-dlt-error-code` of dead letters. Codes are for machines and keep their meaning; the message
beside them is for people, says more, and may change.

This page is made from the code by `python -m tools.reasons`.
"""

_SECTIONS: tuple[tuple[str, str, Mapping[str, str]], ...] = (
    (
        "Decided by the reservation",
        "In `skipped` and `released` results. Nothing is wrong.",
        RESERVATION_REASONS,
    ),
    (
        "Refused by the template",
        (
            "In `failed` results, with a notification that says what to change. There is no dead letter: the same\n"
            "again comes to the same, until something else has changed."
        ),
        codes.REASONS,
    ),
    (
        "Could not be done",
        (
            "In `failed` results, with a notification, and in a dead letter that can be replayed. What came up half\n"
            "was removed. A release that failed notifies nobody. A repeated START or END that fails is a dead letter\n"
            "alone: what was told before still stands."
        ),
        {**lifecycle.REASONS, **reasons.REASONS},
    ),
    (
        "Could not be read, or not be handled",
        "In dead letters alone.",
        {**UNREADABLE, **sealed.REASONS, **OURS},
    ),
)


def documented() -> frozenset[str]:
    """Every code on the page."""
    return frozenset(code for *_, meanings in _SECTIONS for code in meanings)


def page() -> str:
    """The whole page."""
    return "\n".join((_INTRODUCTION, *(_section(*section) for section in _SECTIONS)))


def _section(title: str, where: str, meanings: Mapping[str, str]) -> str:
    rows = (f"| `{code}` | {meaning} | {REMEDIES[code]} |" for code, meaning in meanings.items())
    return "\n".join((f"## {title}\n", f"{where}\n", "| code | means | what to do |", "| --- | --- | --- |", *rows, ""))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
