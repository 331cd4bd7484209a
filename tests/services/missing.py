"""How a service says that it cannot be had here, and what people should know about the one they got instead."""

import sys

notes: list[str] = []
"""What was said so far, for a summary at the end of a test run."""


class ServiceMissing(Exception):
    """This machine cannot offer the service. The message says what would change that."""


def note(text: str) -> None:
    """Tell people now and, through `notes`, once more at the end."""
    if text not in notes:
        notes.append(text)
        say(text)


def say(text: str) -> None:
    """Progress: on standard error, so that standard output stays for what scripts read."""
    print(f"[services] {text}", file=sys.stderr, flush=True)
