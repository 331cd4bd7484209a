"""Environment variables: what users may set, what they may not, and what Moorage sets itself.

Values may be secrets. No message here repeats one, nor a piece of text that could be half of one.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from consumer.catalog.errors import Refused
from consumer.catalog.jsontext import looks_like_json, read_json
from schemas.state import ReservationState

MAX_VARIABLES = 64
MAX_NAME_LENGTH = 128
MAX_VALUE_LENGTH = 4096
MAX_ENVIRONMENT_LENGTH = 16_384

_ADVICE = 'Write A=1,B=2 (a value with a comma in quotes: A="x,y") or a JSON object.'
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Outside quotes only what would otherwise end a value can be escaped, so C:\temp stays C:\temp.
_ESCAPES = {"": ",\\\"'\n", '"': '"\\', "'": ""}

_DENIED_PREFIXES = ("LD_", "DYLD_", "MOORAGE_")
_DENIED = frozenset({"PATH"})
_DENIED_TO_PROCESSES = frozenset(
    {
        "BASH_ENV", "ENV", "IFS", "GCONV_PATH", "HOME", "SHELL", "PROMPT_COMMAND", "PYTHONPATH", "PYTHONHOME",
        "PYTHONSTARTUP", "PYTHONINSPECT", "NODE_OPTIONS", "NODE_PATH", "PERL5OPT", "PERL5LIB", "PERL5DB", "RUBYOPT",
        "RUBYLIB", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "CLASSPATH", "GIT_SSH_COMMAND",
        "GIT_EXTERNAL_DIFF", "EDITOR", "VISUAL", "PAGER",
    }
)  # fmt: skip


def denied_to_users(name: str, runtime: str) -> bool:
    """Whether users may not set `name`: it decides which code runs, or is ours.

    In a container that is the user's own business but for the loader's variables. A process runs on our host, under
    our account, so what makes an interpreter run something else is denied there too.
    """
    return (
        name in _DENIED
        or name.startswith(_DENIED_PREFIXES)
        or (runtime == "process" and name.upper() in _DENIED_TO_PROCESSES)
    )


def parse_environment(text: str) -> dict[str, str]:
    """The variables that `text` sets, in order. Raises `Refused("environment_invalid")`.

    A JSON object, or `A=1,B=2` separated by commas or line ends. A value in single quotes is taken as it is, in
    double quotes `\\"` and `\\\\` are escapes, without quotes a backslash keeps a comma.
    """
    if len(text) > MAX_ENVIRONMENT_LENGTH:
        raise _invalid(f"the text is longer than {MAX_ENVIRONMENT_LENGTH} characters.")
    return check_variables(_from_json(text) if looks_like_json(text) else _from_text(text))


def check_variables(pairs: Iterable[tuple[str, object]]) -> dict[str, str]:
    """`pairs` when names are names, values are text that a process can be given, and no cap is passed.

    Raises `Refused("environment_invalid")`.
    """
    found: dict[str, str] = {}
    for position, (name, value) in enumerate(pairs, start=1):
        if not _NAME.fullmatch(name):
            raise _invalid(f"the name of variable {position} is not made of letters, digits and _. {_ADVICE}")
        if len(name) > MAX_NAME_LENGTH:
            raise _invalid(f"the name of variable {position} is longer than {MAX_NAME_LENGTH} characters.")
        text = _value(name, value)
        if found.setdefault(name, text) != text:
            raise _invalid(f"{_shown(name)} is set twice, to different values: keep one.")
        if len(found) > MAX_VARIABLES:
            raise _invalid(f"there are more than {MAX_VARIABLES} variables.")
    return found


def refuse_denied(variables: Mapping[str, str], runtime: str) -> None:
    """Raise `Refused("environment_invalid")` when users may not set one of `variables` on this runtime."""
    for name in variables:
        if denied_to_users(name, runtime):
            raise _invalid(f"{_shown(name)} may not be set by users. Leave it out.")


def reservation_variables(state: ReservationState) -> dict[str, str]:
    """What Moorage tells every environment about its reservation; times are ISO 8601 in UTC.

    What the platform did not look up is left out. Control characters in names are dropped: no process could be
    given a NUL, and a line end in a user name would forge a line in whatever prints it.
    """
    user, resource = state.user, state.resource
    known = {
        "USER": user.name or user.id,
        "USER_ID": user.id,
        "USER_EMAIL": user.email,
        "RESOURCE_ID": resource.id,
        "RESOURCE_NAME": resource.name or resource.id,
        "RESOURCE_TYPE": resource.type,
        "RESERVATION_ID": state.reservation_id,
        "RESERVATION_START": _moment(state.start),
        "RESERVATION_END": _moment(state.end),
    }
    return {name: "".join(c for c in text if c.isprintable()) for name, text in known.items() if text is not None}


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _value(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        raise _invalid(f"the value of {_shown(name)} is not a text or a number.")
    if len(value) > MAX_VALUE_LENGTH:
        raise _invalid(f"the value of {_shown(name)} is longer than {MAX_VALUE_LENGTH} characters.")
    if "\0" in value or any("\ud800" <= c <= "\udfff" for c in value):
        raise _invalid(f"the value of {_shown(name)} holds a character that no program can be given.")
    return value


def _from_json(text: str) -> Iterable[tuple[str, object]]:
    try:
        document = read_json(text)
    except ValueError as error:
        raise _invalid(f"{error}. {_ADVICE}") from None
    if not isinstance(document, dict):
        raise _invalid(f"it is a JSON list, not an object. {_ADVICE}")
    return document.items()


def _from_text(text: str) -> Iterable[tuple[str, object]]:
    position, count = 0, 0
    while position < len(text):
        equals = text.find("=", position)
        end = next((i for i in range(position, len(text)) if text[i] in ",\n"), len(text))
        if not text[position:end].strip():
            position = end + 1
            continue
        count += 1
        if equals < 0 or equals > end:
            raise _invalid(f"variable {count} has no = sign. {_ADVICE}")
        name = text[position:equals].strip()
        value, position = _read_value(text, equals + 1, count)
        yield name, value


def _read_value(text: str, start: int, count: int) -> tuple[str, int]:
    """The value that begins at `start`, and where the next variable begins."""
    while start < len(text) and text[start] in " \t":
        start += 1
    quote = text[start] if text[start : start + 1] in ("'", '"') and start < len(text) else ""
    end_marks = quote or ",\n"
    position = start + len(quote)
    kept: list[str] = []
    while position < len(text) and text[position] not in end_marks:
        if text[position] == "\\" and text[position + 1 : position + 2] in tuple(_ESCAPES[quote]):
            position += 1
        kept.append(text[position])
        position += 1
    if not quote:
        return "".join(kept).rstrip(), position + 1
    if position >= len(text):
        raise _invalid(f"the quote that opens the value of variable {count} is never closed. {_ADVICE}")
    end = next((i for i in range(position + 1, len(text)) if text[i] in ",\n"), len(text))
    if text[position + 1 : end].strip():
        raise _invalid(f"after the closing quote of variable {count} there is more text. {_ADVICE}")
    return "".join(kept), end + 1


def _shown(name: str) -> str:
    # Names are ASCII letters, digits and _ by now.
    return name if len(name) <= 40 else name[:39] + "…"


def _invalid(problem: str) -> Refused:
    return Refused("environment_invalid", f"Environment: {problem}")
