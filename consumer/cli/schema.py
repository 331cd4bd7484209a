"""`moorage schema`: the contract with the outside, as files."""

from pathlib import Path
from typing import Annotated

import typer

from schemas.documents import documents

app = typer.Typer(help="The message contract as JSON Schema and AsyncAPI.", no_args_is_help=True)


@app.callback()
def schema() -> None:
    """The message contract as JSON Schema and AsyncAPI."""


@app.command()
def export(
    out: Annotated[Path, typer.Option(help="The folder to write to.")] = Path("docs/schema"),
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail when a file is stale.")] = False,
) -> None:
    """Write JSON Schema for every message, and the AsyncAPI document."""
    current = documents()
    if check:
        stale = stale_files(out, current)
        for name in stale:
            typer.echo(f"stale: {out / name}", err=True)
        if stale:
            typer.echo("Run `moorage schema export` and commit what it writes.", err=True)
            raise typer.Exit(1)
        return
    out.mkdir(parents=True, exist_ok=True)
    for name, text in current.items():
        (out / name).write_text(text, encoding="utf-8")
        typer.echo(out / name)


def stale_files(folder: Path, current: dict[str, str]) -> list[str]:
    """The names, sorted, of files in `folder` that differ from `current`, are missing, or are JSON left over."""
    there = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.json")}
    return sorted(name for name in there.keys() | current.keys() if there.get(name) != current.get(name))
