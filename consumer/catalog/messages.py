"""What people are told, as operators may word it: texts with placeholders, filled so that they always fit.

A text is read once, here, into its parts. What is filled in is never read again, so no braces in a name mean anything.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import PlainValidator

from consumer.catalog.fields import Section, problem, text
from consumer.catalog.wording import clipped, did_you_mean, one_line, quoted
from schemas.outbound import NOTIFICATION_LIMIT, Outcome

ROOM = 240
"""Characters that a text must leave for what it is there to tell: how to get in, or what went wrong."""


class Placeholder(StrEnum):
    """What a text can have filled in. docs/how-to/templates.md explains each."""

    RESOURCE = "resource"
    USER = "user"
    RESERVATION = "reservation"
    START = "start"
    UNTIL = "until"
    ACCESS = "access"
    SSH = "ssh"
    URL = "url"
    PORTS = "ports"
    ADVICE = "advice"
    REASON = "reason"
    NOTES = "notes"


LONGEST: Mapping[Placeholder, int] = MappingProxyType(
    {
        Placeholder.RESOURCE: 60,
        Placeholder.USER: 40,
        Placeholder.RESERVATION: 40,
        Placeholder.START: 40,
        Placeholder.UNTIL: 40,
    }
)
"""Placeholders that always have something to say, and the most characters it takes."""

_FLEXIBLE = tuple(each for each in Placeholder if each not in LONGEST)
"""Those that get what room is left, the first of them first."""

_ALWAYS = frozenset(LONGEST)
_WAYS_IN = _ALWAYS | {
    Placeholder.ACCESS,
    Placeholder.SSH,
    Placeholder.URL,
    Placeholder.PORTS,
    Placeholder.NOTES,
}
_WHY = _ALWAYS | {Placeholder.REASON, Placeholder.ADVICE}

PLACEHOLDERS: Mapping[Outcome, frozenset[Placeholder]] = MappingProxyType(
    {
        Outcome.PROVISIONED: _WAYS_IN,
        Outcome.UPDATED: _WAYS_IN,
        Outcome.RELEASED: _WHY,
        Outcome.EXPIRED: _WHY,
        Outcome.SKIPPED: _WHY,
        Outcome.FAILED: _WHY,
    }
)
"""What can be told of each outcome."""

_MARK = re.compile(r"\{\{|\}\}|\[\[|\]\]|\{[^{}\[\]]*\}|[][{}]|[^][{}]+")


@dataclass(frozen=True, slots=True)
class Value:
    """What a placeholder stands for: `items`, each told as a whole or not at all, as many as there is room for.

    `prose` is a single text that may be cut between words.
    """

    items: tuple[str, ...] = ()
    between: str = " "
    prose: bool = False

    def within(self, room: int) -> str:
        """At most `room` characters of it; nothing when none of it fits."""
        if self.prose:
            return clipped(" ".join(self.items), room)
        fitting = ""
        for item in map(one_line, self.items):
            longer = fitting + self.between + item if fitting else item
            if item and len(longer) <= room:
                fitting = longer
        return fitting


_NOTHING = Value()


@dataclass(frozen=True, slots=True)
class _Part:
    """A stretch of a text. One in brackets is left out as a whole when something in it has nothing to say."""

    pieces: tuple[str | Placeholder, ...]
    optional: bool

    @property
    def placeholders(self) -> tuple[Placeholder, ...]:
        return tuple(piece for piece in self.pieces if isinstance(piece, Placeholder))

    @property
    def flexible(self) -> bool:
        return not _ALWAYS.issuperset(self.placeholders)

    def filled(self, said: Mapping[Placeholder, str]) -> str:
        if self.optional and not all(said.get(each) for each in self.placeholders):
            return ""
        return self.around(said)

    def around(self, said: Mapping[Placeholder, str]) -> str:
        """The part with what is said so far, and nothing for the rest."""
        return "".join(said.get(piece, "") if isinstance(piece, Placeholder) else piece for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class Message:
    """A text, checked: whatever is filled in, it comes to at most `NOTIFICATION_LIMIT` characters."""

    parts: tuple[_Part, ...]

    @property
    def placeholders(self) -> tuple[Placeholder, ...]:
        return tuple(each for part in self.parts for each in part.placeholders)

    @property
    def longest(self) -> int:
        """Its characters without what is flexible, at most."""
        said = {each: "x" * limit for each, limit in LONGEST.items()}
        return sum(len(part.around(said)) for part in self.parts)

    def filled(self, values: Mapping[Placeholder, Value]) -> str:
        """The message on one line. Its own words are always there; values as far as there is room, in whole items."""
        said = {each: values.get(each, _NOTHING).within(limit) for each, limit in LONGEST.items()}
        left_out = {part: len(part.around(said)) for part in self.parts if part.optional and part.flexible}
        room = NOTIFICATION_LIMIT - sum(len(part.around(said)) for part in self.parts if part not in left_out)
        for each in _FLEXIBLE:
            part = next((part for part in self.parts if each in part.placeholders), None)
            if part is None:
                continue
            words = left_out.get(part, 0)
            if value := values.get(each, _NOTHING).within(room - words):
                said[each] = value
                room -= words + len(value)
                left_out.pop(part, None)
        return one_line("".join(part.filled(said) for part in self.parts))


def read_message(written: str, allowed: frozenset[Placeholder]) -> Message:
    """Raises `ValueError` that says what is wrong with `written` and what to write instead."""
    message = Message(tuple(_parts(written, allowed)))
    if not message.parts:
        raise ValueError("is empty: leave the key out to have the usual words")
    told = [each for each in message.placeholders if each in _FLEXIBLE]
    if twice := next((each for each in told if told.count(each) > 1), None):
        raise ValueError(f"has {{{twice}}} twice: once is enough, and all there is room for")
    room = ROOM if told else 0
    if message.longest > NOTIFICATION_LIMIT - room:
        most = NOTIFICATION_LIMIT - room
        names = " with the longest names and times" if set(message.placeholders) & _ALWAYS else ""
        leave = f", which leaves room for {{{told[0]}}}" if told else ""
        raise ValueError(f"comes to {message.longest} characters{names}: shorten it to {most}{leave}")
    return message


def _parts(written: str, allowed: frozenset[Placeholder]) -> Iterator[_Part]:
    pieces: list[str | Placeholder] = []
    inside = False
    for mark in _MARK.findall(" ".join(written.split())):
        match mark:
            case "[" | "]":
                if inside != (mark == "]"):
                    raise _too_many(mark)
                if inside and not any(isinstance(piece, Placeholder) for piece in pieces):
                    raise ValueError("has brackets without a placeholder in them: they make no difference")
                if pieces:
                    yield _Part(tuple(pieces), optional=inside)
                pieces, inside = [], mark == "["
            case "{" | "}":
                raise _too_many(mark)
            case "{{" | "}}" | "[[" | "]]":
                pieces.append(mark[0])
            case _ if mark.startswith("{"):
                pieces.append(_placeholder(mark[1:-1].strip(), allowed))
            case _ if mark.isprintable():
                pieces.append(mark)
            case _:
                raise ValueError("holds characters that cannot be seen: leave them out")
    if inside:
        raise ValueError("has a [ that is not closed: write [[ for the character itself")
    if pieces:
        yield _Part(tuple(pieces), optional=False)


def _too_many(mark: str) -> ValueError:
    return ValueError(f"has a {mark} too many: write {mark * 2} for the character itself")


def _placeholder(name: str, allowed: frozenset[Placeholder]) -> Placeholder:
    if name in allowed:
        return Placeholder(name)
    if name in set(Placeholder):
        raise ValueError(f"has {{{name}}}, of which there is nothing to tell here{did_you_mean('', allowed)}")
    raise ValueError(f"has {quoted('{' + name + '}')}, which stands for nothing{did_you_mean(name, allowed)}")


def _message(outcome: Outcome, value: Any) -> Message:
    written = text(value)
    try:
        return read_message(written, PLACEHOLDERS[outcome])
    except ValueError as error:
        raise problem(str(error)) from None


def _text_for(outcome: Outcome) -> PlainValidator:
    return PlainValidator(partial(_message, outcome))


class MessagesSection(Section):
    """Texts for what people are told, by outcome; those that are not given stay as they are."""

    provisioned: Annotated[Message | None, _text_for(Outcome.PROVISIONED)] = None
    updated: Annotated[Message | None, _text_for(Outcome.UPDATED)] = None
    released: Annotated[Message | None, _text_for(Outcome.RELEASED)] = None
    expired: Annotated[Message | None, _text_for(Outcome.EXPIRED)] = None
    skipped: Annotated[Message | None, _text_for(Outcome.SKIPPED)] = None
    failed: Annotated[Message | None, _text_for(Outcome.FAILED)] = None

    def over(self, usual: Mapping[Outcome, Message]) -> Mapping[Outcome, Message]:
        """`usual`, with the texts that are given here instead."""
        given = ((outcome, getattr(self, outcome.value)) for outcome in Outcome)
        return MappingProxyType({**usual, **{outcome: message for outcome, message in given if message is not None}})


USUAL_TEXTS: Mapping[Outcome, str] = MappingProxyType(
    {
        Outcome.PROVISIONED: "{resource} is ready until {until}. {notes} {access}",
        Outcome.UPDATED: "{resource} now runs until {until}.[ You get in as before. {access}]",
        Outcome.RELEASED: "Your environment on {resource} was removed. {reason} {advice}",
        Outcome.EXPIRED: "Your reservation of {resource} ran out at {until}, and its environment was removed.",
        Outcome.SKIPPED: "{resource} was not started. {reason} {advice}",
        Outcome.FAILED: "{resource} is not available. {reason} {advice}",
    }
)

USUAL: Mapping[Outcome, Message] = MappingProxyType(
    {outcome: read_message(written, PLACEHOLDERS[outcome]) for outcome, written in USUAL_TEXTS.items()}
)
"""What people are told where operators say nothing else."""
