"""The commands, in the order of the help."""

from __future__ import annotations

import inspect
from typing import Annotated

import typer

from aiomanager import __version__

from ._consume import consume
from ._control import keygen, shutdown
from ._demo.command import demo
from ._get import get
from ._put import put
from ._serve import serve
from ._stats import stats

HELP = """Queues that processes share, hosted by multiprocessing's managers.

See it work: [bold]aiomanager demo[/bold]. By hand: [bold]aiomanager serve --queue jobs[/bold] in
one terminal says what the others need for [bold]aiomanager put jobs[/bold] and
[bold]aiomanager get jobs[/bold].
"""


def _paragraphs(docstring: str) -> str:
    """A docstring with each paragraph on one line, as the help breaks lines by itself."""
    paragraphs = inspect.cleandoc(docstring).split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


app = typer.Typer(
    help=_paragraphs(HELP),
    no_args_is_help=True,
    rich_markup_mode="rich",
    # A traceback is for developers, who want Python's own.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"aiomanager {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    pass


for command in (demo, serve, put, get, consume, stats, shutdown, keygen):
    app.command(help=_paragraphs(command.__doc__ or ""))(command)
