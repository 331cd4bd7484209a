"""Reservations and catalogs to test with: say only what matters to the test."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import pytest

from consumer.catalog.codes import REASONS
from consumer.catalog.environment import EnvironmentSpec
from consumer.catalog.errors import Refused
from consumer.catalog.templates import Catalog
from schemas.events import Resource, User
from schemas.state import Phase, ReservationState

Value = TypeVar("Value")
Error = TypeVar("Error", bound=Exception)

START = datetime(2026, 3, 2, 8, tzinfo=UTC)
END = datetime(2026, 3, 2, 10, tzinfo=UTC)
MARIO = User(id="5f0c8a52", name="mario_rossi", email="mario.rossi@example.org")
GPU_SERVER = Resource(id="12", name="GPU Server 1", type="Linux container")


def reservation(parameters: Mapping[str, str] | None = None, **changes: Any) -> ReservationState:
    fields: dict[str, Any] = {
        "reservation_id": "1841",
        "phase": Phase.PENDING,
        "revision": "1",
        "start": START,
        "end": END,
        "user": MARIO,
        "resource": GPU_SERVER,
        "changed_at": START,
    }
    return ReservationState(**(fields | {"parameters": dict(parameters or {})} | changes))


def catalog(template: str, *, top: str = "") -> Catalog:
    """One template for every resource, in flow style: `runtime: docker, image: nginx` is there unless said."""
    keys = f"name: lab, {template}".rstrip(", ")
    for key, usual in (("runtime", "docker"), ("image", '"nginx:1.27"')):
        if f"{key}:" not in template:
            keys += f", {key}: {usual}"
    return Catalog.from_yaml(f"version: 1\n{top}\ntemplates:\n  - {{{keys}}}\n", instance="test")


def resolved(template: str = "", parameters: Mapping[str, str] | None = None, **changes: Any) -> EnvironmentSpec:
    return catalog(template).resolve(reservation(parameters, **changes))


def refusal(act: Callable[[], object]) -> Refused:
    """What `act` is refused with, after checking what is promised of every refusal."""
    with pytest.raises(Refused) as caught:
        act()
    return checked(caught.value)


def checked(refused: Refused) -> Refused:
    assert refused.code in REASONS
    assert refused.message.isprintable()
    assert len(refused.message) <= 400
    assert str(refused) == refused.message
    return refused


def attempt(act: Callable[[], Value], error: type[Error]) -> Value | Error:
    """What `act` returns, or the one kind of error it may raise."""
    try:
        return act()
    except error as raised:
        return raised
