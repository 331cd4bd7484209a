"""What people typed, made fit for a message: short, on one line, nothing that could move a terminal's cursor."""

import difflib
import re
import unicodedata
from collections.abc import Iterable, Sequence

_LIST_BUDGET = 200

_ADDRESS = re.compile(r"[/:@\\]|\w\.\w")
"""What makes a word one that leads nowhere when it is cut: a URL, host, path, e-mail address or image name."""


def printable(text: str, limit: int = 40) -> str:
    """`text` with everything unprintable (control, bidirectional, surrogate) escaped, at most `limit` characters."""
    # Cut before escaping: the input may be megabytes.
    escaped = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[: limit + 1])
    return escaped if len(escaped) <= limit else escaped[: limit - 1] + "…"


def quoted(text: str, limit: int = 40) -> str:
    """`text` in double quotes, fit to print. Two of them stay within the 80 characters a refusal may echo."""
    return f'"{printable(text, limit)}"'


def one_line(text: str) -> str:
    """`text` for a sentence: on one line, without what is invisible or changes the direction of what follows."""
    if text.isprintable():
        return " ".join(text.split())
    visible = (c if c.isprintable() else "" if unicodedata.category(c) == "Cf" else " " for c in text)
    return " ".join("".join(visible).split())


def clipped(text: str, limit: int) -> str:
    """`one_line` of at most `limit` characters, cut between words and never within an address."""
    text = one_line(text)
    if len(text) <= limit:
        return text
    words, _, _ = text[: max(0, limit - 1)].rpartition(" ")
    if words:
        return words + (" …" if _ADDRESS.search(words.rpartition(" ")[2]) else "…")
    first = text.partition(" ")[0]
    return "…"[:limit] if _ADDRESS.search(first) else text[: max(0, limit - 1)] + "…"[:limit]


def listed(items: Sequence[str], limit: int = 8) -> str:
    """`a, b and 5 more`: as many items as fit in `limit` and in 200 characters, and always the first."""
    shown: list[str] = []
    used = 0
    for item in items[:limit]:
        text = printable(item, 60)
        used += len(text) + 2
        if shown and used > _LIST_BUDGET:
            break
        shown.append(text)
    rest = len(items) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean "cpu"?` when something known is close to `word`, otherwise what is known."""
    options = sorted(known)
    close = difflib.get_close_matches(word[:64].lower(), options, n=1, cutoff=0.6)
    return f'; did you mean "{close[0]}"?' if close else f"; known here: {listed(options, 20)}"
