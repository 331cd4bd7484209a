"""Kubernetes quantities, read exactly: `500m`, `1.5Gi`, `2e3`. A float would turn 0.1 into something else.

Like Kubernetes, what is not a whole number of millicores or bytes rounds up. Unlike Kubernetes, zero is refused
(to Docker it means "no limit"), and so are fractions of a byte: whoever types `512m` of memory means `512Mi`.
"""

import math
import re
from collections.abc import Callable
from fractions import Fraction

from consumer.catalog.errors import Refused
from consumer.catalog.wording import quoted

MAX_QUANTITY_LENGTH = 40
LARGEST = 2**63 - 1
"""Kubernetes' own bound; what is above is refused here, where Kubernetes silently caps."""

_BINARY = {f"{letter}i": 1024**power for power, letter in enumerate("KMGTPE", start=1)}
_DECIMAL = {letter: 1000**power for power, letter in enumerate("kMGTPE", start=1)}
_FRACTIONAL = {"m": Fraction(1, 10**3), "u": Fraction(1, 10**6), "n": Fraction(1, 10**9)}
_SUFFIXES: dict[str, Fraction | int] = {"": 1, **_FRACTIONAL, **_DECIMAL, **_BINARY}

# Written so that only ASCII digits count, and "1E" is exa while "1E3" is an exponent.
_QUANTITY = re.compile(
    r"(?P<sign>[+-]?)(?P<number>[0-9]+\.?[0-9]*|\.[0-9]+)\s*"
    r"(?:[eE](?P<exponent>[+-]?[0-9]+)|(?P<suffix>[KMGTPE]i|[numkMGTPE]|))"
)
_LOOSE = re.compile(r"(?P<number>[0-9]+\.?[0-9]*|\.[0-9]+)\s*(?P<unit>[a-zA-Z]+)")
_LARGEST_EXPONENT = 999

CPU_ADVICE = 'Write cores ("0.5", "2") or millicores ("500m").'
BYTES_ADVICE = 'Write a number with a suffix ("512Mi", "1.5Gi"); without a suffix it counts bytes.'


def parse_cpu(text: str, what: str = "CPU limit") -> int:
    """Millicores, rounded up. Raises `Refused("quantity_invalid")` naming `what`."""
    value = _parse(text, what, CPU_ADVICE)[0] * 1000
    return _whole(value, text, what)


def parse_bytes(text: str, what: str = "Memory limit") -> int:
    """Bytes, rounded up. Raises `Refused("quantity_invalid")` naming `what`."""
    value, number, suffix = _parse(text, what, BYTES_ADVICE)
    # Kubernetes' docs show "128974848000m"; below a mebibyte it is always a slip for "Mi".
    if suffix in _FRACTIONAL and value < 1024**2:
        raise _invalid(
            f'{what} {quoted(text)} means thousandths of a byte, or less. Did you mean "{number[:20]}Mi"?',
        )
    return _whole(value, text, what)


def check_range(
    value: int,
    minimum: int | None,
    maximum: int | None,
    *,
    what: str = "Limit",
    show: Callable[[int], str] = str,
    advice: str = "",
) -> int:
    """`value` when it lies within the bounds, both included; None is no bound.

    Raises `Refused` with `limit_below_minimum` or `limit_above_maximum`; `show` writes the numbers.
    """
    if minimum is not None and value < minimum:
        least = f"{what} {show(value)} is below the minimum of {show(minimum)}: ask for at least that. {advice}"
        raise Refused("limit_below_minimum", least.rstrip())
    if maximum is not None and value > maximum:
        most = f"{what} {show(value)} is above the maximum of {show(maximum)}: ask for at most that. {advice}"
        raise Refused("limit_above_maximum", most.rstrip())
    return value


def format_cpu(millis: int) -> str:
    """As people write it, and exact: `2`, `1500m`."""
    return f"{millis}m" if millis % 1000 else str(millis // 1000)


def format_bytes(count: int) -> str:
    """The shortest exact way to write it: `512Mi`, `1500M`, or plain bytes."""
    forms = [str(count)]
    for suffix, factor in (_BINARY | _DECIMAL).items():
        if count % factor == 0:
            forms.append(f"{count // factor}{suffix}")
    return min(forms, key=lambda form: (len(form), not form.endswith("i")))


def _parse(text: str, what: str, advice: str) -> tuple[Fraction, str, str]:
    stripped = text.strip()
    if len(stripped) > MAX_QUANTITY_LENGTH:
        raise _invalid(f"{what} is {len(stripped)} characters long; no quantity needs more than a few. {advice}")
    found = _QUANTITY.fullmatch(stripped)
    if found is None:
        guess = _guess(stripped) if advice == BYTES_ADVICE else "."
        raise _invalid(f"{what} {quoted(stripped)} is not a quantity{guess} {advice}")
    number, suffix = found["number"], found["suffix"] or ""
    if found["exponent"] is not None:
        exponent = int(found["exponent"])
        if abs(exponent) > _LARGEST_EXPONENT:
            raise _invalid(f"{what} {quoted(stripped)} is out of all bounds. {advice}")
        factor: Fraction | int = Fraction(10) ** exponent
    else:
        factor = _SUFFIXES[suffix]
    value = Fraction(number if number[-1] != "." else number[:-1]) * factor
    if value == 0 or found["sign"] == "-":
        raise _invalid(f"{what} {quoted(stripped)} is not above zero. {advice}")
    return value, number, suffix


def _whole(value: Fraction, text: str, what: str) -> int:
    whole = math.ceil(value)
    if whole > LARGEST:
        raise _invalid(f"{what} {quoted(text.strip())} is more than any machine has. Ask for less.")
    return whole


def _guess(text: str) -> str:
    """`: did you mean "512Mi"?` for the units people write instead: `512MB`, `512mi`, `2 GiB`, `1K`."""
    loose = _LOOSE.fullmatch(text)
    if loose is None:
        return "."
    unit = loose["unit"].lower().removesuffix("b")
    for suffix in (*_BINARY, *_DECIMAL):
        if unit == suffix.lower():
            # "MB" is ambiguous by a few percent; the binary unit is what schedulers and people count in.
            return f': did you mean "{loose["number"][:20]}{suffix if suffix in _BINARY else suffix.upper() + "i"}"?'
    return "."


def _invalid(message: str) -> Refused:
    return Refused("quantity_invalid", message)
