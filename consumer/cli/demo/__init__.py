"""`moorage demo`: a morning of a teaching lab, for real, on this machine and in under a minute."""

from consumer.cli.demo.command import demo

__all__ = ["demo"]
