"""`moorage env kubeconfig`: what lets a user at their pod, for an operator to hand on."""

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Protocol, runtime_checkable

import typer

from consumer.catalog.identity import reservation_key
from consumer.cli.console import Exit, run_async
from consumer.cli.env.look import answer_of, provisioner_of, reservation_id
from consumer.cli.kafka import begin
from consumer.cli.text import note, refuse
from consumer.parts import catalog_of
from consumer.settings import Settings


@runtime_checkable
class GivesKubeconfigs(Protocol):
    """A provisioner whose environments may have one."""

    async def kubeconfig(self, key: str) -> str | None:
        """That of the environment of this key, if there is one."""
        ...


def kubeconfig(
    reservation: Annotated[str, typer.Argument(metavar="RESERVATION", parser=reservation_id)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file for it, which nobody else can read.", dir_okay=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
) -> None:
    """Hand out the kubeconfig of a reservation on Kubernetes: whoever has it gets at its pod until it ends.

    Exit codes: 5 there is none, 1 a runtime did not answer or the file cannot be written.
    """
    found, complete = run_async(_found(begin(), reservation))
    if found is None:
        if not complete:
            raise typer.Exit(Exit.FAILED)
        refuse(
            f"There is no kubeconfig of {reservation}: its template has to say `kubernetes: {{kubeconfig: true}}`, and "
            "its environment to run.",
            Exit.NOT_FOUND,
        )
    if output is None:
        typer.echo(found, nl=False)
        return
    try:
        _write(output, found, replace=force)
    except FileExistsError:
        refuse(f"{output} is there already: name another file, or replace it with --force.", Exit.FAILED)
    except OSError as error:
        refuse(f"{output} cannot be written: {error.strerror}.", Exit.FAILED)
    note(f"Written to {output}: whoever reads it gets at the environment of {reservation}.")


async def _found(settings: Settings, reservation: str) -> tuple[str | None, bool]:
    """The kubeconfig, if there is one, and whether everybody answered who might have it."""
    key = reservation_key(settings.instance, reservation)
    answers = await asyncio.gather(*(_of(settings, each, key) for each in _clusters(settings)))
    return next((each for each in answers if each), None), None not in answers


def _clusters(settings: Settings) -> Iterable[str]:
    return [each for each in sorted(catalog_of(settings).runtimes) if each.partition("@")[0] == "kubernetes"]


async def _of(settings: Settings, runtime: str, key: str) -> str | None:
    """That of one runtime, empty if it has none; None, and an error on the terminal, when it does not answer."""
    if (provisioner := provisioner_of(settings, runtime)) is None:
        return None
    try:
        if not isinstance(provisioner, GivesKubeconfigs):
            return ""
        return await answer_of(runtime, _or_empty(provisioner, key))
    finally:
        await provisioner.close()


async def _or_empty(provisioner: GivesKubeconfigs, key: str) -> str:
    return await provisioner.kubeconfig(key) or ""


def _write(file: Path, text: str, *, replace: bool) -> None:
    """A whole file or none, for its owner alone from the first moment. Raises FileExistsError."""
    draft = file.with_name(f".{file.name}.{os.getpid()}") if replace else file
    opened = os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8")
    try:
        with opened:
            opened.write(text)
        if replace:
            draft.replace(file)
    except OSError:
        draft.unlink()
        raise
