from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.timestamps import format_timestamp, parse_timestamp
from tests.contract.payloads import moments, offsets

WHOLE = datetime(2026, 3, 2, 8, 0, 0, tzinfo=UTC)


@given(digits=st.text("0123456789", max_size=9))
def test_any_fraction_of_up_to_nine_digits_is_cut_to_microseconds(digits: str) -> None:
    fraction = f".{digits}" if digits else ""
    expected = WHOLE + timedelta(microseconds=int(digits.ljust(9, "0")[:6]))
    assert parse_timestamp(f"2026-03-02T08:00:00{fraction}Z") == expected


@given(moment=moments, offset=offsets)
def test_the_same_moment_is_read_from_every_offset(moment: datetime, offset: timezone) -> None:
    assert parse_timestamp(moment.astimezone(offset).isoformat()) == moment


@given(moment=moments)
def test_a_written_moment_is_read_back(moment: datetime) -> None:
    assert parse_timestamp(format_timestamp(moment)) == moment


def test_a_moment_is_always_in_utc() -> None:
    assert parse_timestamp("2026-03-02T09:00:00+01:00").tzinfo is UTC


def test_lower_case_letters_are_read_as_rfc_3339_allows() -> None:
    assert parse_timestamp("2026-03-02t08:00:00z") == WHOLE


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-03-02",
        "2026-03-02T08:00:00",
        "2026-03-02 08:00:00Z",
        "2026-03-02T08:00Z",
        "2026-03-02T08:00:00.Z",
        "2026-03-02T08:00:00.1234567890Z",
        "2026-03-02T08:00:00,5Z",
        "2026-03-02T24:00:00Z",
        "2026-03-02T08:00:60Z",
        "2026-03-02T08:00:00+01",
        "2026-03-02T08:00:00+24:00",
        "2026-W10-1T08:00:00Z",
        "20260302T080000Z",
        "٢٠٢٦-03-02T08:00:00Z",
        "2026-03-02T08:00:00Z\n",
        "1772438400",
    ],
)
def test_what_is_no_rfc_3339_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="RFC 3339"):
        parse_timestamp(text)


@pytest.mark.parametrize("day", ["2026-02-29", "2026-13-01", "2026-00-10", "2026-04-31"])
def test_a_day_that_no_calendar_has_is_refused(day: str) -> None:
    with pytest.raises(ValueError, match="calendar"):
        parse_timestamp(f"{day}T08:00:00Z")


@pytest.mark.parametrize("year", ["0000", "0001", "1969", "3000", "9999"])
def test_a_year_beyond_any_reservation_is_refused(year: str) -> None:
    with pytest.raises(ValueError, match="1970 to 2999"):
        parse_timestamp(f"{year}-12-31T23:59:59-12:00")


@pytest.mark.parametrize("text", ["1970-01-01T00:00:00+23:59", "2999-12-31T23:59:59-23:59"])
def test_the_outermost_moments_can_be_moved_to_utc(text: str) -> None:
    assert parse_timestamp(text) == datetime.fromisoformat(text)


def test_a_moment_without_a_time_zone_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="time zone"):
        format_timestamp(datetime(2026, 3, 2))
