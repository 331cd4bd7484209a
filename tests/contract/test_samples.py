"""Every shape the platform sends, and exactly what each comes to."""

from datetime import UTC, datetime
from typing import Any

import pytest

from schemas.events import EventKind, InboundEvent, Ping, ReservationEvent, Resource, ResourceEvent, User
from schemas.examples import sample
from schemas.inbound import decode

USER_ID = "5f0c8a52-6d5e-4c0e-9a55-6f1f0a4d2b11"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIN4nvTtw3tEjf9D1JkZPnTsikTngiOf6QgRYrkGcgdzC mario@laptop"
SITE = "0a8a1b1e-58d1-4a57-9b0d-b5a3c4b6b001"
MARIO = User(USER_ID, "mario_rossi", "mario.rossi@example.org")
GPU_SERVER = Resource("12", "GPU Server 1", "Linux container", "2 vCPU, 4 GiB", "Rack 4", SITE)
PORT = Resource("13", "Hu1/0/1", "Linux container")


def at(hour: int, minute: int = 0, second: int = 0, microsecond: int = 0, **day: int) -> datetime:
    return datetime(2026, 3, 2, hour, minute, second, microsecond, UTC).replace(**day)  # type: ignore[arg-type]


def event(**fields: Any) -> ReservationEvent:
    usual: dict[str, Any] = {"start": at(8), "end": at(10), "webhook_id": "7", "title": "Lab 3 – web servers"}
    return ReservationEvent(**(usual | fields))


EXPECTED: dict[str, tuple[InboundEvent, ...]] = {
    "event_start": (
        event(
            kind=EventKind.START,
            reservation_id="1841",
            occurred_at=at(7, 55, 7, 563140),
            user=User(USER_ID, "mario_rossi", "mario.rossi@example.org", KEY),
            resource=Resource("12", "GPU Server 1", "Linux container", "2 vCPU, 4 GiB", "Rack 4", SITE, "Torino"),
            parameters={
                "image": "nginx:1.27",
                "CPU limit": "500m",
                "Memory limit": "256Mi",
                "ports": "8080:80, 2222:22",
                "environment": "COURSE=net-lab,GROUP=3",
            },
        ),
    ),
    "event_start_sparse": (
        event(
            kind=EventKind.START,
            reservation_id="1842",
            occurred_at=at(7, 55, 7),
            end=at(10, 0, 0, 123456),
            user=User(USER_ID),
            resource=PORT,
            title="Lab 3",
        ),
    ),
    "event_end": (
        event(
            kind=EventKind.END,
            reservation_id="1841",
            occurred_at=at(10, 0, 12, 101000),
            user=MARIO,
            resource=Resource("12", "GPU Server 1", "Linux container", site_id=SITE),
            parameters={"image": "nginx:1.27"},
        ),
    ),
    "event_updated": (
        event(
            kind=EventKind.UPDATED,
            reservation_id="1841",
            occurred_at=at(9, 10, 0, 123000),
            end=at(12),
            user=User(USER_ID),
            resource=GPU_SERVER,
            parameters={"image": "nginx:1.27"},
            updated_at=at(9, 9, 59, 871000),
        ),
    ),
    "event_deleted": (
        event(
            kind=EventKind.DELETED,
            reservation_id="1841",
            occurred_at=at(9, 40, 0, 500000),
            user=User(USER_ID),
            resource=GPU_SERVER,
            updated_at=at(10, month=2, day=20),
        ),
    ),
    "batch_start": (
        event(
            kind=EventKind.START,
            reservation_id="1843",
            occurred_at=at(7, 55, 7),
            user=User(USER_ID, "mario_rossi", "mario.rossi@example.org", KEY),
            resource=Resource("12", "GPU Server 1", "Linux container", site_id=SITE),
            title="a",
        ),
        event(
            kind=EventKind.START,
            reservation_id="1844",
            occurred_at=at(7, 55, 7),
            end=at(9),
            user=User(USER_ID, "mario_rossi", "mario.rossi@example.org", KEY),
            resource=Resource("13", "Hu1/0/1", "Linux container", site_id=SITE),
            title="b",
        ),
    ),
    "resource_deleted": (ResourceEvent("RESOURCE_DELETED", at(12), GPU_SERVER, "7"),),
    "ping": (Ping(at(7), "7"),),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_every_sample_comes_to_exactly_this(name: str) -> None:
    assert decode(sample(name)) == EXPECTED[name]


def test_only_a_deleted_resource_counts_as_deleted() -> None:
    kinds = ["RESOURCE_DELETED", "RESOURCE_CREATED", "RESOURCE_UPDATED"]
    assert [ResourceEvent(kind, at(8), PORT).deleted for kind in kinds] == [True, False, False]
