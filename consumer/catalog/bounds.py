"""Least, usual and most of CPU, memory and storage: nobody gets an unbounded environment that no operator asked for."""

from collections.abc import Callable
from dataclasses import dataclass

from consumer.catalog.fields import Amount
from consumer.catalog.quantities import (
    BYTES_ADVICE,
    CPU_ADVICE,
    check_range,
    format_bytes,
    format_cpu,
)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What an environment gets when its user asks for nothing, and what they may ask for; None is no bound.

    `offered` is False when the operator said nothing at all about something that has no safe default: then there is
    nothing to choose.
    """

    kind: "Kind"
    usual: int | None
    minimum: int
    maximum: int | None
    offered: bool

    def choose(self, asked: int | None) -> int | None:
        """The limit to set. Raises `Refused`: `limit_below_minimum` or `limit_above_maximum`."""
        if asked is None:
            return self.usual
        kind = self.kind
        return check_range(
            asked, self.minimum, self.maximum, what=f"{kind.title} limit", show=kind.show, advice=kind.advice
        )

    def complaint(self) -> tuple[str, str, str] | None:
        """What is wrong with the operator's numbers, and where; None when they make sense."""
        show, field = self.kind.show, self.kind.field
        if self.usual is None:
            if self.maximum is None:
                return None
            return f"is not stated, but the maximum is {show(self.maximum)}: say what everybody gets", "limits", field
        if self.maximum is not None and self.minimum > self.maximum:
            return f"is {show(self.maximum)}, below the minimum of {show(self.minimum)}", "maximum", field
        if self.maximum is not None and self.usual > self.maximum:
            return f"is {show(self.usual)}, above the maximum of {show(self.maximum)}", "limits", field
        if self.usual < self.minimum:
            return f"is {show(self.usual)}, below the minimum of {show(self.minimum)}", "limits", field
        return None


@dataclass(frozen=True, slots=True)
class Kind:
    """One of the three limits: its field in the file, its default when the file says nothing, and its floor.

    The floors are what the Docker Engine itself insists on; below, it would fail with a message about itself.
    """

    field: str
    title: str
    default: int | None
    floor: int
    show: Callable[[int], str]
    advice: str

    def bounds(self, limit: Amount, minimum: Amount, maximum: Amount) -> Bounds:
        """The three as an operator wrote them, with what follows where nothing was written."""
        stated = [number for number in (_number(limit), _number(maximum)) if number is not None]
        least = _number(minimum) or min([self.floor, *stated])
        usual = _number(limit)
        if limit is None and self.default is not None:
            usual = min([max(self.default, least), *stated])
        most = usual if maximum is None else _number(maximum)
        said = any(amount is not None for amount in (limit, maximum, self.default))
        return Bounds(self, usual, least, most, offered=said)


def _show_bytes(count: int) -> str:
    text = format_bytes(count)
    return f"{text} bytes" if text.isdigit() else text


def _number(amount: Amount) -> int | None:
    return amount if isinstance(amount, int) else None


CPU = Kind("cpu", "CPU", 1000, 10, format_cpu, CPU_ADVICE)
MEMORY = Kind("memory", "Memory", 512 * 1024**2, 6 * 1024**2, _show_bytes, BYTES_ADVICE)
# No default: Docker can bound storage only on some file systems, and fails on the others.
STORAGE = Kind("storage", "Storage", None, 1024**2, _show_bytes, BYTES_ADVICE)
