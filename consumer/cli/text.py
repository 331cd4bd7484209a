"""What others wrote, made fit for a terminal and for JSON: it can neither move the cursor nor pose as markup."""

import base64
import sys
from datetime import UTC, datetime
from typing import Any, NoReturn

import typer
from rich.text import Text

from consumer.cli.console import Exit, err
from consumer.provisioners.text import plain
from consumer.transport.reader import Message

_HEX_LINE = 16


def cell(text: object, style: str = "") -> Text:
    """For a table: one line, `-` for nothing."""
    return Text(plain(str(text)) if text not in (None, "") else "-", style=style)


def line(*fields: object) -> None:
    """One line of standard output, fields two spaces apart, `-` for nothing."""
    sys.stdout.write("  ".join(cell(field).plain for field in fields) + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """A remark on standard error."""
    err.print(Text(plain(text)), soft_wrap=True)


def problem(text: str) -> None:
    """An error that does not end the command."""
    err.print(Text.assemble(("error", "red"), " ", plain(text)), soft_wrap=True)


def refuse(text: str, code: Exit = Exit.FAILED) -> NoReturn:
    """An error that ends the command, and may quote what others wrote."""
    problem(text)
    raise typer.Exit(code)


def clock(moment: datetime | None) -> str | None:
    """To the second, in UTC."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}" if moment is not None else None


def moment_of(timestamp_ms: int) -> datetime | None:
    """A Kafka timestamp as a moment; None for none, or for one that no calendar has."""
    try:
        return datetime.fromtimestamp(timestamp_ms / 1000, UTC) if timestamp_ms >= 0 else None
    except (OverflowError, ValueError, OSError):
        return None


def size(count: int) -> str:
    """In the largest binary unit of which there is at least one: `512 B`, `1.5 KiB`, `64.0 MiB`."""
    if count < 1024:
        return f"{count} B"
    amount = count / 1024
    for unit in ("KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def readable(data: bytes | None) -> str | None:
    """Bytes as text where they are UTF-8, as hex digits otherwise."""
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return f"0x{data.hex()}"


def exact(data: bytes | None) -> str | dict[str, str] | None:
    """Bytes for JSON: text, or `{"base64": ...}` for what is no UTF-8."""
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def place_json(message: Message) -> dict[str, Any]:
    """Where and when a message was written, for JSON."""
    moment = moment_of(message.timestamp_ms)
    return {
        "topic": message.topic,
        "partition": message.partition,
        "offset": message.offset,
        "timestamp": moment.isoformat() if moment else None,
    }


def shown(data: bytes) -> str:
    """A payload for reading: its lines with control characters escaped, or a hex dump when it is no text."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return hex_dump(data)
    if "\0" in text:
        return hex_dump(data)
    return "".join(char if char.isprintable() or char in "\n\t" else _escaped(char) for char in text)


def hex_dump(data: bytes) -> str:
    """Offset, hex digits and ASCII, sixteen bytes a line."""
    lines = []
    for start in range(0, len(data), _HEX_LINE):
        part = data[start : start + _HEX_LINE]
        ascii_text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{start:08x}  {part.hex(' '):<{3 * _HEX_LINE - 1}}  {ascii_text}")
    return "\n".join(lines)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode()
