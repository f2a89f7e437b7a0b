"""References to objects at a host, and what all references to one host share.

A host keeps an object as long as it counts a reference to it. This process owns such a reference
by a proxy of the standard library's, or by a `Reference` alone, for what a reply brought. It gives
the reference up when it is garbage, on another thread, since the host has to be told.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing import managers, process, util
from multiprocessing.context import get_spawning_popen
from multiprocessing.reduction import ForkingPickler
from typing import Any, TypeVar
from weakref import WeakSet, WeakValueDictionary

import anyio
import anyio.to_thread

from ._addresses import Address, parse
from ._afterwards import afterwards, cut_at_exit, logger
from ._errors import (
    AioManagerError,
    ConfigurationError,
    EncodeError,
    RemoteError,
)
from ._frames import STOCK_PROTOCOL, decode
from ._links import Conversation, LinkPool, call_function
from ._replies import ReplyUnpickler, load_reply
from ._tasks import EachLoop, spawn
from ._threads import ThreadLane, ThreadLink
from ._waits import Turns
from ._wire import BULK_SIZE, Buffer

T = TypeVar("T")

# Seconds for the host's answer beyond the time that it may wait.
ANSWER_TIMEOUT = 30.0

# Every stock host answers these for any object.
ALWAYS_EXPOSED = frozenset({"__str__", "__repr__", "#GETVALUE"})

_managers: Any = managers  # the type stubs hide what pickles of proxies are made of


class NotExposedError(ConfigurationError, AttributeError):
    """The object has no such method, or none that it shows to other processes."""


class Home:
    """A host of objects, and the links to it, by event loop. They are closed when no object of the
    host is left in this process.

    Args:
        wait_slice: seconds that one blocking call may wait there.
    """

    def __init__(
        self, address: Address, authkey: bytes, *, wait_slice: float, connect_timeout: float
    ) -> None:
        self.address = address
        self.authkey = authkey
        self.wait_slice = wait_slice
        self._connect_timeout = connect_timeout
        self._pools = EachLoop(self._make_pool)
        self._left: WeakSet[ThreadLink] = WeakSet()
        self._turns: EachLoop[WeakValueDictionary[tuple[str, str], Turns]]
        self._turns = EachLoop(WeakValueDictionary)

    def __repr__(self) -> str:
        return str(self.address)

    def lane(self) -> ThreadLane:
        return ThreadLane(self.address, self.authkey, self._connect_timeout)

    @property
    def pool(self) -> LinkPool:
        """The links of the running event loop."""
        return self._pools.here()

    def _make_pool(self) -> LinkPool:
        pool = LinkPool(self.lane().open)
        pool.close_when_garbage()
        cut_at_exit(pool)
        return pool

    def turns(self, ident: str, method: str) -> Turns:
        """Whose turn it is with a method of an object, on the running event loop."""
        return self._turns.here().setdefault((ident, method), Turns())

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


_homes: WeakValueDictionary[tuple[Any, ...], Home] = WeakValueDictionary()


def home_of(
    address: Address, authkey: bytes, *, wait_slice: float = 0.5, connect_timeout: float = 5.0
) -> Home:
    """The one home of these settings."""
    key = (address, bytes(authkey), wait_slice, connect_timeout)
    home = _homes.get(key)
    if home is None:
        home = _homes[key] = Home(
            address, bytes(authkey), wait_slice=wait_slice, connect_timeout=connect_timeout
        )
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


class Reference:
    """An object at a host, which stays there at least as long as this.

    Args:
        token: says which object, as in the standard library.
        exposed: the names of its methods, where they are known.
        proxy: the standard library's own, which then owns the reference.
        counted: whether somebody sees to the count; otherwise it is counted before its first use.

    Attributes:
        ident: the object's id at the host.
    """

    def __init__(
        self,
        home: Home,
        token: Any,
        exposed: Sequence[str] | None,
        proxy: Any = None,
        *,
        counted: bool = True,
    ) -> None:
        self.home = home
        self.typeid: str = token.typeid
        self.ident: str = token.id
        self._token = token
        self.exposed = None if exposed is None else frozenset(exposed)
        # Nothing else refers to the proxy from here, so that it becomes garbage where the job is
        # done, and the standard library tells the host there.
        self._proxy = [] if proxy is None else [proxy]
        self._finalizer: Any = None
        self._process: int | None = os.getpid() if counted else None
        if self._proxy:
            self._give_up_by(self._proxy.clear, None)  # at exit the proxy sees to it

    def __reduce__(self) -> Any:
        """As the standard library's proxy, whatever this is."""
        if self._proxy:
            return self._proxy[0].__reduce__()
        options: dict[str, Any] = {"exposed": self.exposed and tuple(self.exposed)}
        if get_spawning_popen() is not None:
            options["authkey"] = self.home.authkey
        return _managers.RebuildProxy, (_managers.AutoProxy, self._token, "pickle", options)

    # -- the count at the host ----------------------------------------------------------------

    async def find_exposed(self) -> None:
        """Ask the host which methods the object exposes."""
        self.exposed = frozenset(await self.home.pool.function("get_methods", self._token))

    async def count(self) -> None:
        """Have the host count this reference."""
        await self.home.pool.function("incref", self.ident)
        self.counted()

    async def adopt(self) -> None:
        """Have a reference of this process's own, in a forked child, whose parent's ends with the
        parent, and for what was passed on."""
        if self._process == os.getpid():
            return
        self._process = os.getpid()
        if self._proxy:
            # The standard library has seen to the count when the process was forked.
            self._give_up_by(self._proxy.clear, None)
        else:
            await self.count()

    def counted(self) -> None:
        """The host counts this reference, so it has to be told in the end."""
        self._give_up_by(partial(self.home.function_now, "decref", self.ident), 10)

    def _give_up_by(self, job: Callable[[], object], exitpriority: int | None) -> None:
        self._job = job
        self._finalizer = util.Finalize(self, afterwards, (job,), exitpriority=exitpriority)

    async def give_up(self) -> None:
        """Tell the host now."""
        if self._finalizer is None:
            return
        self._finalizer.cancel()
        self._finalizer = None
        await anyio.to_thread.run_sync(
            self._job, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(1)
        )

    # -- calls --------------------------------------------------------------------------------

    def check(self, method: str) -> None:
        """Raise `NotExposedError` where the object is known not to have the method."""
        if self.exposed is not None and method not in self.exposed | ALWAYS_EXPOSED:
            raise NotExposedError(
                f"this {self.typeid!r} has no {method!r} for other processes; it exposes: "
                f"{', '.join(sorted(self.exposed)) or 'nothing'}"
            )

    def request(self, method: str, *args: Any, **kwds: Any) -> list[Buffer]:
        """A request, pickled; raises `EncodeError`."""
        try:
            # As the standard library does it, which knows how to send more than pickle does.
            request = (self.ident, method, args, kwds)
            return [bytes(ForkingPickler.dumps(request, STOCK_PROTOCOL))]
        except Exception as exc:
            raise EncodeError(
                f"the arguments of {method!r} cannot be pickled, so they cannot travel to another "
                f"process: {exc}"
            ) from exc

    def answer(self, request: Sequence[Buffer], found: Found | None = None) -> Conversation[Any]:
        """Send a request and return the value of its reply."""
        reply = yield request
        try:
            return load_reply(reply, found)
        except StopIteration as stop:  # which no coroutine can raise
            raise StopAsyncIteration(*stop.args) from None
        except RemoteError as exc:
            if f"KeyError: '{self.ident}'" not in str(exc):
                raise
            raise RemoteError(
                f"the host at {self.home} does not have this {self.typeid!r} any more; was it "
                "restarted?"
            ) from exc

    def tell(self, method: str, *args: Any) -> Conversation[Any]:
        """The conversation of a call whose arguments and value are plain."""
        return self.answer(self.request(method, *args))

    async def ask(self, request: Sequence[Buffer], seconds: float | None = None) -> Any:
        """Send a request, which may wait at the host for so many seconds, however long if None,
        and return the value of its reply. To be run by a task that no caller can cancel."""
        await self.adopt()
        found = Found(self.home)
        timeout = None if seconds is None else seconds + ANSWER_TIMEOUT
        value = await self.home.pool.wait(self.answer(request, found), timeout)
        for reference in found.uncounted:
            await reference.count()
        return value


class Found:
    """What is made of proxies found in a reply or in an item.

    Attributes:
        uncounted: references that the host does not count yet.
    """

    def __init__(self, home: Home | None) -> None:
        self.uncounted: list[Reference] = []
        self._home = home

    def created(self, exposed: Sequence[str], token: Any) -> Any:
        assert self._home is not None
        token.address = self._home.address.value  # the host may call itself otherwise
        reference = Reference(self._home, token, exposed)
        reference.counted()
        return _wrapper(reference)

    def rebuilt(self, kind: Any, token: Any, serializer: str, options: dict[str, Any]) -> Any:
        home = self._home
        authkey = options.get("authkey")
        if home is None or authkey is not None or not _is_at(token.address, home.address):
            home = home_at(token.address, authkey)
        exposed = options.get("exposed") or getattr(kind, "_exposed_", None)
        reference = Reference(home, token, exposed)
        self.uncounted.append(reference)
        return _wrapper(reference)


def _is_at(token_address: Any, address: Address) -> bool:
    if address.kind == "tcp" and token_address[0] in {"", "0.0.0.0", "::"}:  # noqa: S104
        # How a host that listens everywhere calls itself.
        return bool(token_address[1] == address.value[1])
    return parse(token_address) == address


def decode_item(data: Buffer) -> tuple[Any, anyio.Event | None]:
    """`_frames.decode`, with proxies wrapped. Where there are any, their hosts are told of these
    references in the background, and the event says when that is over. Before that, whoever put
    the item must not learn that it is done, as he may give up his own reference then."""
    # To look for them takes less time than the better unpickler, unless there is much to look at.
    # `in` would take three times as long as `find`, as it asks first whether the name is a number.
    if len(data) < BULK_SIZE and bytes(data).find(b"RebuildProxy") < 0:
        return decode(data), None
    found = Found(None)
    item = decode(data, lambda data: ReplyUnpickler(data, found).load())
    if not found.uncounted:
        return item, None
    counted = anyio.Event()
    spawn(partial(_count, found.uncounted, counted))
    return item, counted


async def _count(references: Sequence[Reference], counted: anyio.Event) -> None:
    try:
        for reference in references:
            try:
                await reference.count()
            except AioManagerError as exc:
                # As text: the error itself would keep alive all that it came through.
                logger.warning(
                    "%r came in an item, but is not to be had: %s", reference.typeid, str(exc)
                )
    finally:
        counted.set()


def set_wrapper(wrapper: Callable[[Reference], Any]) -> None:
    """Say what users get for references; for `_proxy`, which stands above what uses this."""
    global _wrapper  # noqa: PLW0603
    _wrapper = wrapper


_wrapper: Callable[[Reference], Any]
