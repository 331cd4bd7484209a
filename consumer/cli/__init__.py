"""The `moorage` command. One file a command; none of them holds logic of its own."""

from consumer.cli.main import main

__all__ = ["main"]
