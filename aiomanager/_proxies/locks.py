"""Locks at a manager, as coroutines use them.

The host knows two kinds. A `Lock` or a `Semaphore` belongs to nobody, and any connection may
release it. An `RLock` or a `Condition` belongs to the connection that acquired it: its task keeps
that connection until the release, and the lock is given up when the task ends.

What the host grants to somebody who has left is released at once, also where the event loop has
ended in between. It is not where the process is killed: then the host's thread goes on waiting
until the end of the slice, and keeps what it gets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self
from weakref import WeakKeyDictionary

import anyio

from .._concurrency.event_loop import EachLoop, current_task, on_task_end
from .._concurrency.finalizers import afterwards, on_behalf_of_nobody
from .._concurrency.futures import run_to_completion
from .._ground.addresses import Address
from .._transport.base import Conversation
from .._transport.thread import ThreadConnection
from .base import AsyncProxy, Limit
from .long_poll import LongPoll
from .references import Reference
from .signatures import Lock, shown_as


@dataclass(frozen=True)
class _Acquired:
    """What the host has granted: to a connection, if the lock is owned, else to whoever releases
    it."""

    connection: ThreadConnection | None


class Ownership:
    """The ownership of a lock by a task.

    Attributes:
        reference: keeps the lock at the host, whatever becomes of who acquired it.
        depth: how often the task has to release it.
        lost: the lock was given up on behalf of the task, which has nothing to release any more.
    """

    def __init__(self, reference: Reference, connection: ThreadConnection) -> None:
        self.reference = reference
        self.connection = connection
        self.depth = 1
        self.lost = False
        self.waits = False  # a Condition's wait is at the host
        self.forget: Callable[[], object] = lambda: None


# What tasks own: a lock at a host is one, however often it was looked up. A task's part of it ends
# with the task.
_Ownerships = dict[tuple[Address, str], Ownership]
_ownerships: EachLoop[WeakKeyDictionary[Any, _Ownerships]] = EachLoop(WeakKeyDictionary)


class AsyncLock(AsyncProxy):
    """A `Lock`, `RLock`, `Semaphore` or `BoundedSemaphore`; an async context manager.

    Any number of waiting tasks cost one thread and one connection; within an event loop they are
    served first come, first served. An `RLock` belongs to the task that acquired it, however many
    wrapped objects the task has for it: this task may acquire it again, it alone may release it,
    and where it ends without that it has released it.

    What has their methods and is none of these, a class of one's own, is called with the arguments
    as they are given, and each waiting task costs a thread. Cancelled, an `acquire` without
    arguments that is granted all the same is released.
    """

    _own = frozenset({"acquire", "release"})
    _kind = re.compile(
        r"<((un)?locked )?((_thread|threading|multiprocessing\.synchronize)\.)?"
        r"_?(lock|Lock|RLock|Semaphore|BoundedSemaphore)\b"
    )

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.release()

    @shown_as(Lock.acquire)
    async def acquire(self, *args: Any, **kwds: Any) -> Any:
        """`acquire(blocking=True, timeout=None)`: acquire the lock, and say whether that was done.

        Args:
            blocking: wait for it.
            timeout: seconds to wait; None, or less than 0, for ever.

        Cancelled, it has not acquired the lock; if the host grants it all the same, it is released
        at once.
        """
        limit = _limit_of(args, kwds)
        ownership = self._ownership
        if ownership is None and not await limit.keep(self._is_of_its_kind):
            return await self._acquire_as_it_is(*args, **kwds)
        blocking, timeout = _arguments(*args, **kwds)
        if ownership is not None:
            await limit.keep(lambda: self._acquire_again(ownership))
            return True
        reference = self._reference
        owned = await self._is_owned()
        if not blocking or timeout == 0:
            acquired = await limit.keep(
                lambda: self._in_turn(
                    "acquire", partial(_acquire, reference, owned, 0), partial(_give_up, reference)
                )
            )
        else:
            waits = reference.host.shared(
                reference.ident, "waits for a lock", partial(_waits_for_lock, reference, owned)
            )
            acquired = await waits.wait(limit.left(), limit.latest)
        if acquired is None:
            return False
        if acquired.connection is not None:
            self._take_ownership(acquired.connection)
        return True

    async def _acquire_as_it_is(self, *args: Any, **kwds: Any) -> Any:
        reference = self._reference
        reference.check("acquire")
        request = reference.request("acquire", *args, **kwds)

        def give_up(acquired: object) -> None:
            if acquired and not args and not kwds:
                on_behalf_of_nobody(lambda: reference.ask(reference.request("release"), 0))

        return await self._in_turn("acquire", lambda: reference.ask(request), give_up)

    @shown_as(Lock.release)
    async def release(self, *args: Any, **kwds: Any) -> Any:
        """`release(n=1)`: release the lock, or a semaphore `n` times. Cancelled, it waits all the
        same until that is done.

        Raises RuntimeError where this task does not own it, if it is of a kind that is owned, and
        ValueError for a `BoundedSemaphore` that was released too often.
        """
        ownership = self._ownership
        with anyio.CancelScope(shield=True):
            if ownership is None and not await self._is_of_its_kind():
                return await self._call("release", *args, **kwds)
            if ownership is None and await self._is_owned():
                raise RuntimeError(
                    f"cannot release {self!r}: this task has not acquired it. It belongs to the "
                    "task that acquires it, and is released by the same."
                )
            if ownership is None:
                reference = self._reference
                await run_to_completion(lambda: _release(reference, None, *args, **kwds))
                return None
            ownership.depth -= 1
            if not ownership.depth:
                self._end_ownership(ownership)
            if not ownership.lost:
                await run_to_completion(
                    lambda: _release(
                        ownership.reference, ownership.connection, last=ownership.depth == 0
                    )
                )
        return None

    async def _is_owned(self) -> bool:
        """Whether it belongs to the connection that acquired it. Of those with these methods the
        standard library has but one beside the Condition."""
        return "RLock" in await self._reference.described()

    # -- ownership ----------------------------------------------------------------------------

    @property
    def _key(self) -> tuple[Address, str]:
        return self._reference.host.address, self._reference.ident

    @property
    def _ownership(self) -> Ownership | None:
        """What the running task has of this lock."""
        ownerships = _ownerships.here().get(current_task())
        return None if ownerships is None else ownerships.get(self._key)

    def _take_ownership(self, connection: ThreadConnection) -> None:
        ownerships = _ownerships.here().setdefault(current_task(), {})
        ownership = ownerships[self._key] = Ownership(self._reference, connection)
        ownership.forget = on_task_end(partial(_owner_ended, ownerships, self._key, ownership))

    def _end_ownership(self, ownership: Ownership) -> None:
        del _ownerships.here()[current_task()][self._key]
        ownership.forget()

    async def _acquire_again(self, ownership: Ownership) -> None:
        if ownership.lost:
            raise RuntimeError(f"{self!r} was given up when a wait was cancelled: release it first")
        reference = ownership.reference
        ownership.depth += 1
        try:
            await run_to_completion(
                lambda: reference.host.call_with_cleanup(
                    ownership.connection,
                    reference.tell("acquire", True),
                    reference.host.call_timeout,
                    release_all(reference),
                ),
                discard=lambda _: on_behalf_of_nobody(
                    lambda: _release(reference, ownership.connection, last=False)
                ),
            )
        except BaseException:
            ownership.depth -= 1
            raise


def _arguments(blocking: bool = True, timeout: float | None = None) -> tuple[bool, float | None]:
    """The arguments of a lock's `acquire`."""
    return blocking, timeout


def _limit_of(args: Sequence[Any], kwds: Mapping[str, Any]) -> Limit:
    try:
        blocking, timeout = _arguments(*args, **kwds)
    except TypeError:
        return Limit((), {})
    if not blocking:
        timeout = 0
    return Limit(
        (), {} if isinstance(timeout, float | int) and timeout < 0 else {"timeout": timeout}
    )


def _waits_for_lock(reference: Reference, owned: bool) -> LongPoll[_Acquired]:
    return LongPoll(
        partial(_acquire, reference, owned),
        reference.host.wait_slice,
        discard=partial(_give_up, reference),
    )


# -- what is done at the host, whoever has left -----------------------------------------------
#
# These know the reference and not the wrapped object, which becomes garbage while they go on.


async def _acquire(reference: Reference, owned: bool, seconds: float) -> _Acquired | None:
    return await reference.host.in_time(seconds, lambda: _acquire_within(reference, owned, seconds))


async def _acquire_within(reference: Reference, owned: bool, seconds: float) -> _Acquired | None:
    host = reference.host
    args = (True, seconds) if seconds > 0 else (False,)

    def settle(outcomes: Sequence[bool]) -> Conversation[object] | None:
        return reference.tell("release") if any(outcomes) else None

    connection = await reference.borrow()
    acquired = False
    try:
        acquired = await host.call_with_cleanup(
            connection, reference.tell("acquire", *args), seconds + host.call_timeout, settle
        )
    finally:
        if not (acquired and owned):
            host.give_back(connection)
    return _Acquired(connection if owned else None) if acquired else None


def _give_up(reference: Reference, acquired: _Acquired | None) -> None:
    """Nobody is there for whom the lock was acquired."""
    if acquired is not None:
        on_behalf_of_nobody(lambda: _release(reference, acquired.connection))


async def _release(
    reference: Reference,
    connection: ThreadConnection | None,
    *args: Any,
    last: bool = True,
    **kwds: Any,
) -> None:
    """Release a lock once, on the connection that owns it if one does, which is given back at
    last."""
    host = reference.host
    request = reference.request("release", *args, **kwds)

    async def work() -> None:
        nonlocal connection
        connection = connection or await reference.borrow()
        await host.call_with_cleanup(
            connection,
            reference.answer(request),
            host.call_timeout,
            lambda outcomes: None if outcomes else reference.answer(request),
        )

    async def work_in_turn() -> None:
        turns = host.turns(reference.ident, "release")
        turn = await turns.enter()
        try:
            await work()
        finally:
            turns.leave(turn)
            if last and connection is not None:
                host.give_back(connection)

    await host.in_time(0, work_in_turn)


def releasing_all(reference: Reference, *, notify: bool = False) -> Conversation[None]:
    """Release an owned lock as often as its connection has acquired it."""
    if notify:
        yield from reference.tell("notify")
    try:
        while True:
            yield from reference.tell("release")
    except (RuntimeError, AssertionError):  # it is not owned any more
        pass


def release_all(reference: Reference) -> Callable[[object], Conversation[object]]:
    return lambda _: releasing_all(reference)


def _owner_ended(ownerships: _Ownerships, key: tuple[Address, str], ownership: Ownership) -> None:
    """A task has ended that owned the lock; on any thread."""
    if ownerships.get(key) is ownership:
        del ownerships[key]
    if not ownership.lost:
        ownership.reference.host.leave(ownership.connection)
        afterwards(partial(_release_now, ownership.reference, ownership.connection))


def _release_now(reference: Reference, connection: ThreadConnection) -> None:
    try:
        connection.converse_now(releasing_all(reference), reference.host.call_timeout)
    finally:
        connection.close()
