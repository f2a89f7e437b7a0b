"""Locks at a manager, as coroutines use them.

The host knows two kinds. A `Lock` or a `Semaphore` belongs to nobody, and any connection may
release it. An `RLock` or a `Condition` belongs to the connection that acquired it: its task keeps
that connection until the release, and the lock is given up when the task ends.

What the host grants to somebody who has left is released at once, also where the event loop has
ended in between. It is not where the process is killed: then the host's thread goes on waiting
until the end of the slice, and keeps what it gets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import anyio

from ._afterwards import afterwards, on_behalf_of_nobody
from ._links import Conversation
from ._objects import AsyncProxy
from ._references import ANSWER_TIMEOUT, Reference
from ._slots import finish
from ._tasks import on_task_end
from ._threads import ThreadLink
from ._waits import Waits


@dataclass(frozen=True)
class _Acquired:
    """What the host has granted: to a link, if the lock is owned, else to whoever releases it."""

    link: ThreadLink | None


class Hold:
    """The ownership of a lock by a task.

    Attributes:
        depth: how often the task has to release it.
        lost: the lock was given up on behalf of the task, which has nothing to release any more.
    """

    def __init__(self, link: ThreadLink) -> None:
        self.link = link
        self.depth = 1
        self.lost = False
        self.waits = False  # a Condition's wait is at the host
        self.forget: Callable[[], object] = lambda: None


class AsyncLock(AsyncProxy):
    """A `Lock`, `RLock`, `Semaphore` or `BoundedSemaphore`, or whatever has their methods; an
    async context manager.

    Any number of waiting tasks cost one thread and one connection; within this process they are
    served first come, first served. An `RLock` belongs to the task that acquired it: this task may
    acquire it again, it alone may release it, and where it ends without that it has released it.
    """

    _always_owned = False  # or else the object is asked

    def __init__(self, reference: Reference) -> None:
        super().__init__(reference)
        self._owned = self._always_owned
        self._waits: Waits[_Acquired] | None = None
        self._holds: dict[int, Hold] = {}  # by the task's id

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.release()

    async def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Acquire the lock, and say whether that was done.

        Args:
            blocking: wait for it.
            timeout: seconds to wait; None, or less than 0, for ever.

        Cancelled, it has not acquired the lock; if the host grants it all the same, it is released
        at once.
        """
        hold = self._holds.get(current_owner())
        if hold is not None:
            await self._acquire_again(hold)
            return True
        waits = self._waits or await self._prepare()
        if not blocking or timeout == 0:
            acquired = await self._in_turn(
                "acquire",
                partial(_acquire, self._reference, self._owned, 0),
                partial(_give_up, self._reference),
            )
        else:
            acquired = await waits.wait(None if timeout is None or timeout < 0 else timeout)
        if acquired is None:
            return False
        if acquired.link is not None:
            self._hold(acquired.link)
        return True

    async def release(self, n: int = 1) -> None:
        """Release the lock, or a semaphore `n` times. Cancelled, it waits all the same until that
        is done.

        Raises RuntimeError where this task does not own it, if it is of a kind that is owned, and
        ValueError for a `BoundedSemaphore` that was released too often.
        """
        reference = self._reference
        args = () if n == 1 else (n,)
        me = current_owner()
        hold = self._holds.get(me)
        if hold is None and self._owned:
            raise RuntimeError(
                f"cannot release {self!r}: this task has not acquired it. It belongs to the task "
                "that acquires it, and is released by the same."
            )
        if hold is not None:
            hold.depth -= 1
            if not hold.depth:
                del self._holds[me]
                hold.forget()
            if hold.lost:
                return
        with anyio.CancelScope(shield=True):
            link = None if hold is None else hold.link
            last = hold is None or hold.depth == 0
            await finish(lambda: _release(reference, link, *args, last=last))

    async def call(self, method: str, /, *args: Any, **kwds: Any) -> Any:
        """`AsyncProxy.call`; the methods of this class go their own way."""
        if method in {"acquire", "release", "wait", "notify", "notify_all"}:
            return await getattr(self, method)(*args, **kwds)
        return await super().call(method, *args, **kwds)

    async def _prepare(self) -> Waits[_Acquired]:
        reference = self._reference
        # Others have the same methods; of those that belong to a connection, the standard library
        # has but this one beside the Condition.
        owned = self._always_owned or "RLock" in str(await super().call("__repr__"))
        if self._waits is None:
            self._owned = owned
            self._waits = Waits(
                partial(_acquire, reference, owned),
                reference.home.wait_slice,
                discard=partial(_give_up, reference),
            )
        return self._waits

    # -- ownership ----------------------------------------------------------------------------

    def _hold(self, link: ThreadLink) -> None:
        me = current_owner()
        hold = self._holds[me] = Hold(link)
        hold.forget = on_task_end(partial(_owner_ended, self._reference, self._holds, me, hold))

    async def _acquire_again(self, hold: Hold) -> None:
        if hold.lost:
            raise RuntimeError(f"{self!r} was given up when a wait was cancelled: release it first")
        reference = self._reference
        hold.depth += 1
        try:
            await finish(
                lambda: reference.home.surely(
                    hold.link,
                    reference.tell("acquire", True),
                    ANSWER_TIMEOUT,
                    release_all(reference),
                ),
                discard=lambda _: on_behalf_of_nobody(
                    lambda: _release(reference, hold.link, last=False)
                ),
            )
        except BaseException:
            hold.depth -= 1
            raise


# -- what is done at the host, whoever has left -----------------------------------------------
#
# These know the reference and not the wrapped object, which becomes garbage while they go on.


def current_owner() -> int:
    return anyio.get_current_task().id


async def _acquire(reference: Reference, owned: bool, seconds: float) -> _Acquired | None:
    home = reference.home
    args = (True, seconds) if seconds > 0 else (False,)

    def settle(outcomes: Sequence[bool]) -> Conversation[object] | None:
        return reference.tell("release") if any(outcomes) else None

    link = await home.borrow()
    acquired = False
    try:
        acquired = await home.surely(
            link, reference.tell("acquire", *args), seconds + ANSWER_TIMEOUT, settle
        )
    finally:
        if not (acquired and owned):
            home.give_back(link)
    return _Acquired(link if owned else None) if acquired else None


def _give_up(reference: Reference, acquired: _Acquired | None) -> None:
    """Nobody is there for whom the lock was acquired."""
    if acquired is not None:
        on_behalf_of_nobody(lambda: _release(reference, acquired.link))


async def _release(
    reference: Reference, link: ThreadLink | None, *args: int, last: bool = True
) -> None:
    """Release a lock once, on the link that owns it if one does, which is given back at last."""
    home = reference.home
    turns = home.turns(reference.ident, "release")
    turn = await turns.enter()
    try:
        link = link or await home.borrow()
        await home.surely(
            link,
            reference.tell("release", *args),
            ANSWER_TIMEOUT,
            lambda outcomes: None if outcomes else reference.tell("release", *args),
        )
    finally:
        turns.leave(turn)
        if last and link is not None:
            home.give_back(link)


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


def _owner_ended(reference: Reference, holds: dict[int, Hold], owner: int, hold: Hold) -> None:
    """A task has ended that owned the lock; on any thread."""
    if holds.get(owner) is hold:
        del holds[owner]
    if not hold.lost:
        reference.home.leave(hold.link)
        afterwards(partial(_release_now, reference, hold.link))


def _release_now(reference: Reference, link: ThreadLink) -> None:
    try:
        link.converse_now(releasing_all(reference), ANSWER_TIMEOUT)
    finally:
        link.close()
