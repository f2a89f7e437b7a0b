"""`Condition`s at a manager, as coroutines use them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

import anyio

from .._concurrency.finalizers import on_behalf_of_nobody
from .._concurrency.futures import run_to_completion
from .._transport.base import Conversation
from .locks import AsyncLock, Ownership, release_all, releasing_all
from .references import Reference
from .signatures import Condition, shown_as

R = TypeVar("R")


class AsyncCondition(AsyncLock):
    """A `Condition`; an async context manager, as it is a lock too."""

    _own = frozenset({"acquire", "release", "wait", "notify", "notify_all"})
    _kind = re.compile(r"<Condition\(")

    async def _is_owned(self) -> bool:
        return True

    @shown_as(Condition.wait)
    async def wait(self, *args: Any, **kwds: Any) -> Any:
        """`wait(timeout=None)`: release the lock, wait up to `timeout` seconds, for ever if None,
        for a notification, and acquire the lock again, which may take longer; whether there was a
        notification.

        Each waiting task costs a thread and a connection, here and at the host. The host is not
        asked in slices: a notification that comes while a slice that has ended waits for the lock
        would be lost. As with any condition, look in a loop whether what you wait for is there, or
        use `wait_for`.

        Cancelled, this task does not own the lock any more, at once: what follows up to its
        release runs without it, and the release does nothing. At the host the wait is ended by a
        `notify_all`, so others may wake for nothing; a notification that comes for a task that has
        left is passed on.
        """
        if self._ownership is None and not await self._is_of_its_kind():
            return await self._call("wait", *args, **kwds)
        return await self._wait(*args, **kwds)

    @overload
    async def wait_for(
        self, predicate: Callable[[], Awaitable[R]], timeout: float | None = None
    ) -> R: ...
    @overload
    async def wait_for(self, predicate: Callable[[], R], timeout: float | None = None) -> R: ...
    async def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        """Wait up to `timeout` seconds, for ever if None, until the predicate is true, and return
        what it returned last. It may be a coroutine function, and is called with the lock held,
        after each notification and at least once in each slice of half a second.

        Cancelled, as `wait`.
        """
        host = self._reference.host
        deadline = None if timeout is None else anyio.current_time() + timeout
        while True:
            result = predicate()
            if inspect.isawaitable(result):
                result = await result
            left = host.wait_slice
            if deadline is not None:
                left = min(left, deadline - anyio.current_time())
            if result or left <= 0:
                return result
            await self.wait(left)

    @shown_as(Condition.notify)
    async def notify(self, *args: Any, **kwds: Any) -> Any:
        """`notify(n=1)`: wake up to `n` of those who wait; RuntimeError where this task does not
        own the lock. Cancelled, they are woken all the same."""
        return await self._notify("notify", *args, **kwds)

    @shown_as(Condition.notify_all)
    async def notify_all(self, *args: Any, **kwds: Any) -> Any:
        """Wake all who wait; as `notify`."""
        return await self._notify("notify_all", *args, **kwds)

    async def _notify(self, method: str, *args: Any, **kwds: Any) -> Any:
        if self._ownership is None and not await self._is_of_its_kind():
            return await self._call(method, *args, **kwds)
        ownership = self._owned(method)
        reference = ownership.reference
        conversation = reference.answer(reference.request(method, *args, **kwds))
        return await run_to_completion(
            lambda: reference.host.call_with_cleanup(
                ownership.connection,
                conversation,
                reference.host.call_timeout,
                release_all(reference),
            )
        )

    def _owned(self, purpose: str) -> Ownership:
        ownership = self._ownership
        if ownership is None or ownership.lost:
            raise RuntimeError(f"cannot {purpose}: this task does not own {self!r}; acquire it")
        return ownership

    async def _wait(self, timeout: float | None = None) -> bool:
        ownership = self._owned("wait")
        reference = ownership.reference
        host = reference.host
        ownership.waits = True

        async def work() -> bool:
            try:
                return await host.call_with_cleanup(
                    ownership.connection,
                    reference.tell("wait", timeout),
                    None,
                    release_all(reference),
                    wake=lambda: host.converse_now(_waking(reference, 0.5)),
                )
            finally:
                ownership.waits = False

        try:
            return await run_to_completion(
                work,
                discard=lambda notified: on_behalf_of_nobody(
                    lambda: _end_wait(reference, ownership, notified)
                ),
            )
        except Exception:
            raise
        except BaseException:
            ownership.lost = True
            if timeout is None or timeout > host.wait_slice:
                on_behalf_of_nobody(lambda: _wake(reference, ownership))
            raise


async def _end_wait(reference: Reference, ownership: Ownership, notified: bool) -> None:
    """A wait is over whose task has left."""
    try:
        await reference.host.call_with_cleanup(
            ownership.connection,
            releasing_all(reference, notify=notified),
            reference.host.call_timeout,
            release_all(reference),
        )
    finally:
        reference.host.give_back(ownership.connection)


def _waking(reference: Reference, seconds: float) -> Conversation[bool]:
    """Wake all who wait, if the lock is to be had."""
    if not (yield from reference.tell("acquire", True, seconds)):
        return False
    yield from reference.tell("notify_all")
    yield from reference.tell("release")
    return True


async def _wake(reference: Reference, ownership: Ownership) -> None:
    host = reference.host
    awake = False
    while ownership.waits and not awake:
        connection = await reference.borrow()
        try:
            awake = await host.call_with_cleanup(
                connection, _waking(reference, host.wait_slice), host.call_timeout, lambda _: None
            )
        finally:
            host.give_back(connection)
