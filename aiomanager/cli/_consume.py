"""`aiomanager consume`: a command for each item."""

from __future__ import annotations

import logging
import shlex
import shutil
import signal
from dataclasses import dataclass
from types import TracebackType
from typing import Annotated, Any, Self

import anyio
import anyio.abc
import typer

import aiomanager
from aiomanager import NO_SENTINEL, DecodeError, Delivery

from . import _standard
from ._commands import PLACEHOLDER, CommandFailed, Commands, Killed, describe
from ._items import Form
from ._options import Connection, connected
from ._running import INTERRUPTED, CommandError, complain, note, one_line, run


@connected
def consume(
    queue: Annotated[str, typer.Argument(help="The queue's name at the host.")],
    connection: Connection,
    command: Annotated[
        str,
        typer.Option(
            "--exec",
            "-x",
            metavar="COMMAND",
            help="What to run for each item, without a shell. {} in an argument stands for the "
            "item, which the command also has on its standard input.",
        ),
    ],
    concurrency: Annotated[
        int,
        typer.Option("--concurrency", "-j", metavar="N", min=1, help="How many run at once."),
    ] = 1,
    retries: Annotated[
        int,
        typer.Option("--retries", metavar="N", min=0, help="How often a failed item is retried."),
    ] = 0,
    backoff: Annotated[
        float,
        typer.Option(
            "--backoff",
            metavar="SECONDS",
            min=0,
            help="The pause before the first retry, doubled for each later one up to a minute.",
        ),
    ] = 1.0,
    dead_letter: Annotated[
        str | None,
        typer.Option("--dead-letter", metavar="QUEUE", help="Where items go that failed for good."),
    ] = None,
    keep_going: Annotated[
        bool,
        typer.Option("--keep-going", "-k", help="Drop them instead, and go on."),
    ] = False,
    drain_timeout: Annotated[
        float,
        typer.Option(
            "--drain-timeout",
            metavar="SECONDS",
            min=0,
            help="How long commands may go on after Ctrl-C or SIGTERM; inf for ever.",
        ),
    ] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Hand items over as JSON.")] = False,
    no_sentinel: Annotated[
        bool, typer.Option("--no-sentinel", help="None is an item like others, and ends nothing.")
    ] = False,
) -> None:
    """Run a command for each item of a queue.

    Until a sentinel (None) comes or the queue is shut down. An item is done when its command exits
    with 0. One that fails for good stays in the queue and ends this, unless there is a
    [bold]--dead-letter[/bold] queue or [bold]--keep-going[/bold]. Ctrl-C lets running commands
    end; a second one kills them, and their items are handed out again.
    """
    if keep_going and dead_letter is not None:
        raise typer.BadParameter("--keep-going and --dead-letter exclude each other")
    form = Form.JSON if as_json else Form.TEXT
    parts = _split(command)

    # What the library logs there is what `_Failures` says in more words.
    logging.getLogger("aiomanager").addFilter(lambda record: "gave up" not in record.msg)

    async def main() -> int:
        commands = Commands(parts, form)
        failures = _Failures(parts, form, retries, gives_up=keep_going or dead_letter is not None)
        async with connection.open() as manager, _Stopping(commands, drain_timeout) as stopping:
            jobs = manager.queue(queue)
            letters = None if dead_letter is None else manager.queue(dead_letter)
            for each in (jobs, letters):
                if each is not None:
                    await each.empty()  # a wrong name shows at once
            with stopping.drained:
                await aiomanager.consume(
                    jobs,
                    commands,
                    concurrency=concurrency,
                    retries=retries,
                    backoff=backoff,
                    dead_letter=letters,
                    on_error=failures.on_error,
                    sentinel=NO_SENTINEL if no_sentinel else None,
                    drain_timeout=drain_timeout,
                )
        if failures.given_up:
            where = "dropped" if dead_letter is None else f"in {dead_letter!r}"
            complain(f"{failures.given_up} failed for good, {where}")
            return 1
        return INTERRUPTED if stopping.first == signal.SIGINT else 0

    run(main)


def _split(command: str) -> list[str]:
    hint = "--exec"
    try:
        parts = shlex.split(command)
    except ValueError as exc:
        raise typer.BadParameter(f"{command!r}: {exc}", param_hint=hint) from None
    if not parts:
        raise typer.BadParameter("give a command", param_hint=hint)
    # Found out here, it is nobody's fault; for each item, it would be the item's.
    if PLACEHOLDER not in parts[0] and shutil.which(parts[0]) is None:
        raise typer.BadParameter(f"there is no command {parts[0]!r}", param_hint=hint)
    return parts


@dataclass
class _Failures:
    """Says what failed.

    Attributes:
        gives_up: whether items that failed for good leave the queue.
        given_up: how many did.
    """

    parts: list[str]
    form: Form
    retries: int
    gives_up: bool
    given_up: int = 0

    def on_error(self, delivery: Delivery[Any], error: Exception) -> None:
        """Print a failure; raise it again where the item is to stay and everything to end."""
        if isinstance(error, CommandFailed):
            what = f"{describe(self.parts, delivery.item, self.form)}: {error}"
        elif isinstance(error, DecodeError):
            what = one_line(error)
        else:
            raise error
        if delivery.attempt <= self.retries:
            complain(f"{what} (attempt {delivery.attempt} of {self.retries + 1})")
        elif self.gives_up:
            complain(what)
            self.given_up += 1
        else:
            raise CommandError(
                f"{what}; the item is in the queue again (--dead-letter QUEUE sets such items "
                "aside, --keep-going drops them)"
            )


class _Stopping:
    """Lets the first signal in its `async with` block drain, and the second kill.

    Attributes:
        drained: what the first signal cancels.
        first: that signal, if there was one.
    """

    def __init__(self, commands: Commands, drain_timeout: float) -> None:
        self.drained = anyio.CancelScope()
        self.first: signal.Signals | None = None
        self._commands = commands
        self._drain_timeout = drain_timeout
        self._tasks = anyio.create_task_group()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        await self._tasks.start(self._wait_for_signals)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._tasks.cancel_scope.cancel()
        await self._tasks.__aexit__(None, None, None)
        return _only_killed(exc)

    async def _wait_for_signals(
        self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for number in signals:
                if self.first is None:
                    self.first = number
                    self.drained.cancel()
                    self._say_what_runs()
                else:
                    self._commands.kill()

    def _say_what_runs(self) -> None:
        running = self._commands.running
        if running and _standard.is_terminal(_standard.ERROR):
            what = "1 command" if running == 1 else f"{running} commands"
            note(f"waiting up to {self._drain_timeout:g} s for {what}; Ctrl-C again kills")


def _only_killed(error: BaseException | None) -> bool:
    parts: tuple[BaseException, ...] = getattr(error, "exceptions", ())
    return all(map(_only_killed, parts)) if parts else isinstance(error, Killed)
