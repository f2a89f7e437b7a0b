"""References to objects at a host.

A host keeps an object as long as it counts a reference to it. This process owns such a reference
by a proxy of the standard library's, or by a `Reference` alone, for what a reply brought. It gives
the reference up when it is garbage, on another thread, since the host has to be told.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing import managers, util
from multiprocessing.context import get_spawning_popen
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from .._concurrency.finalizers import afterwards
from .._concurrency.futures import Failure, run_to_completion
from .._ground.addresses import Address, parse
from .._ground.buffers import Buffer
from .._ground.errors import (
    ConfigurationError,
    ConnectionLostError,
    EncodeError,
    RemoteError,
)
from .._transport.base import Conversation
from .._transport.thread import ThreadConnection
from .._wire.items import STOCK_PROTOCOL, dumps_for_hosts
from .._wire.replies import NotThereError, load_reply
from .host_connections import HostConnections, host_at

T = TypeVar("T")

# Every stock host answers these for any object.
ALWAYS_EXPOSED = frozenset({"__str__", "__repr__", "#GETVALUE"})

_managers: Any = managers  # the type stubs hide what pickles of proxies are made of


class NotExposedError(ConfigurationError, AttributeError):
    """The object has no such method, or none that it shows to other processes."""


class Reference:
    """An object at a host, which stays there at least as long as this.

    Args:
        token: says which object, as in the standard library.
        exposed: the names of its methods, where they are known.
        proxy: the standard library's own, which then owns the reference.
        counted: whether somebody sees to the count; otherwise it is counted before its first use.

    Attributes:
        ident: the object's id at the host.
        guessed: more may be exposed than is known here.
    """

    def __init__(
        self,
        host: HostConnections,
        token: Any,
        exposed: Sequence[str] | None,
        proxy: Any = None,
        *,
        counted: bool = True,
    ) -> None:
        self.host = host
        self.typeid: str = token.typeid
        self.ident: str = token.id
        self._token = token
        self.exposed = None if exposed is None else frozenset(exposed)
        self.guessed = False
        # Nothing else refers to the proxy from here, so that it becomes garbage where the job is
        # done, and the standard library tells the host there.
        self._proxy = [] if proxy is None else [proxy]
        self._finalizer: Any = None
        self._description: str | None = None
        self._process: int | None = os.getpid() if counted else None
        if self._proxy:
            self._give_up_by(self._proxy.clear, None)  # at exit the proxy sees to it

    def __reduce__(self) -> Any:
        """As the standard library's proxy, whatever this is."""
        if self._proxy:
            return self._proxy[0].__reduce__()
        options: dict[str, Any] = {"exposed": self.exposed and tuple(self.exposed)}
        if get_spawning_popen() is not None:
            options["authkey"] = self.host.authkey
        kind = _proxy_kind(self.exposed or frozenset())
        return _managers.RebuildProxy, (kind, self._token, "pickle", options)

    # -- the count at the host ----------------------------------------------------------------

    async def find_exposed(self) -> None:
        """Ask the host which methods the object exposes."""
        self.exposed = frozenset(await self._function("get_methods", self._token))
        self.guessed = False

    async def find_out(self, method: str = "") -> None:
        """Ask it where that is not known, or may be wrong about a method or anything."""
        exposed = self.exposed
        if exposed is None or (self.guessed and method not in exposed):
            await run_to_completion(self.find_exposed)

    async def count(self) -> None:
        """Have the host count this reference."""
        await self._function("incref", self.ident)
        self.counted()

    async def _function(self, name: str, argument: object) -> Any:
        host = self.host
        try:
            return await host.in_time(0, lambda: host.pool.function(name, argument))
        except NotThereError as exc:
            raise self._explained(exc) from exc

    async def adopt(self) -> None:
        """Have a reference of this process's own, in a forked child, whose parent's ends with the
        parent, and for what was passed on."""
        if self._process == os.getpid():
            return
        before, self._process = self._process, os.getpid()
        try:
            if not self._proxy:
                await self.count()
                return
            if not _is_counted_here(self._proxy[0]):
                incref = self._proxy[0]._incref  # noqa: SLF001 - the standard library's own
                await self.host.in_time(0, lambda: _in_thread(incref))
            self._give_up_by(self._proxy.clear, None)
        except BaseException:
            self._process = before
            raise

    def counted(self) -> None:
        """The host counts this reference, so it has to be told in the end."""
        self._give_up_by(partial(self.host.function_now, "decref", self.ident), 10)

    def _give_up_by(self, job: Callable[[], object], exitpriority: int | None) -> None:
        self._job = job
        self._finalizer = util.Finalize(self, afterwards, (job,), exitpriority=exitpriority)

    def forget(self) -> None:
        """Say nothing to the host: another run of it has counted this, and what has the id there
        now is something else."""
        if self._finalizer is not None:
            self._finalizer.cancel()
            self._finalizer = None

    async def give_up(self) -> None:
        """Tell the host now."""
        if self._finalizer is None:
            return
        self._finalizer.cancel()
        self._finalizer = None
        await self.host.in_time(0, lambda: _in_thread(self._job))

    # -- calls --------------------------------------------------------------------------------

    def check(self, method: str) -> None:
        """Raise `NotExposedError` where the object is known not to have the method."""
        if self.exposed is None or self.guessed:
            return
        if method not in self.exposed | ALWAYS_EXPOSED:
            raise NotExposedError(
                f"this {self.typeid!r} has no {method!r} for other processes; it exposes: "
                f"{', '.join(sorted(self.exposed)) or 'nothing'}"
            )

    def request(self, method: str, *args: Any, **kwds: Any) -> list[Buffer]:
        """A request, pickled; raises `EncodeError`."""
        try:
            return [dumps_for_hosts((self.ident, method, args, kwds), STOCK_PROTOCOL)]
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
        except NotThereError as exc:
            raise self._explained(exc) from exc

    def _explained(self, error: NotThereError) -> RemoteError:
        """The error of this object, where that is what the host does not have."""
        if error.key != self.ident:
            return error
        return RemoteError(
            f"the host at {self.host} does not have this {self.typeid!r} any more; was it "
            "restarted?"
        )

    def tell(self, method: str, *args: Any) -> Conversation[Any]:
        """The conversation of a call whose arguments and value are plain."""
        return self.answer(self.request(method, *args))

    async def converse(self, conversation: Conversation[T], seconds: float | None) -> T:
        """Run a conversation that may wait at the host for so many seconds, however long if None.
        To be run by a task that no caller can cancel."""
        host = self.host
        if seconds is None:
            await self.adopt()
            return await host.pool.wait(conversation, None)

        async def work() -> T:
            await self.adopt()
            return await host.pool.wait(conversation, seconds + host.call_timeout)

        return await host.in_time(seconds, work)

    async def borrow(self) -> ThreadConnection:
        """Take out a connection for this object; to be given back to its home."""

        async def work() -> ThreadConnection:
            await self.adopt()
            return await self.host.borrow()

        return await self.host.in_time(0, work)

    async def ask(self, request: Sequence[Buffer], seconds: float | None = None) -> Any:
        """Send a request as `converse` does, and return the value of its reply."""
        found = Found(self.host, in_thread=True)
        value = await self.converse(self.answer(request, found), seconds)
        await found.count()
        return value

    async def described(self) -> str:
        """How the object at the host describes itself, which says of what type it is; empty where
        it cannot."""
        if self._description is None:
            # One asks for all: they may be many.
            async with self.host.shared(self.ident, "turn to ask what it is", anyio.Lock):
                if self._description is None:
                    self._description = await run_to_completion(self._ask_for_description)
        return self._description

    async def _ask_for_description(self) -> str:
        request = self.request("__repr__")
        try:
            description = await self.converse(or_failure(self.answer(request)), 0)
        except ConnectionLostError as exc:
            if exc.outcome_known:
                raise
            # To ask again changes nothing, and what broke may have been idle for long.
            description = await self.converse(or_failure(self.answer(request)), 0)
        return "" if isinstance(description, Failure) else str(description)


def or_failure(conversation: Conversation[Any]) -> Conversation[Any]:
    """A conversation whose own errors, those of the object among them, are outcomes. What breaks
    the connection is not."""
    try:
        return (yield from conversation)
    except Exception as exc:
        return Failure(exc)


def _is_counted_here(proxy: Any) -> bool:
    """Whether the standard library has seen to the count of this process, as it does in a forked
    child which it has made itself."""
    if proxy._owned_by_manager:
        return True
    finalizer: Any = getattr(proxy, "_close", None)
    return finalizer is not None and finalizer._pid == os.getpid()  # noqa: SLF001


async def _in_thread(job: Callable[[], object]) -> None:
    limiter = anyio.CapacityLimiter(1)
    await anyio.to_thread.run_sync(job, abandon_on_cancel=True, limiter=limiter)


def _proxy_kind(exposed: frozenset[str]) -> Any:
    """The standard library's proxy for an object. The one that it makes up cannot have the methods
    by which attributes are got: its own go by them."""
    if "__getattribute__" not in exposed:
        return _managers.AutoProxy
    if {"wait", "abort", "reset"} <= exposed:
        return _managers.BarrierProxy
    return _managers.NamespaceProxy


class Found:
    """What is made of proxies found in a reply or in an item.

    Args:
        in_thread: whether the caller may wait, so that a host can be asked what is exposed.

    Attributes:
        uncounted: references that the host does not count yet.
    """

    def __init__(self, host: HostConnections | None, *, in_thread: bool = False) -> None:
        self.uncounted: list[Reference] = []
        self._host = host
        self._in_thread = in_thread

    async def count(self) -> None:
        """Have the hosts count what they do not count yet."""
        for reference in self.uncounted:
            await reference.count()

    def created(self, exposed: Sequence[str], token: Any) -> Any:
        assert self._host is not None
        token.address = self._host.address.value  # the host may call itself otherwise
        reference = Reference(self._host, token, exposed)
        reference.counted()
        return _wrapper(reference)

    def rebuilt(self, kind: Any, token: Any, serializer: str, options: dict[str, Any]) -> Any:
        host = self._host
        authkey = options.get("authkey")
        if host is None or authkey is not None or not _is_at(token.address, host.address):
            host = host_at(token.address, authkey)
        exposed = options.get("exposed") or getattr(kind, "_exposed_", None)
        if exposed is None and self._in_thread:
            exposed = host.function_now("get_methods", token)
        reference = Reference(host, token, exposed)
        # The pickle of such a proxy does not say what the object exposes beside attributes.
        reference.guessed = kind is _managers.NamespaceProxy and not options.get("exposed")
        self.uncounted.append(reference)
        return _wrapper(reference)


def _is_at(token_address: Any, address: Address) -> bool:
    if address.kind == "tcp" and token_address[0] in {"", "0.0.0.0", "::"}:  # noqa: S104
        # How a host that listens everywhere calls itself.
        return bool(token_address[1] == address.value[1])
    return parse(token_address) == address


def set_wrapper(wrapper: Callable[[Reference], Any]) -> None:
    """Say what users get for references; for `wrap`, which stands above what uses this."""
    global _wrapper  # noqa: PLW0603
    _wrapper = wrapper


_wrapper: Callable[[Reference], Any]
