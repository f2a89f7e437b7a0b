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
from .._transport.base import Conversation, call_function
from .._transport.pool import ConnectionPool
from .._transport.thread import ThreadConnection, ThreadTransport
from .long_poll import CallLimit

T = TypeVar("T")

# Seconds; what `connect` has by default.
CALL_TIMEOUT = 30.0
RECONNECT = 30.0


class HostConnections:
    """A host of objects, and the connections to it, by event loop. They are closed when no object
    of the host is left in this process.

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
        make_transport = partial(ThreadTransport, address, authkey, connect_timeout)
        self._pools = EachLoop(partial(_make_pool, make_transport, call_timeout, reconnect))
        self._left: WeakSet[ThreadConnection] = WeakSet()
        self._shared: EachLoop[WeakValueDictionary[tuple[str, str], Any]]
        self._shared = EachLoop(WeakValueDictionary)

    def __repr__(self) -> str:
        return str(self.address)

    def transport(self) -> ThreadTransport:
        return ThreadTransport(self.address, self.authkey, self._connect_timeout)

    @property
    def pool(self) -> ConnectionPool:
        """The connections of the running event loop."""
        return self._pools.here()

    def shared(self, ident: str, what: str, make: Callable[[], T]) -> T:
        """What all that wrap an object have in common on the running event loop, as long as one of
        them holds it."""
        here = self._shared.here()
        made = here.get((ident, what))
        if made is None:
            made = here[ident, what] = make()
        return cast("T", made)

    def turns(self, ident: str, method: str) -> CallLimit:
        """Whose turn it is with a method of an object, on the running event loop."""
        return self.shared(ident, f"turns with {method}", CallLimit)

    async def in_time(self, seconds: float, work: Callable[[], Awaitable[T]]) -> T:
        """Do what the host may take so many seconds for, and which ends in any case when it could
        have been away and have answered. To be run by a task that no caller can cancel."""
        patience = seconds + self.call_timeout + self.reconnect
        with anyio.move_on_after(patience):
            return await work()
        raise unanswered(patience, sent=True)

    async def borrow(self) -> ThreadConnection:
        connection = await self.pool.borrow()
        assert isinstance(connection, ThreadConnection)
        return connection

    async def call_with_cleanup(
        self,
        connection: ThreadConnection,
        conversation: Conversation[T],
        timeout: float | None,
        settle: Callable[[Sequence[T]], Conversation[object] | None],
        wake: Callable[[], object] | None = None,
    ) -> T:
        """`ThreadConnection.converse_with_cleanup` on a borrowed connection, which stays
        borrowed."""
        try:
            return await connection.converse_with_cleanup(conversation, timeout, settle, wake)
        except Exception:
            if connection.broken:
                self.pool.drop(connection)
            raise
        except BaseException:
            self.leave(connection)
            self.pool.close_idle()
            raise

    def give_back(self, connection: ThreadConnection) -> None:
        """Let others use a connection again, unless it is broken or left to a thread."""
        if connection not in self._left:
            self.pool.give_back(connection)

    def leave(self, connection: ThreadConnection) -> None:
        """Leave a borrowed connection to a thread that closes it in the end; callable from any."""
        self._left.add(connection)
        for pool in self._pools.known():
            pool.forget(connection)

    def converse_now(self, conversation: Conversation[T]) -> T:
        """Run a conversation on the calling thread, which waits."""
        return self.transport().converse_now("aiomanager", conversation)

    def function_now(self, name: str, *args: Any) -> Any:
        """Call a function of the server itself on the calling thread, which waits."""
        return self.transport().converse_now(None, call_function(name, *args))


def _make_pool(
    make_transport: Callable[[], ThreadTransport], call_timeout: float, reconnect: float
) -> ConnectionPool:
    pool = ConnectionPool(make_transport().open, call_timeout=call_timeout, reconnect=reconnect)
    pool.close_after_use()
    cut_at_exit(pool)
    return pool


_hosts: WeakValueDictionary[tuple[Any, ...], HostConnections] = WeakValueDictionary()


def host_of(
    address: Address,
    authkey: bytes,
    *,
    wait_slice: float = 0.5,
    connect_timeout: float = 5.0,
    call_timeout: float = CALL_TIMEOUT,
    reconnect: float = RECONNECT,
) -> HostConnections:
    """The one home of these settings."""
    key = (address, bytes(authkey), wait_slice, connect_timeout, call_timeout, reconnect)
    host = _hosts.pop(key, None)
    if host is None:
        host = HostConnections(
            address,
            bytes(authkey),
            wait_slice=wait_slice,
            connect_timeout=connect_timeout,
            call_timeout=call_timeout,
            reconnect=reconnect,
        )
    _hosts[key] = host  # the last, for `home_at`
    return host


def host_at(token_address: Any, authkey: bytes | None) -> HostConnections:
    """A home by the address that a proxy has. Where the proxy came without its key, as it does
    through a queue, it is that of the manager which this process came to use there last, else its
    own."""
    address = parse(token_address)
    for host in reversed(list(_hosts.values())):
        if host.address == address and authkey in {None, host.authkey}:
            return host
    return host_of(address, authkey or process.current_process().authkey)
