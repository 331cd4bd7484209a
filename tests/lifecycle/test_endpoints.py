"""A service that runs tells over HTTP how it is, and what its environments use."""

import urllib.request
from datetime import UTC, datetime, timedelta
from urllib.error import HTTPError

import pytest

from tests.services import free_port
from tests.support.installation import Installation
from tests.support.kafka import Message
from tests.support.payloads import Booking
from tests.support.service import DoubleService
from tests.support.waiting import eventually

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]


def fetched(port: int, path: str) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return str(answer.read(), "utf-8")
    except HTTPError as error:
        return str(error.read(), "utf-8")


def test_a_service_tells_that_it_is_ready_and_what_runs(ours: Installation) -> None:
    port = free_port()
    booking = Booking("1841", end=datetime.now(UTC) + timedelta(hours=1))
    with ours.service(kind=DoubleService, MOORAGE_HTTP_PORT=str(port), MOORAGE_USAGE_INTERVAL="1") as service:
        service.wait_until_consuming()
        ours.publish(Message(booking.start_event(), booking.id.encode()))
        ours.settle()

        for path in ("/livez", "/readyz"):  # on a machine that stalls, not always at once
            eventually(lambda path=path: fetched(port, path) == "ok\n", what=f"{path} tells that all is well")
        line = 'moorage_environment_memory_bytes{environment="r-'
        eventually(lambda: line in fetched(port, "/metrics"), what="its environment is metered")
        assert "moorage_records_total 1.0" in fetched(port, "/metrics")

        ours.publish(Message(booking.end_event(), booking.id.encode()))
        ours.settle()
        eventually(lambda: line not in fetched(port, "/metrics"), what="it is forgotten")
        assert service.stop() == 0


def test_a_port_that_is_taken_is_a_clear_error(ours: Installation) -> None:
    port = free_port()
    with ours.service("one", kind=DoubleService, MOORAGE_HTTP_PORT=str(port)):
        second = ours.launch("two", kind=DoubleService, MOORAGE_HTTP_PORT=str(port))
        assert second.exit_code() == 1
        assert f"MOORAGE_HTTP_PORT cannot be opened: 127.0.0.1:{port}" in second.output()
