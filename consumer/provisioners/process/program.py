"""What runs in an environment: command, variables and limits, made from the spec. No I/O here."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from consumer.catalog.environment import EnvironmentSpec, Limits, Port
from consumer.catalog.identity import HTTP_PORT
from consumer.handling.errors import Permanent
from consumer.provisioners.process import page
from consumer.provisioners.process.processes import KEY_VARIABLE
from consumer.provisioners.process.sockets import BoundPort
from consumer.provisioners.process.store import HOME, RECORD_FILE

_PAGE_PORT = 80


@dataclass(frozen=True, slots=True)
class Program:
    """`working_dir` is below the environment's home. `limits` are names of `resource` and their values."""

    command: tuple[str, ...]
    environment: dict[str, str]
    working_dir: Path
    limits: dict[str, int]


def has_page(spec: EnvironmentSpec) -> bool:
    """Whether our own page is served, because the template has no command."""
    return not spec.command


def ports_of(spec: EnvironmentSpec) -> tuple[Port, ...]:
    """The ports to bind: a page always has one."""
    if has_page(spec) and not any(port.protocol == "tcp" for port in spec.ports):
        return (*spec.ports, Port(_PAGE_PORT))
    return spec.ports


def page_labels(spec: EnvironmentSpec) -> dict[str, str]:
    """The label that makes a page's port the environment's URL, if the template names none."""
    if not has_page(spec) or spec.access.http_port is not None:
        return {}
    return {HTTP_PORT: str(next(port.container for port in ports_of(spec) if port.protocol == "tcp"))}


def check(spec: EnvironmentSpec) -> None:
    """Raise `Permanent("invalid_spec")` for what could not be started, or only outside the environment's directory."""
    if not spec.name or spec.name.startswith(".") or PurePosixPath(spec.name).name != spec.name:
        raise Permanent("invalid_spec", "The environment's name cannot be the name of a directory.")
    if not spec.key.isalnum():
        raise Permanent("invalid_spec", "The environment's key must be letters and digits.")
    if ".." in _folder(spec).parts:
        raise Permanent("invalid_spec", "The working directory may not contain “..”.")
    texts = (*spec.command, *spec.environment, *spec.environment.values(), str(_folder(spec)))
    names_are_fine = all(name and "=" not in name for name in spec.environment)
    if not names_are_fine or not all(map(_can_be_passed_on, texts)):
        raise Permanent("invalid_spec", "The command or an environment variable contains a character it cannot have.")


def program_of(spec: EnvironmentSpec, directory: Path, bound: Sequence[BoundPort], open_files: int) -> Program:
    """The program of a checked spec. Nothing of Moorage's own environment gets in."""
    home = directory / HOME
    variables = {"PATH": os.defpath, "HOME": str(home), "LANG": "C.UTF-8"} | dict(spec.environment)
    variables |= _port_variables(spec, bound)
    variables[KEY_VARIABLE] = spec.key
    command = spec.command
    if has_page(spec):
        command = (sys.executable, "-I", "-S", page.__file__)
        tcp = [str(port.socket.fileno()) for port in bound if port.port.protocol == "tcp"]
        variables |= {page.RECORD_VARIABLE: str(directory / RECORD_FILE), page.SOCKETS_VARIABLE: ",".join(tcp)}
    return Program(command, variables, home / _folder(spec), _resource_limits(spec.limits, open_files))


def _can_be_passed_on(text: str) -> bool:
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _folder(spec: EnvironmentSpec) -> PurePosixPath:
    # An absolute path means one inside the environment, as it does in a container.
    return PurePosixPath((spec.working_dir or "").lstrip("/"))


def _port_variables(spec: EnvironmentSpec, bound: Sequence[BoundPort]) -> dict[str, str]:
    variables: dict[str, str] = {}
    for each in bound:
        suffix = f"{each.port.port}" if each.port.protocol == "tcp" else f"{each.port.port}_UDP"
        variables |= {f"PORT_{suffix}": str(each.port.host_port), f"LISTEN_FD_{suffix}": str(each.socket.fileno())}
    tcp = [each for each in bound if each.port.protocol == "tcp"]
    if main := next((each for each in tcp if each.port.port == spec.access.http_port), tcp[0] if tcp else None):
        variables |= {"PORT": str(main.port.host_port), "LISTEN_FD": str(main.socket.fileno())}
    return variables


def _resource_limits(limits: Limits, open_files: int) -> dict[str, int]:
    wanted = {"RLIMIT_CORE": 0, "RLIMIT_NOFILE": open_files}
    if limits.storage_bytes is not None:
        wanted["RLIMIT_FSIZE"] = limits.storage_bytes
    if limits.memory_bytes is not None:
        # Not RLIMIT_AS: Go, Java and Node reserve address space that they never use.
        wanted["RLIMIT_DATA"] = limits.memory_bytes
    return wanted
