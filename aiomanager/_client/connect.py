"""`connect` and `host`: how a program comes to a manager."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from .._ground.addresses import AddressLike, parse
from .._ground.authkeys import generate, require_strong, resolve
from .._ground.errors import ConfigurationError
from ..engines.memory import MemoryHostClient
from ..engines.registry import register
from .host_process import HostProcess
from .manager import AsyncManager
from .manager_client import ManagerClient
from .options import ConnectOptions, Transport

# Each scheme's client. Other engines are registered in the same way.
register("tcp", "unix", "pipe", factory=ManagerClient)
register("memory", factory=lambda address, _, options: MemoryHostClient(address, options.queues))


ADDRESS_VARIABLE = "AIOMANAGER_ADDRESS"


def connect(
    address: AddressLike | None = None,
    authkey: bytes | str | None = None,
    *,
    wait: float = 0.0,
    connect_timeout: float = 5.0,
    call_timeout: float = 30.0,
    reconnect: float = 30.0,
    on_reconnect: Callable[[], None] | None = None,
    wait_slice: float = 0.5,
    transport: Transport | None = None,
    queues: Mapping[str, int] | None = None,
) -> AsyncManager:
    """A manager at an address, to be used in `async with`.

    Args:
        address: a `(host, port)` pair, a socket path, `tcp://host:port` or `host:port`,
            `unix:///path`, `unix://%00name` for an abstract name of Linux, or `memory://`, which
            hosts its queues in this process. Left out, `$AIOMANAGER_ADDRESS`.
        authkey: bytes or str; left out, `$AIOMANAGER_AUTHKEY`, else the current process's.
        wait: seconds to wait for a host that is still starting.
        connect_timeout: seconds for each connection as a whole: to look up the name, to connect to
            one of its addresses, by however many attempts, and to authenticate.
        call_timeout: seconds for the host's answer to a call that does not wait for anything.
        reconnect: seconds that the host may be away before calls raise `ConnectionLostError`.
        on_reconnect: called when a lost connection to a host of ours was made again.
        wait_slice: seconds that one blocking call may wait at a stock host. If this process is
            killed, at most what arrives within one slice is lost there.
        transport: "stream", the event loop's own sockets, or "thread", blocking calls on worker
            threads; left out, "stream" where the address is a socket.
        queues: for `memory://`: the name of each queue and its maxsize. Left out, any name is
            good, and unbounded.

    Raises:
        ConfigurationError: an argument cannot work.
    """
    if address is None:
        address = os.environ.get(ADDRESS_VARIABLE)
        if not address:
            raise ConfigurationError(f"give the address of a host, or set ${ADDRESS_VARIABLE}")
    where = parse(address)
    if queues is not None and where.kind != "memory":
        raise ConfigurationError("queues= is for memory:// alone: a host decides what it hosts")
    key = b"" if where.kind == "memory" else resolve(authkey)
    options = ConnectOptions(
        wait=wait,
        connect_timeout=connect_timeout,
        call_timeout=call_timeout,
        reconnect=reconnect,
        on_reconnect=on_reconnect,
        wait_slice=wait_slice,
        transport=transport,
        queues=queues,
    )
    return AsyncManager(where, key, options)


def host(
    queues: Mapping[str, int],
    *,
    address: AddressLike | None = None,
    authkey: bytes | str | None = None,
    lease_timeout: float | None = None,
    dead_letter: str | None = None,
    max_deliveries: int = 20,
    transport: Transport | None = None,
) -> AsyncManager:
    """A host process of this program's own and a connection to it, to be used in `async with`.

    The host is a clean interpreter that imports nothing of the program's, so the program needs no
    `if __name__ == "__main__"` guard. It ends when the block ends, and when this process ends or
    is killed. Hand the manager's `address` and `authkey` to other processes.

    Args:
        queues: the name of each queue and its maxsize, 0 for unbounded.
        address: where to listen; left out, a private socket.
        authkey: bytes or str; left out, a random key.
        lease_timeout: seconds after which an item that a live consumer has received and not
            settled goes to somebody else; None, the default, for never.
        dead_letter: the name of the queue, one of `queues`, for items that were handed out
            `max_deliveries` times to consumers that were lost with them; without one they are
            handed out for ever.
        max_deliveries: see `dead_letter`.
        transport: as in `connect`.

    Raises:
        ConfigurationError: an argument cannot work; or at the start of the block, the address
            cannot be listened on.
    """
    if authkey is None:
        key = generate().encode()
    else:
        key = resolve(authkey)
        require_strong(key)
    process = HostProcess(
        None if address is None else parse(address, listening=True),
        key,
        queues,
        lease_timeout=lease_timeout,
        dead_letter=dead_letter,
        max_deliveries=max_deliveries,
    )
    return AsyncManager(process, key, ConnectOptions(transport=transport))
