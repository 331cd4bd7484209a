"""Records larger than anything Moorage may publish: accounted for all the same, and the partition moves on."""

import hashlib
import json

import pytest

from tests.support.installation import Installation
from tests.support.kafka import Message
from tests.support.payloads import Booking
from tests.support.service import DoubleService

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(150)]


def test_what_fits_no_dead_letter_is_put_aside_by_size_and_hash(ours: Installation) -> None:
    ours.kafka.configure(ours.names.inbound, max_message_bytes=str(6 << 20))
    value, following = b"\xff" * (3 << 20), Booking("1841")
    (large,) = ours.publish(Message(value, b"key", (("origin", b"\x00\x01"),), partition=0))
    ours.publish(Message(following.start_event(), partition=0))
    with ours.service(kind=DoubleService) as service:
        ours.settle()
        assert service.stop() == 0
    (letter,) = ours.look().dead_letters
    assert json.loads(letter.value or b"") == {
        "tooLarge": True,
        "bytes": len(value),
        "sha256": hashlib.sha256(value).hexdigest(),
    }
    assert letter.key == b"key"
    assert letter.headers[0] == ("origin", b"\x00\x01")
    assert letter.header("moorage-dlt-error-code") == "too_large"
    assert letter.header("moorage-dlt-original-offset") == str(large.offset)
    assert ours.look().told(following.id) == (("EVENT_START", "provisioned", None),)
