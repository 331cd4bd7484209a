"""Quantities mean exactly what Kubernetes says they mean, and slips are met with what was probably meant."""

import math
from fractions import Fraction
from functools import partial

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from consumer.catalog.errors import Refused
from consumer.catalog.quantities import LARGEST, check_range, format_bytes, format_cpu, parse_bytes, parse_cpu
from tests.catalog.reservations import attempt, checked, refusal

FACTORS = {
    "n": Fraction(1, 1_000_000_000),
    "u": Fraction(1, 1_000_000),
    "m": Fraction(1, 1_000),
    "": Fraction(1),
    "k": Fraction(1_000),
    "M": Fraction(1_000_000),
    "G": Fraction(1_000_000_000),
    "T": Fraction(10**12),
    "P": Fraction(10**15),
    "E": Fraction(10**18),
    "Ki": Fraction(2**10),
    "Mi": Fraction(2**20),
    "Gi": Fraction(2**30),
    "Ti": Fraction(2**40),
    "Pi": Fraction(2**50),
    "Ei": Fraction(2**60),
}
exponents = st.integers(-20, 20).flatmap(lambda n: st.sampled_from([f"e{n}", f"E{n}", f"e{n:+d}"]))


@st.composite
def quantities(draw: st.DrawFn) -> tuple[str, str, Fraction]:
    """A text, its suffix, and its value by a model that shares nothing with the parser."""
    whole, decimals = draw(st.integers(0, 10**12)), draw(st.text("0123456789", max_size=9))
    point = "." if decimals else draw(st.sampled_from(["", "."]))
    suffix = draw(st.sampled_from(sorted(FACTORS)) | exponents)
    factor = FACTORS[suffix] if suffix in FACTORS else Fraction(10) ** int(suffix[1:])
    value = (whole + Fraction(int(decimals or 0), 10 ** len(decimals))) * factor
    gap = draw(st.sampled_from(["", " "]))
    return f"{draw(st.sampled_from(['', '+']))}{whole}{point}{decimals}{gap}{suffix}", suffix, value


@given(quantities())
def test_cpu_is_millicores_exactly_and_rounded_up(quantity: tuple[str, str, Fraction]) -> None:
    text, _, value = quantity
    if value > 0 and math.ceil(value * 1000) <= LARGEST:
        assert parse_cpu(text) == math.ceil(value * 1000)
    else:
        assert refusal(lambda: parse_cpu(text)).code == "quantity_invalid"


@given(quantities())
def test_memory_is_bytes_exactly_and_rounded_up(quantity: tuple[str, str, Fraction]) -> None:
    text, suffix, value = quantity
    a_slip = suffix in ("m", "u", "n") and value < 2**20
    if value > 0 and math.ceil(value) <= LARGEST and not a_slip:
        assert parse_bytes(text) == math.ceil(value)
    else:
        assert refusal(lambda: parse_bytes(text)).code == "quantity_invalid"


@given(quantities(), quantities())
def test_a_larger_quantity_never_parses_to_a_smaller_number(
    one: tuple[str, str, Fraction], other: tuple[str, str, Fraction]
) -> None:
    smaller, larger = sorted((one, other), key=lambda quantity: quantity[2])
    if smaller[2] > 0 and larger[2] * 1000 <= LARGEST:
        assert parse_cpu(smaller[0]) <= parse_cpu(larger[0])


@given(st.text(max_size=60) | st.text("0123456789.eEkMGiKmun+- \n", max_size=60))
@example("1e999999999999")
@example("9" * 5000)
@example("\ud800")
@example("\u00b2Gi")
def test_whatever_is_typed_is_a_positive_number_or_refused(text: str) -> None:
    for parse in (parse_cpu, parse_bytes):
        outcome = attempt(partial(parse, text), Refused)
        if isinstance(outcome, Refused):
            assert checked(outcome).code == "quantity_invalid"
        else:
            assert 0 < outcome <= LARGEST


@pytest.mark.parametrize(
    ("text", "millicores"),
    [
        ("0.5", 500), ("500m", 500), ("2", 2000), ("100000m", 100_000), ("0.0001", 1), ("1500u", 2), ("1n", 1),
        (".5", 500), ("5.", 5000), ("1e3", 1_000_000), ("1E3", 1_000_000), ("1E-1", 100), (" 2 ", 2000), ("+1", 1000),
    ],
)  # fmt: skip
def test_cpu_as_people_write_it(text: str, millicores: int) -> None:
    assert parse_cpu(text) == millicores


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("1.5Gi", 1_610_612_736), ("256Mi", 268_435_456), ("129e6", 129_000_000), ("129M", 129_000_000),
        ("1E", 10**18), ("1E3", 1000), ("0.1k", 100), ("1.0001k", 1001), ("512 Mi", 536_870_912), ("4096", 4096),
    ],
)  # fmt: skip
def test_memory_as_people_write_it(text: str, count: int) -> None:
    assert parse_bytes(text) == count


def test_thousandths_of_a_byte_are_read_when_they_come_to_real_memory() -> None:
    assert parse_bytes("128974848000m") == 128_974_848


def test_memory_in_thousandths_of_a_byte_is_a_slip_for_mebibytes() -> None:
    assert 'Did you mean "512Mi"?' in refusal(lambda: parse_bytes("512m")).message


@pytest.mark.parametrize(
    ("text", "meant"),
    [("512MB", "512Mi"), ("512mb", "512Mi"), ("512mi", "512Mi"), ("2 GiB", "2Gi"), ("1K", "1Ki"), ("1.5g", "1.5Gi")],
)
def test_units_people_write_instead_are_answered_with_the_right_one(text: str, meant: str) -> None:
    assert f'did you mean "{meant}"?' in refusal(lambda: parse_bytes(text)).message


@pytest.mark.parametrize("text", ["", " ", "-1", "0", "0.000", "0e5", "1e", "1ee3", "1,5", "1.2.3", "0x10", "Mi", "."])
def test_what_is_no_quantity_above_zero_is_refused(text: str) -> None:
    assert refusal(lambda: parse_cpu(text)).code == "quantity_invalid"
    assert refusal(lambda: parse_bytes(text)).code == "quantity_invalid"


@pytest.mark.parametrize("text", ["1 parsec", "five", "12 apples"])
def test_units_that_resemble_nothing_get_advice_but_no_guess(text: str) -> None:
    message = refusal(lambda: parse_bytes(text)).message
    assert "did you mean" not in message
    assert '"512Mi"' in message


def test_a_refusal_names_what_was_asked_for() -> None:
    assert refusal(lambda: parse_bytes("much", "Storage limit")).message.startswith('Storage limit "much"')


@given(st.integers(1, LARGEST))
@example(1024)
@example(1000)
def test_bytes_written_in_a_message_read_back_the_same(count: int) -> None:
    assert parse_bytes(format_bytes(count)) == count


@given(st.integers(1, LARGEST))
def test_millicores_written_in_a_message_read_back_the_same(millis: int) -> None:
    assert parse_cpu(format_cpu(millis)) == millis


@pytest.mark.parametrize(("count", "text"), [(512 * 2**20, "512Mi"), (2**30, "1Gi"), (10**9, "1G"), (1001, "1001")])
def test_bytes_are_written_as_people_do(count: int, text: str) -> None:
    assert format_bytes(count) == text


def test_bounds_are_included() -> None:
    assert [check_range(value, 1, 3) for value in (1, 2, 3)] == [1, 2, 3]
    assert check_range(10**18, None, None) == 10**18


def test_beyond_a_bound_the_bound_is_named() -> None:
    low = refusal(lambda: check_range(100, 500, None, what="CPU limit", show=format_cpu))
    high = refusal(lambda: check_range(3000, None, 2000, what="CPU limit", show=format_cpu))
    assert (low.code, high.code) == ("limit_below_minimum", "limit_above_maximum")
    assert low.message == "CPU limit 100m is below the minimum of 500m: ask for at least that."
    assert high.message == "CPU limit 3 is above the maximum of 2: ask for at most that."
