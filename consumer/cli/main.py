"""The command tree."""

import typer

from consumer.cli import dlq, env, schema
from consumer.cli import run as run_command
from consumer.cli.demo import demo
from consumer.cli.doctor import doctor
from consumer.cli.publish import publish
from consumer.cli.watch import watch

app = typer.Typer(
    name="moorage",
    help="Turns reservation events from Kafka into running environments, and takes them away again.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

app.command("run")(run_command.run)
app.command("demo")(demo)
app.command("publish")(publish)
app.command("watch")(watch)
app.command("doctor")(doctor)
app.add_typer(dlq.app, name="dlq")
app.add_typer(env.app, name="env")
app.add_typer(schema.app, name="schema")


def main() -> None:
    app()
