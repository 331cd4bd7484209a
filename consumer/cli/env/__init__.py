"""`moorage env`: what runs, for whom, until when, and what it uses; and the two things operators change about that.

Whatever is changed goes through the reservation's own topic as an event, never around it.
"""

import typer

from consumer.cli.env.details import show
from consumer.cli.env.handout import kubeconfig
from consumer.cli.env.listing import list_reservations
from consumer.cli.env.orders import extend, release
from consumer.cli.env.usage import top

app = typer.Typer(
    help="What runs, for whom, until when: list it, look at one, see what it uses, end it, extend it.",
    no_args_is_help=True,
)
app.command("list")(list_reservations)
app.command("show")(show)
app.command("top")(top)
app.command("kubeconfig")(kubeconfig)
app.command("release")(release)
app.command("extend")(extend)
