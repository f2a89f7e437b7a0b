"""Sockets to hosts, for both transports: the look-up of a name, and the race of its addresses.

Each step is there twice: for the event loop (`find`, `connect`), and for a thread that may wait
(`find_now`, `connect_now`).

A name may have several addresses, of which one may swallow packets and another belong to somebody
else. They are raced as RFC 8305 has it ("happy eyeballs"): of both families in turn, each a moment
after the one before or as soon as that has failed. The first that connects wins, and the others
are closed. Where the winner turns out to be no host, a further attempt goes without it.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest
from time import monotonic, sleep
from typing import Any, Generic, TypeVar

import anyio

from .._concurrency.event_loop import for_other_threads
from .._ground.addresses import Address
from .._ground.errors import ConfigurationError
from .._ground.sockets import widen
from .approach import Approach, Place

T = TypeVar("T")

# A full backlog refuses a unix socket at once instead of letting it wait; seconds until it is
# tried again.
BACKLOG_PAUSE = 0.01
# How soon a thread notices that nobody waits for its connection any more.
NOTICE = 0.05


# -- names --------------------------------------------------------------------------------------


def _known(address: Address) -> list[Place] | None:
    """The addresses of a host that are known without a look-up."""
    if address.kind != "tcp":
        return [Place(socket.AF_UNIX, address.value)]
    try:
        ip = ipaddress.ip_address(address.value[0])
    except ValueError:
        return None
    if ip.version == 4:
        return [Place(socket.AF_INET, address.value)]
    return None if ip.scope_id else [Place(socket.AF_INET6, address.value)]


def _look_up(address: Address) -> list[Place]:
    host, port = address.value
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (ValueError, OverflowError) as exc:
        raise ConfigurationError(f"{host!r} is no name of a host: {exc}") from exc
    places = interleaved(Place(family, where) for family, _, _, _, where in found)
    if not places:
        raise OSError(f"{host} has no address")
    return places


def interleaved(places: Iterable[Place]) -> list[Place]:
    """Addresses of both families in turn, each once; the system has sorted those of a family."""
    families: dict[int, list[Place]] = {}
    for place in dict.fromkeys(places):
        families.setdefault(place.family, []).append(place)
    return [place for turn in zip_longest(*families.values()) for place in turn if place]


class Apart(Generic[T]):
    """A call that nothing can interrupt, on a thread of its own: it may be left at any time, and
    keeps no process from ending.

    Args:
        done: called by the thread at the end.
        discard: is given what comes when it was left.
    """

    def __init__(
        self,
        call: Callable[[], T],
        done: Callable[[], object],
        discard: Callable[[T], object] = lambda _: None,
    ) -> None:
        self._call = call
        self._done = done
        self._discard = discard
        self._lock = threading.Lock()
        self._left = False
        self._value: list[T] = []
        self._error: BaseException | None = None

    def start(self) -> None:
        """Raises `RuntimeError` where there is no thread to be had."""
        threading.Thread(target=self.run, name="aiomanager-apart", daemon=True).start()

    def run(self) -> None:
        """Make the call on this thread."""
        try:
            value = self._call()
        except BaseException as exc:
            self._error = exc
        else:
            with self._lock:
                self._value.append(value)
            if self._left:
                self.leave()
        self._done()

    def leave(self) -> None:
        """Want it no more."""
        self._left = True
        with self._lock:
            for value in self._value:
                self._discard(value)
            self._value.clear()

    def result(self) -> T:
        """What the call has returned, or raise what it has raised. It must be done."""
        if self._error is not None:
            if isinstance(self._error, Exception):
                raise self._error
            raise OSError(repr(self._error)) from self._error
        return self._value.pop()


async def find(approach: Approach) -> None:
    """Look up the addresses of the host; a numeric one costs no thread."""
    places = _known(approach.address)
    if places is None:
        done = anyio.Event()
        lookup = Apart(lambda: _look_up(approach.address), for_other_threads(done.set))
        lookup.start()
        with anyio.fail_after(approach.left):
            await done.wait()
        places = lookup.result()
    approach.found(places)


def find_now(approach: Approach) -> None:
    """`find` for a thread that may wait."""
    places = _known(approach.address)
    if places is None:
        places = apart(lambda: _look_up(approach.address), approach)
    approach.found(places)


def apart(
    call: Callable[[], T], approach: Approach, discard: Callable[[T], object] = lambda _: None
) -> T:
    """Make a call that nothing can interrupt, and wait for it as long as the approach may take.
    Where there is no thread for it, as at the end of the interpreter, it may take longer."""
    done = threading.Event()
    made = Apart(call, done.set, discard)
    try:
        made.start()
    except RuntimeError:
        made.run()
    try:
        while not done.wait(min(NOTICE, approach.left)):
            pass
    except BaseException:
        made.leave()
        raise
    return made.result()


# -- sockets ------------------------------------------------------------------------------------


def _begin(place: Place) -> tuple[socket.socket, int]:
    """Begin to connect; return the socket, which does not block, and the system's number for what
    came of it, 0 where it has connected."""
    sock = socket.socket(place.family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        return sock, sock.connect_ex(place.where)
    except (ValueError, OverflowError) as exc:
        sock.close()
        raise ConfigurationError(f"{place} is nothing that one can connect to: {exc}") from exc
    except BaseException:
        sock.close()
        raise


def _is_full(place: Place, code: int) -> bool:
    return code == errno.EAGAIN and place.family not in (socket.AF_INET, socket.AF_INET6)


def _is_under_way(code: int) -> bool:
    return code in (errno.EINPROGRESS, errno.EWOULDBLOCK)


def _made(sock: socket.socket, code: int) -> socket.socket:
    """The socket, which has connected, set up; raises where it has not."""
    if _is_under_way(code):
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        widen(sock)
        return sock
    try:
        to_itself = sock.getsockname() == sock.getpeername()
        # Nagle's delay costs 40 ms for a message in two writes.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    except OSError as exc:
        if exc.errno not in (errno.ENOTCONN, errno.EINVAL):
            raise
        # What the systems say of a socket that the other side has reset meanwhile.
        raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)) from exc
    if to_itself:
        # Where nobody listens on a port of those that the system hands out, the socket may be
        # given that one itself. It connects, and no host could listen there.
        raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
    return sock


def is_silent(sock: socket.socket) -> bool:
    """Whether a socket that does not block is open, and nothing has come that was not read: a
    connection between two requests that is still good."""
    try:
        sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def _none(failures: Sequence[Exception]) -> Exception:
    """The error for a race that nobody has won."""
    if len(failures) == 1:
        return failures[0]
    error = OSError("none of its addresses takes connections")
    error.__cause__ = ExceptionGroup("attempts to connect", failures)
    return error


async def connect(approach: Approach) -> socket.socket:
    """Connect to the first of the addresses that lets one, with a socket that does not block. The
    caller sees to the deadline; cancelled, it closes what it has begun."""
    if len(approach.places) == 1:
        (place,) = approach.places
        sock = await _connect(place)
        approach.connected = place
        return sock
    won: list[socket.socket] = []
    failures: list[Exception] = []

    async def run(place: Place, failed: anyio.Event) -> None:
        try:
            sock = await _connect(place)
        except Exception as exc:
            approach.failed(place, exc)
            failures.append(exc)
            failed.set()
            return
        if won:
            sock.close()
            return
        won.append(sock)
        approach.connected = place
        group.cancel_scope.cancel()

    try:
        async with anyio.create_task_group() as group:
            for place in approach.places:
                failed = anyio.Event()
                group.start_soon(run, place, failed)
                with anyio.move_on_after(approach.stagger):
                    await failed.wait()
    except BaseException:
        for sock in won:
            sock.close()
        raise
    if not won:
        raise _none(failures)
    return won[0]


async def _connect(place: Place) -> socket.socket:
    sock, code = _begin(place)
    try:
        while _is_full(place, code):
            await anyio.sleep(BACKLOG_PAUSE)  # nobody tells
            code = sock.connect_ex(place.where)
        if _is_under_way(code):
            await anyio.wait_writable(sock)
        return _made(sock, code)
    except BaseException:
        sock.close()
        raise


def connect_now(approach: Approach) -> socket.socket:
    """`connect` for a thread that may wait, which keeps to the deadline of the attempt."""
    with contextlib.closing(_Race(approach)) as race:
        return race.run()


class _Race:
    """The race of the addresses on one thread."""

    def __init__(self, approach: Approach) -> None:
        self._approach = approach
        self._waiting = deque(approach.places)
        self._begun: dict[socket.socket, Place] = {}
        self._failures: list[Exception] = []
        self._selector = selectors.DefaultSelector()

    def run(self) -> socket.socket:
        next_at = monotonic()
        while self._waiting or self._begun:
            pause = min(self._approach.left, NOTICE)
            if self._waiting:
                pause = min(pause, next_at - monotonic()) if self._begun else 0
                if pause <= 0:
                    next_at = monotonic() + self._approach.stagger
                    self._begin(self._waiting.popleft())
                    continue
            for key, _ in self._selector.select(pause):
                sock: Any = key.fileobj
                if self._has_won(sock):
                    return sock  # type: ignore[no-any-return]
        raise _none(self._failures)

    def _begin(self, place: Place) -> None:
        sock: socket.socket | None = None
        try:
            sock, code = _begin(place)
            while _is_full(place, code):
                sleep(min(BACKLOG_PAUSE, self._approach.left))
                code = sock.connect_ex(place.where)
            if code and not _is_under_way(code):
                raise OSError(code, os.strerror(code))
            self._selector.register(sock, selectors.EVENT_WRITE)
            self._begun[sock] = place
        except BaseException as exc:
            self._failed(place, sock, exc)

    def _has_won(self, sock: socket.socket) -> bool:
        self._selector.unregister(sock)
        place = self._begun.pop(sock)
        try:
            _made(sock, errno.EINPROGRESS)
        except BaseException as exc:
            self._failed(place, sock, exc)
            return False
        self._approach.connected = place
        return True

    def _failed(self, place: Place, sock: socket.socket | None, error: BaseException) -> None:
        if sock is not None:
            sock.close()
        if not isinstance(error, Exception):
            raise error
        self._approach.failed(place, error)
        self._failures.append(error)

    def close(self) -> None:
        for sock in self._begun:
            sock.close()
        self._selector.close()
