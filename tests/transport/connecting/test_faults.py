"""Whatever is raised at whatever step of connecting: an error of ours, and nothing stays open."""

from __future__ import annotations

import errno
import os
import pickle
import selectors
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

import anyio
import anyio.to_thread
import pytest

import aiomanager
from aiomanager import AioManagerError, AuthenticationError, ConfigurationError, ConnectionLostError
from aiomanager._ground.addresses import Address
from aiomanager._transport import approach, base, connecting
from aiomanager._transport.errors import unreachable
from aiomanager._wire.handshake import Handshake, client_handshake
from tests.support.hosts import KEY
from tests.support.waiting import wait_until
from tests.transport.connecting import rogues

pytestmark = [pytest.mark.anyio, pytest.mark.every_python]


class OfItsOwnError(Exception):
    """Of no kind that anybody expects, and without words."""

    def __str__(self) -> str:
        raise RuntimeError("nothing to say")


ERRORS: list[Callable[[], Exception]] = [
    OfItsOwnError,
    lambda: OSError("without a number"),
    lambda: OSError(errno.EMFILE, os.strerror(errno.EMFILE)),
    lambda: socket.gaierror(socket.EAI_NONAME, "no such name"),
    lambda: TimeoutError("of its own"),
    ConnectionResetError,
    EOFError,
    lambda: ValueError("embedded null byte"),
    lambda: UnicodeEncodeError("idna", "a", 0, 1, "label too long"),
    lambda: OverflowError("port must be 0-65535"),
    lambda: RuntimeError("can't start new thread"),
    MemoryError,
    lambda: RecursionError("too deep"),
    lambda: KeyError("key"),
    lambda: TypeError("wrong"),
    lambda: AttributeError("missing"),
    lambda: StopIteration(1),
    lambda: pickle.UnpicklingError("no pickle"),
    lambda: BlockingIOError(errno.EAGAIN, "would block"),
    lambda: ExceptionGroup("several", [ValueError()]),
]


class Beside:
    """A module as this library sees it while one thing in it is another."""

    def __init__(self, module: Any, **others: Any) -> None:
        self.__dict__.update(others)
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


Raiser = Callable[..., NoReturn]
Fault = Callable[[pytest.MonkeyPatch, Raiser], None]


def of_socket_module(**others: str) -> Fault:
    """A function of the module; the event loop's own calls of it stay whole."""

    def break_it(patch: pytest.MonkeyPatch, raiser: Raiser) -> None:
        patch.setattr(connecting, "socket", Beside(socket, **dict.fromkeys(others, raiser)))

    return break_it


def method(name: str) -> Fault:
    """A method of the sockets that this library opens."""

    def break_it(patch: pytest.MonkeyPatch, raiser: Raiser) -> None:
        broken: Any = type("Broken", (socket.socket,), {name: raiser})
        patch.setattr(connecting, "socket", Beside(socket, socket=broken))

    return break_it


def function(*owners: Any, name: str) -> Fault:
    """A function, in each module that calls it."""

    def break_it(patch: pytest.MonkeyPatch, raiser: Raiser) -> None:
        for owner in owners:
            patch.setattr(owner, name, raiser)

    return break_it


def handshake(steps: int) -> Fault:
    """A handshake that raises after so many steps."""

    def break_it(patch: pytest.MonkeyPatch, raiser: Raiser) -> None:
        def handshake(key: bytes, *, sealed: bool) -> Handshake:
            real = client_handshake(key, sealed=sealed)
            answer: Any = None
            for _ in range(steps):
                answer = yield real.send(answer)
            raiser()

        patch.setattr(approach, "client_handshake", handshake)

    return break_it


# Each step, and the only transport that takes it, where it is not both.
STEPS: dict[str, tuple[Fault, str | None]] = {
    "look-up": (of_socket_module(getaddrinfo=""), None),
    "socket": (of_socket_module(socket=""), None),
    "not to block": (method("setblocking"), None),
    "connect": (method("connect_ex"), None),
    "wait on the event loop": (function(anyio, name="wait_writable"), "stream"),
    "wait on a thread": (function(selectors, name="DefaultSelector"), "thread"),
    "outcome": (method("getsockopt"), None),
    "own address": (method("getsockname"), None),
    "options": (method("setsockopt"), None),
    "first time to receive": (method("recv"), None),
    "send on the event loop": (method("send"), "stream"),
    "send on a thread": (method("sendall"), "thread"),
    **{f"handshake {steps}": (handshake(steps), None) for steps in range(6)},
    "introduction": (function(base, name="dump"), None),
    "its answer": (function(base, name="load_reply"), None),
}


@pytest.mark.parametrize("step", STEPS)
async def test_any_error_at_any_step(transport: Any, transport_name: str, step: str):
    """What is raised is ours and names the reason as its cause, and the next attempt works."""
    fault, only = STEPS[step]
    if only not in (None, transport_name):
        pytest.skip("this transport does not take that step")
    with rogues.HasTheKey() as rogue:
        way = transport(("localhost", rogue.address[1]), 2.0)
        for error in ERRORS:
            if step == "send on the event loop" and isinstance(error(), BlockingIOError):
                continue  # is no error there: it is waited until the socket can be written

            def raiser(*args: Any, error: Any = error, **kwds: Any) -> NoReturn:
                raise error()

            with pytest.MonkeyPatch.context() as patch, pytest.raises(AioManagerError) as caught:
                fault(patch, raiser)
                await way.open("somebody")
            assert isinstance(
                caught.value, (ConnectionLostError, ConfigurationError, AuthenticationError)
            )
            assert caught.value.__cause__ is not None
        (await way.open("somebody")).close()
        rogue.all_gone()


@pytest.mark.parametrize("step", ["pack_hello", "read_hello"])
async def test_any_error_at_the_hello(
    transport: Any, host: Any, step: str, monkeypatch: pytest.MonkeyPatch
):
    """The same, where a host of ours is there: nothing stays open, and the next attempt works."""
    way = transport(host.address, 2.0)
    for error in ERRORS:

        def raiser(*args: Any, error: Any = error, **kwds: Any) -> NoReturn:
            raise error()

        with monkeypatch.context() as patch, pytest.raises(AioManagerError) as caught:
            patch.setattr(base, step, raiser)
            await way.open("somebody")
        assert isinstance(
            caught.value, (ConnectionLostError, ConfigurationError, AuthenticationError)
        )
    connection = await way.open("somebody")
    assert connection.hello["features"]
    connection.close()
    await wait_until(lambda: not host._peers, description="the host has closed it too")


async def test_no_threads(
    transport: Any, transport_name: str, host: Any, monkeypatch: pytest.MonkeyPatch
):
    """The error says so: the thread transport has no other way, nor has the other's look-up."""
    way = transport(("localhost", host.address[1]))
    with monkeypatch.context() as patch:
        # Not for all threads: that trio runs in pytest at all is by one.
        patch.setattr(threading.Thread, "start", _refuse)
        if transport_name == "thread":
            patch.setattr(anyio.to_thread, "run_sync", _refuse)
        with pytest.raises(ConnectionLostError, match="can't start new thread"):
            await way.open("somebody")
    (await way.open("somebody")).close()


_start = threading.Thread.start


def _refuse(thread: Any, **_: Any) -> None:
    if not isinstance(thread, threading.Thread) or thread.name.startswith("aiomanager"):
        raise RuntimeError("can't start new thread")
    _start(thread)


def test_no_threads_for_who_waits(host: Any, monkeypatch: pytest.MonkeyPatch):
    """A thread that waits anyway looks up by itself, as it has to where the interpreter ends."""
    from aiomanager._ground.addresses import parse
    from aiomanager._transport.base import call_function
    from aiomanager._transport.thread import ThreadTransport

    way = ThreadTransport(parse(("localhost", host.address[1])), KEY, 5.0)
    monkeypatch.setattr(threading.Thread, "start", _refuse)
    ident, _ = way.converse_now(None, call_function("create", "jobs"))
    assert ident.endswith("jobs")


@pytest.mark.skipif(sys.platform == "win32", reason="has no such limit")
async def test_no_descriptors(transport: Any, host: Any):
    """The error says so, and when there are some again, it works."""
    import resource

    way = transport(host.address)
    (await way.open("somebody")).close()  # what the transport needs besides is there
    await wait_until(lambda: not host._peers, description="the host has closed it too")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        with pytest.raises(ConnectionLostError, match="Too many open files"):
            await way.open("somebody")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    (await way.open("somebody")).close()


# -- names and paths ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["a" * 70, "\udcff", "a..b", ".", "x" * 300, "a.\ud800.b"], ids=ascii
)
async def test_what_can_be_no_name(transport_name: Any, name: str):
    """It is refused as what it is, and not waited for."""
    with pytest.raises(ConfigurationError, match="no name of a host"):
        async with aiomanager.connect((name, 1), KEY, transport=transport_name, wait=60):
            pass


@pytest.mark.parametrize("address", [("a\0b", 1), "/tmp/a\0b", "tcp://a\0b:1", "unix:///tmp/a%00b"])
def test_what_the_system_would_cut_short(address: Any):
    """A NUL is in no name and no path; what stands before it is another one."""
    with pytest.raises(ConfigurationError):
        aiomanager.connect(address, KEY)


@pytest.mark.parametrize("path", ["/tmp/" + "x" * 200, "/tmp/\ud800"], ids=["long", "surrogate"])
async def test_what_can_be_no_path_of_a_socket(transport_name: Any, path: str):
    """It is refused as what it is, and not waited for."""
    with pytest.raises(ConfigurationError):
        async with aiomanager.connect(path, KEY, transport=transport_name, wait=60):
            pass


async def test_a_name_that_nobody_knows(transport: Any, names: Any):
    """There may be somebody later."""

    def unknown() -> NoReturn:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    names["unknown"] = unknown
    with pytest.raises(ConnectionLostError, match="Name or service not known"):
        await transport(("unknown", 1)).open("somebody")


async def test_a_name_without_an_address(transport: Any, names: Any):
    """It leads nowhere."""
    names["empty"] = []
    with pytest.raises(ConnectionLostError, match="has no address"):
        await transport(("empty", 1)).open("somebody")


@pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux's")
async def test_an_abstract_socket_that_is_not_there_yet(transport_name: Any):
    """No host is there, and whoever waits for one finds it."""
    name = f"\0aiomanager-tests-{os.getpid()}-{transport_name}"
    with pytest.raises(ConnectionLostError, match="no host at"):
        async with aiomanager.connect(name, KEY, transport=transport_name):
            pass


@pytest.mark.parametrize("value", ["a\0b", "\0abstract", "\ud800", "x" * 5000], ids=ascii)
@pytest.mark.parametrize("error", ERRORS, ids=range(len(ERRORS)))
def test_the_error_itself_is_always_to_be_had(value: str, error: Callable[[], Exception]):
    """Whatever the address is, and whatever the reason."""
    assert isinstance(unreachable(Address("unix", value), error()), AioManagerError)


async def test_wait_covers_what_may_pass(transport_name: Any, names: Any, host: Any):
    """A name that is not known yet, a resolver that fails, an address that refuses; and then it
    is there."""
    gone = [OSError("the resolver is away"), socket.gaierror(socket.EAI_AGAIN, "try again")]

    def at_last() -> Any:
        if gone:
            raise gone.pop()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", host.address)]

    names["later"] = at_last
    async with aiomanager.connect(
        ("later", host.address[1]), KEY, transport=transport_name, wait=20
    ) as manager:
        assert await manager.queue("jobs").qsize() == 0
    assert not gone


async def test_wait_does_not_cover_another_key(transport_name: Any, host: Any):
    """It would be another one for ever."""
    with anyio.fail_after(10), pytest.raises(AuthenticationError):
        async with aiomanager.connect(host.address, b"another", transport=transport_name, wait=60):
            pass
