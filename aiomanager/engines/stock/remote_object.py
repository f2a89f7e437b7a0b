"""One object at a stock host, as the engine calls it: found by its name, and found again where the
host was restarted."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio

from ..._concurrency.futures import replica
from ..._ground.errors import (
    AioManagerError,
    ConfigurationError,
    ConnectionLostError,
    RemoteError,
    unanswered,
)
from ..._transport.base import Conversation
from ..._transport.patience import Pauses
from ..._transport.pool import ConnectionPool
from .leftovers import Leftovers, Target

T = TypeVar("T")

# Seconds after which a host is asked for a sign of life while somebody waits there without end.
PROBE = 5.0


class ObjectGoneError(Exception):
    """The host does not know the object any more, so the call has not happened. Another one was
    looked for at the next `found`."""


class StockObject:
    """A queue object of a stock host.

    Args:
        resolve: finds the object at the host; given the one that the host does not know any more,
            finds it anew or raises.
        held: keeps the object that was found.

    Attributes:
        patience: seconds within which a call that waits for nothing has ended.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        resolve: Callable[[Target | None], Awaitable[Target]],
        held: Leftovers,
    ) -> None:
        self.patience = pool.call_timeout + pool.reconnect
        self._pool = pool
        self._resolve = resolve
        self._held = held
        self._finding = anyio.Lock()
        self._refusal: AioManagerError | None = None
        self._gone: Target | None = None  # what the host did not know any more
        self._same_run = False  # of the host that had known it
        self._known_by = 0  # connections that there had been when the host knew the object last

    # -- finding ------------------------------------------------------------------------------

    async def found(self) -> Target:
        """The object. Those who ask at the same time share one look: a name may give a new object
        each time it is called."""
        async with self._finding:
            if self._held.given_up:
                raise closed()
            if self._held.target is None:
                if self._refusal is not None:
                    raise replica(self._refusal)
                self._held.target = await self._find()
                self.known(self._pool.opened)
            return self._held.target

    async def found_by(self, deadline: float) -> Target:
        """`found`, until a time of the event loop's clock."""
        with anyio.move_on_after(deadline - anyio.current_time()):
            return await self.found()
        raise unanswered(self.patience, sent=False)

    async def _find(self) -> Target:
        """Look for the object, for the first time or since the host does not know it any more.

        A restarted host has another under its name. In the same run of the host it was deleted,
        by somebody who gave up more references than he had. Then a name that gives a new object
        each time, as a second call shows, gives one where nothing is of what was put. The id alone
        says nothing: it is an address, which another object has soon.
        """
        gone = self._gone
        target = await self._resolve(gone)
        if "put" not in target.methods or "get" not in target.methods:
            await self._unused(target)
            raise ConfigurationError(
                "what is registered under this name is no queue: it has no put and get"
            )
        if gone is not None and self._same_run:
            again = await self._resolve(gone)
            await self._unused(again)
            if again.ident != target.ident:
                await self._unused(target)
                self._refusal = RemoteError(
                    "the host has deleted the queue, and its name gives another one each time"
                )
                raise self._refusal
        return target

    async def _unused(self, target: Target) -> None:
        """Give back the reference that the host counts, if it counts one for this."""
        if target.reference is None:
            with contextlib.suppress(AioManagerError):
                await self._pool.function_once("decref", target.ident)

    def known(self, connections: int) -> None:
        """The host has answered on one of the first so many connections, and knew the object."""
        self._known_by = max(self._known_by, connections)

    async def check(self, target: Target, error: Exception) -> None:
        """Raise `ObjectGoneError` where an error says that the host does not know the object."""
        if not target.is_unknown(error):
            return
        async with self._finding:
            if self._held.target is target:
                self._held.target = None
                self._gone = target
                # A connection that was there when the host knew the object is one to the same run.
                self._same_run = self._pool.has_one_of_the_first(self._known_by)
        raise ObjectGoneError from error

    async def give_up(self) -> None:
        """Use the object no more."""
        target, self._held.target = self._held.target, None
        if target is not None:
            await self._unused(target)

    # -- calling ------------------------------------------------------------------------------

    async def run(
        self, target: Target, conversation: Callable[[Target], Conversation[T]], seconds: float
    ) -> T:
        """Run a conversation which waits for up to so many seconds."""
        before = self._pool.opened
        try:
            if seconds:
                patience = seconds + self._pool.call_timeout
                value = await self._pool.wait(conversation(target), patience)
            else:
                value = await self._pool.call(conversation(target))
        except RemoteError as exc:
            await self.check(target, exc)
            raise
        self.known(before)
        return value

    async def ask(self, method: str, *args: Any, missing: str) -> Any:
        """Call what may be called twice, until the host has answered.

        Raises:
            ConfigurationError: the object does not have the method; says what is `missing`.
        """

        async def call() -> Any:
            while True:
                target = await self.found()
                if method not in target.methods:
                    raise ConfigurationError(missing)
                with contextlib.suppress(ObjectGoneError):
                    return await self.run(target, lambda target: target.call(method, *args), 0.0)

        return await self._again_if_lost(call, self.patience)

    async def _again_if_lost(self, work: Callable[[], Awaitable[T]], patience: float) -> T:
        give_up = anyio.current_time() + patience
        pauses = Pauses()
        with anyio.move_on_after(patience):
            while True:
                try:
                    return await work()
                except ConnectionLostError as exc:
                    if exc.outcome_known or self._pool.closed:
                        raise
                    await pauses.sleep(give_up)
        raise unanswered(patience, sent=True)

    # -- joining ------------------------------------------------------------------------------

    async def join(self) -> None:
        """Wait until all is done, as long as the host is there."""
        pauses = Pauses()
        give_up = anyio.current_time() + self.patience
        while True:
            try:
                await self._join_once(give_up)
                return
            except ObjectGoneError:
                pass
            except ConnectionLostError as exc:
                if exc.outcome_known or self._pool.closed:
                    raise
                if anyio.current_time() >= give_up:  # the host had been there until now
                    give_up = anyio.current_time() + self.patience
                await pauses.sleep(give_up)

    async def _join_once(self, give_up: float) -> None:
        target = await self.found_by(give_up)
        if "join" not in target.methods:
            raise ConfigurationError("this queue has no join(): it is not a joinable one")
        error: Exception | None = None
        async with anyio.create_task_group() as group:

            async def until_it_ends(work: Callable[[], Awaitable[object]]) -> None:
                nonlocal error
                try:
                    await work()
                except Exception as exc:
                    error = exc
                group.cancel_scope.cancel()

            # Nothing says how long that may take, so the host is asked whether it is still there.
            group.start_soon(until_it_ends, lambda: self._pool.wait(target.call("join"), None))
            group.start_soon(until_it_ends, lambda: self._watch(target))
        if error is not None:
            await self.check(target, error)
            raise error

    async def _watch(self, target: Target) -> None:
        pause = min(PROBE, self._pool.call_timeout / 2)
        while True:
            await anyio.sleep(pause)
            try:
                await self._again_if_lost(
                    lambda: self.run(target, lambda target: target.call("__str__"), 0.0),
                    self.patience - pause,
                )
            except ConnectionLostError as exc:
                raise ConnectionLostError(str(exc)) from exc  # a join changes nothing


def closed() -> ConnectionLostError:
    """The error of what comes too late."""
    return ConnectionLostError("this queue was closed, or this process ends")
