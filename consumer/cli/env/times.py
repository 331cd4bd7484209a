"""Moments and spans of time as operators write them, and as they like to read them."""

import re
from datetime import UTC, datetime, timedelta

import typer

from consumer.cli.text import clock
from schemas.timestamps import EARLIEST_YEAR, LATEST_YEAR

_SPAN = re.compile(r"(?:([0-9]{1,5})d)?(?:([0-9]{1,6})h)?(?:([0-9]{1,7})m)?(?:([0-9]{1,8})s)?")


def moment_of(text: str) -> datetime:
    """An ISO 8601 date and time with a zone, in UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no date and time such as 2026-03-02T18:00:00Z.") from error
    if moment.tzinfo is None:
        raise typer.BadParameter(
            f"{text!r} does not say in which zone: append Z for UTC, or an offset such as +01:00 for local time."
        )
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:
        moment = datetime.max.replace(tzinfo=UTC)
    if not EARLIEST_YEAR <= moment.year <= LATEST_YEAR:
        raise typer.BadParameter(f"{text!r} is not in the years {EARLIEST_YEAR} to {LATEST_YEAR}.")
    return moment


def span_of(text: str) -> timedelta:
    """Days, hours, minutes and seconds in this order, each at most once, more than nothing in all."""
    match = _SPAN.fullmatch(text.replace(" ", "").lower())
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0, 0, 0, 0)
    span = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    if not span:
        raise typer.BadParameter(f"{text!r} is no span of time such as 1h30m, 45m or 2d.")
    return span


def span_text(span: timedelta) -> str:
    """The two largest units: `2d 3h`, `1h 30m`, `5m`, `12s`."""
    seconds = int(span.total_seconds())
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours}h"
    if hours:
        return f"{hours}h {minutes}m"
    return f"{minutes}m" if minutes else f"{seconds}s"


def deadline(until: datetime, now: datetime, *, runs: bool) -> str:
    """A moment, and what that means for something that runs, or does not."""
    if until > now:
        return f"{clock(until)} ({span_text(until - now)} left)"
    return f"{clock(until)} (overdue {span_text(now - until)})" if runs else f"{clock(until)}"
