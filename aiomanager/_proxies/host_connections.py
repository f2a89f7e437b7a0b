"""Hosts of objects: what all references of this process to the objects of one host share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from multiprocessing import process
from typing import Any, TypeVar, cast
from weakref import WeakSet, WeakValueDictionary

import anyio

from .._concurrency.event_loop import EachLoop
from .._concurrency.finalizers import cut_at_exit
from .._ground.addresses import Address, parse
from .._ground.errors import unanswered
from .._transport.base import Conversation, LinkPool, call_function
from .._transport.thread import ThreadLane, ThreadLink
from .long_poll import Turns

T = TypeVar("T")

# Seconds; what `connect` has by default.
CALL_TIMEOUT = 30.0
RECONNECT = 30.0


class Home:
    """A host of objects, and the links to it, by event loop. They are closed when no object of the
    host is left in this process.

    Args:
        wait_slice: seconds that one blocking call may wait there.
        connect_timeout: seconds to connect and to authenticate.
        call_timeout: seconds for the host's answer beyond the time that it may wait.
        reconnect: seconds that the host may be away before calls raise `ConnectionLostError`.
    """

    def __init__(
        self,
        address: Address,
        authkey: bytes,
        *,
        wait_slice: float,
        connect_timeout: float,
        call_timeout: float,
        reconnect: float,
    ) -> None:
        self.address = address
        self.authkey = authkey
        self.wait_slice = wait_slice
        self.call_timeout = call_timeout
        self.reconnect = reconnect
        self._connect_timeout = connect_timeout
        # A function that does not know this: what nobody uses any more is closed at once, and not
        # when the garbage is collected.
        make_lane = partial(ThreadLane, address, authkey, connect_timeout)
        self._pools = EachLoop(partial(_make_pool, make_lane, call_timeout, reconnect))
        self._left: WeakSet[ThreadLink] = WeakSet()
        self._shared: EachLoop[WeakValueDictionary[tuple[str, str], Any]]
        self._shared = EachLoop(WeakValueDictionary)

    def __repr__(self) -> str:
        return str(self.address)

    def lane(self) -> ThreadLane:
        return ThreadLane(self.address, self.authkey, self._connect_timeout)

    @property
    def pool(self) -> LinkPool:
        """The links of the running event loop."""
        return self._pools.here()

    def shared(self, ident: str, what: str, make: Callable[[], T]) -> T:
        """What all that wrap an object have in common on the running event loop, as long as one of
        them holds it."""
        here = self._shared.here()
        made = here.get((ident, what))
        if made is None:
            made = here[ident, what] = make()
        return cast(T, made)

    def turns(self, ident: str, method: str) -> Turns:
        """Whose turn it is with a method of an object, on the running event loop."""
        return self.shared(ident, f"turns with {method}", Turns)

    async def in_time(self, seconds: float, work: Callable[[], Awaitable[T]]) -> T:
        """Do what the host may take so many seconds for, and which ends in any case when it could
        have been away and have answered. To be run by a task that no caller can cancel."""
        patience = seconds + self.call_timeout + self.reconnect
        with anyio.move_on_after(patience):
            return await work()
        raise unanswered(patience, sent=True)

    async def borrow(self) -> ThreadLink:
        link = await self.pool.borrow()
        assert isinstance(link, ThreadLink)
        return link

    async def surely(
        self,
        link: ThreadLink,
        conversation: Conversation[T],
        timeout: float | None,
        settle: Callable[[Sequence[T]], Conversation[object] | None],
        hurry: Callable[[], object] | None = None,
    ) -> T:
        """`ThreadLink.converse_surely` on a borrowed link, which stays borrowed."""
        try:
            return await link.converse_surely(conversation, timeout, settle, hurry)
        except Exception:
            if link.broken:
                self.pool.drop(link)
            raise
        except BaseException:
            self.leave(link)
            self.pool.close_idle()
            raise

    def give_back(self, link: ThreadLink) -> None:
        """Let others use a link again, unless it is broken or left to a thread."""
        if link not in self._left:
            self.pool.give_back(link)

    def leave(self, link: ThreadLink) -> None:
        """Leave a borrowed link to a thread that closes it in the end; callable from any."""
        self._left.add(link)
        for pool in self._pools.known():
            pool.forget(link)

    def converse_now(self, conversation: Conversation[T]) -> T:
        """Run a conversation on the calling thread, which waits."""
        return self.lane().converse_now("aiomanager", conversation)

    def function_now(self, name: str, *args: Any) -> Any:
        """Call a function of the server itself on the calling thread, which waits."""
        return self.lane().converse_now(None, call_function(name, *args))


def _make_pool(
    make_lane: Callable[[], ThreadLane], call_timeout: float, reconnect: float
) -> LinkPool:
    pool = LinkPool(make_lane().open, call_timeout=call_timeout, reconnect=reconnect)
    pool.close_after_use()
    cut_at_exit(pool)
    return pool


_homes: WeakValueDictionary[tuple[Any, ...], Home] = WeakValueDictionary()


def home_of(
    address: Address,
    authkey: bytes,
    *,
    wait_slice: float = 0.5,
    connect_timeout: float = 5.0,
    call_timeout: float = CALL_TIMEOUT,
    reconnect: float = RECONNECT,
) -> Home:
    """The one home of these settings."""
    key = (address, bytes(authkey), wait_slice, connect_timeout, call_timeout, reconnect)
    home = _homes.pop(key, None)
    if home is None:
        home = Home(
            address,
            bytes(authkey),
            wait_slice=wait_slice,
            connect_timeout=connect_timeout,
            call_timeout=call_timeout,
            reconnect=reconnect,
        )
    _homes[key] = home  # the last, for `home_at`
    return home


def home_at(token_address: Any, authkey: bytes | None) -> Home:
    """A home by the address that a proxy has. Where the proxy came without its key, as it does
    through a queue, it is that of the manager which this process came to use there last, else its
    own."""
    address = parse(token_address)
    for home in reversed(list(_homes.values())):
        if home.address == address and authkey in {None, home.authkey}:
            return home
    return home_of(address, authkey or process.current_process().authkey)
