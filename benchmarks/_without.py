"""The tricks for speed, each switched off in the process that calls its function here: the plain
way in the place of it. Called before anything is connected or served, at the client and at the
host."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

NEVER = 2**62  # a size that nothing has


def _get(place: str) -> Any:
    """What there is at "module:name" or "module:class.name", the module below `aiomanager`."""
    module, _, name = place.partition(":")
    found: Any = importlib.import_module(f"aiomanager.{module}")
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _put(place: str, value: object) -> None:
    """Have something else there."""
    _get(place)  # it is there
    module, _, names = place.partition(":")
    owner: Any = importlib.import_module(f"aiomanager.{module}")
    *above, name = names.split(".")
    for part in above:
        owner = getattr(owner, part)
    setattr(owner, name, value)


def nothing() -> None:
    """Leave all as it is."""


# -- batches and wake-ups ---------------------------------------------------------------------


def halves() -> None:
    """The whole of a batch leaves at once, and nothing while it is on its way."""
    _put("_concurrency.batching:MANY", NEVER)
    _put("_queue.fetcher:MANY", NEVER)


def gathering() -> None:
    """Whoever comes first after a batch of several leaves alone."""
    _put("_concurrency.batching:Batcher._flush_soon", _get("_concurrency.batching:Batcher._flush"))

    def gather(fetcher: Any) -> None:
        fetcher._fetching = True  # noqa: SLF001
        fetcher._fetch()  # noqa: SLF001

    _put("_queue.fetcher:Fetcher._gather", gather)


def busy_poll() -> None:
    """The host sleeps whenever there is nothing to do."""
    init = _get("_host.reactor:Reactor.__init__")
    _put("_host.reactor:Reactor.__init__", lambda reactor, busy_poll=0.0: init(reactor, 0.0))


def futures() -> None:
    """An event of anyio's wakes who waits."""
    import anyio

    async def wait(future: Any) -> Any:
        try:
            if future.filled:
                await anyio.lowlevel.checkpoint()
            else:
                event = anyio.Event()
                future._callback = lambda _: event.set()  # noqa: SLF001
                await event.wait()
        except BaseException:
            future.abandoned = True
            raise
        if future.error is not None:
            raise future.error
        return future.value

    _put("_concurrency.futures:Future.wait", wait)


def no_scope() -> None:
    """A call without a timeout has a scope, as one with a timeout has."""
    import anyio

    put, receive = _get("_queue.sender:Sender.put"), _get("_queue.fetcher:Fetcher.receive")

    async def put_in_scope(*args: Any) -> None:
        with anyio.move_on_after(None):
            await put(*args)

    async def receive_in_scope(*args: Any, **options: Any) -> Any:
        with anyio.move_on_after(None):
            return await receive(*args, **options)

    _put("_queue.sender:Sender.put", put_in_scope)
    _put("_queue.fetcher:Fetcher.receive", receive_in_scope)


def reader() -> None:
    """A task waits until the socket can be read."""
    import anyio

    spawn = _get("_concurrency.event_loop:spawn")

    def listen(sock: Any, callback: Callable[[], object]) -> Callable[[], object]:
        scope = anyio.CancelScope()

        async def wait() -> None:
            with scope:
                while not scope.cancel_called:
                    await anyio.wait_readable(sock)
                    callback()

        spawn(wait)
        return scope.cancel

    _put("_transport.stream:call_when_readable", listen)


def told_later() -> None:
    """That the answer of a take was read is told with a request of its own, at once."""
    tell = _get("engines.hosted:Reads.tell")

    def add(reads: Any, channel: str) -> None:
        reads._channels.add(channel)  # noqa: SLF001
        tell(reads)

    _put("engines.hosted:Reads.add", add)


def prefetch() -> None:
    """An iteration asks for one item after the other."""
    init = _get("_queue.prefetching:Ahead.__init__")
    _put("_queue.prefetching:Ahead.__init__", lambda ahead, queue, most: init(ahead, queue, 1))


# -- memory -----------------------------------------------------------------------------------


def mapped() -> None:
    """Large messages come into a bytearray."""
    _put("_wire.framing:MAPPED_SIZE", NEVER)


def released_apart() -> None:
    """Whoever drops the last of a large message gives its memory back."""
    _put("_wire.framing:RELEASED_APART", NEVER)


def beside() -> None:
    """Large items travel within the pickle of a reply, and joined to their request."""
    _put("_wire.messages:BULK_SIZE", NEVER)
    _put("_wire.requests:BULK_SIZE", NEVER)


def by_hand() -> None:
    """The pickler writes large bytes, too."""
    _put("_wire.items:LARGE_BYTES", NEVER)


def read_size() -> None:
    """A read asks for more than the memory allocator keeps at hand."""
    _put("_wire.framing:READ_SIZE", 1024**2)


# -- pickles and requests ---------------------------------------------------------------------


def plain_pickler() -> None:
    """The standard library's pickler, which is made of Python, is always asked."""
    dumps = _get("_wire.items:dumps_for_hosts")
    _put("_queue.codec:encode", dumps)


def passed_through() -> None:
    """The item of a stock client is read, and pickled anew."""
    _put("_host.server:put_in", lambda message, idents: None)


def plain_requests() -> None:
    """All that stock clients ask of queues is read on a thread of their connection's own."""
    error, load = _get("_wire.restricted_pickle:NotPlainError"), _get("_host.server:load_plain")

    def for_server(message: Any) -> Any:
        if b"aiomanager-queue:" in bytes(message[:64]):
            raise error
        return load(message)

    _put("_host.server:load_plain", for_server)


def known_plain_requests() -> None:
    """Each request of a stock client is read anew."""
    _put("_wire.restricted_pickle:_CACHED_SIZE", -1)


def known_requests() -> None:
    """The names, the arguments and the lengths of each request are packed and read anew."""
    _put("_wire.requests:_keep", lambda cache, key, value: None)


def one_send() -> None:
    """What the host answers is put into line before it is sent, however small it is."""

    def send(peer: Any, packed: Any) -> bool:
        for part in packed:
            if len(part):
                peer._sender.append(memoryview(part))  # noqa: SLF001
                peer._unsent += len(part)  # noqa: SLF001
        if not peer._write():  # noqa: SLF001
            peer._undelivered = None  # noqa: SLF001
            return False
        if peer._undelivered is not None:  # noqa: SLF001
            peer._expect_read(peer._sends)  # noqa: SLF001
        return True

    _put("_host.connection:Peer._send_packed", send)


# -- calls of objects -------------------------------------------------------------------------


def call_limit() -> None:
    """Any number of calls of one method is under way at once."""
    init = _get("_proxies.long_poll:CallLimit.__init__")
    _put("_proxies.long_poll:CallLimit.__init__", lambda limit, places=0: init(limit, places=NEVER))


# -- what is no trick, and costs --------------------------------------------------------------


def seals() -> None:
    """Neither side says that somebody could stand in between."""
    for side, place in (
        ("client", "_transport.approach:client_handshake"),
        ("server", "_host.connection:server_handshake"),
    ):
        handshake = _get(f"_wire.handshake:{side}_handshake")
        _put(
            place,
            lambda authkey, sealed=True, handshake=handshake: handshake(authkey, sealed=False),
        )
