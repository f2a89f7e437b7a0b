"""`aiomanager demo`: what the package is for, to be seen."""

from __future__ import annotations

import sys
from enum import StrEnum
from functools import partial
from typing import Annotated

import typer

from .._running import run


class Transport(StrEnum):
    """What connects the processes."""

    unix = "unix"
    tcp = "tcp"
    both = "both"


def demo(
    transport: Annotated[
        Transport, typer.Option("--transport", "-t", help="What connects the processes.")
    ] = Transport.tcp if sys.platform == "win32" else Transport.both,
    items: Annotated[
        int, typer.Option("--items", "-n", metavar="N", min=1, help="How many items to send.")
    ] = 10_000,
) -> None:
    """See four processes share one queue.

    A host that holds the queue, a producer that puts the items, a consumer that counts them, and
    a terminator that ends the consumer by a None: over a Unix socket, and over TCP. It is an error
    if not every item arrives.
    """
    from .story import tell_stories

    transports = [Transport.unix, Transport.tcp] if transport is Transport.both else [transport]
    run(partial(tell_stories, [str(each) for each in transports], items))
