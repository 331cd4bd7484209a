"""Making what a runtime or a program said fit for a message to a user. No I/O here."""

import re
from collections.abc import Mapping

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)?")
_BETWEEN = " | "
_SECRET_NAME = re.compile(r"pass|secret|token|credential|key|auth", re.IGNORECASE)
_SECRET = re.compile(
    r"""(?P<before>\b[\w.-]*(?:password|passwd|secret|token|api[_-]?key|access[_-]?key|authorization)["']?\s*[:=]\s*
        (?:bearer\s+|basic\s+)?["']?|\bbearer\s+|://[^\s:/@]+:(?=[^\s/@]*@)|[?&](?:token|key|code)=)(?P<secret>[^\s"'&,;@]+)""",
    re.IGNORECASE | re.VERBOSE,
)
_SHORTEST_SECRET = 4
_PATH = re.compile(r"(?<![\w./:@-])/[^\s:;,'\"()\[\]]+")


def plain(text: str) -> str:
    """`text` on one line: no terminal escapes, no control characters, whitespace collapsed."""
    visible = "".join(char if char.isprintable() else " " for char in _ESCAPES.sub("", text))
    return " ".join(visible.split())


def shortened(text: str, limit: int) -> str:
    """`plain` text of at most `limit` characters."""
    text = plain(text)
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def last_words(output: str, limit: int = 240) -> str:
    """The end of a program's output: its last lines, ` | ` between them, at most `limit` characters."""
    kept: list[str] = []
    room = limit
    for line in filter(None, map(plain, reversed(output.splitlines()))):
        needed = len(line) + (len(_BETWEEN) if kept else 0)
        if needed > room:
            # Half of the last line is better than nothing, half of an earlier one is not.
            return _BETWEEN.join(reversed(kept)) if kept else shortened(line, limit)
        kept.append(line)
        room -= needed
    return _BETWEEN.join(reversed(kept))


def without_paths(text: str) -> str:
    """`text` with absolute paths replaced by `…`: where things lie on the host is nobody's business."""
    return _PATH.sub("…", text)


def scrubbed(text: str, variables: Mapping[str, str]) -> str:
    """`text` with what looks like a secret replaced by `…`, and the values of variables whose names say that they are.

    Programs like to print the address with the token that lets everybody in.
    """
    values = (value for name, value in variables.items() if _SECRET_NAME.search(name))
    for value in sorted(values, key=len, reverse=True):
        if len(value) >= _SHORTEST_SECRET:
            text = text.replace(value, "…")
    return _SECRET.sub(lambda found: found["before"] + "…", text)
