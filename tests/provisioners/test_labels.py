"""What is read back from labels, which anybody may have written."""

from datetime import UTC, datetime

import pytest

from consumer.provisioners.labels import moment_of

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2030-01-01T12:00:00+00:00", NOON),
        ("2030-01-01T13:00:00+01:00", NOON),
        ("2030-01-01T12:00:00", NOON),
        ("2030-01-01", NOON.replace(hour=0)),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_a_time_without_an_offset_is_of_utc_and_no_time_is_none(text: str | None, moment: datetime | None) -> None:
    read = moment_of(text)

    assert read == moment
    assert read is None or read.tzinfo is not None
