"""Which sockets are ready, and in which order they have their turn.

Where thousands of clients go at once, each of their ends is a thing to do, and whoever is still
there must not wait for all of them. Where the system tells an end from a request, ends come last.
"""

from __future__ import annotations

import select
import selectors
import socket
import sys
from typing import Protocol

Watched = socket.socket | int
Ready = tuple[Watched, int]  # the events are those of `selectors`

# Of the ends of connections so many come first, so that they get on in any case.
ENDS_FIRST = 8
# So many are asked for at once: the system goes on after these the next time.
AT_ONCE = 1024


class Selector(Protocol):
    """What the reactor waits on."""

    def register(self, watched: Watched, events: int) -> object: ...
    def modify(self, watched: Watched, events: int) -> object:
        """Raises KeyError for what is not registered."""

    def unregister(self, watched: Watched) -> object:
        """Raises KeyError for what is not registered; to be called before it is closed."""

    def select(self, timeout: float | None = None) -> list[Ready]:
        """Wait up to so many seconds until something is ready, None for ever."""
        ...

    def close(self) -> None: ...


def new_selector() -> Selector:
    """The best that this system has."""
    return _Epoll() if sys.platform == "linux" else _Any()


class _Any:
    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self.register, self.modify = self._selector.register, self._selector.modify
        self.unregister, self.close = self._selector.unregister, self._selector.close

    def select(self, timeout: float | None = None) -> list[Ready]:
        return [(key.fileobj, events) for key, events in self._selector.select(timeout)]  # type: ignore[misc]


if sys.platform == "linux":

    class _Epoll:
        _ENDS = select.EPOLLHUP | select.EPOLLRDHUP | select.EPOLLERR

        def __init__(self) -> None:
            self._epoll = select.epoll()
            self._descriptors: dict[Watched, int] = {}
            self._watched: dict[int, tuple[Watched, int]] = {}
            self._backwards = False

        def register(self, watched: Watched, events: int) -> None:
            descriptor = watched if isinstance(watched, int) else watched.fileno()
            self._epoll.register(descriptor, self._mask(events))
            self._descriptors[watched] = descriptor
            self._watched[descriptor] = watched, events

        def modify(self, watched: Watched, events: int) -> None:
            descriptor = self._descriptors[watched]
            self._epoll.modify(descriptor, self._mask(events))
            self._watched[descriptor] = watched, events

        def unregister(self, watched: Watched) -> None:
            descriptor = self._descriptors.pop(watched)
            del self._watched[descriptor]
            self._epoll.unregister(descriptor)

        def select(self, timeout: float | None = None) -> list[Ready]:
            timeout = -1 if timeout is None else max(timeout, 0.0)
            found = self._epoll.poll(timeout, AT_ONCE)
            if len(found) > ENDS_FIRST:
                ends = [pair for pair in found if pair[1] & self._ENDS]
                others = [pair for pair in found if not pair[1] & self._ENDS]
                # None of them is always the last.
                self._backwards = not self._backwards
                if self._backwards:
                    others.reverse()
                found = [*ends[:ENDS_FIRST], *others, *ends[ENDS_FIRST:]]
            ready: list[Ready] = []
            for descriptor, mask in found:
                watched, events = self._watched[descriptor]
                happened = 0
                if mask & ~select.EPOLLOUT:
                    happened = selectors.EVENT_READ
                if mask & ~(select.EPOLLIN | select.EPOLLRDHUP):
                    happened |= selectors.EVENT_WRITE
                ready.append((watched, happened & events))
            return ready

        def close(self) -> None:
            self._epoll.close()

        @staticmethod
        def _mask(events: int) -> int:
            mask = 0
            if events & selectors.EVENT_READ:
                mask = select.EPOLLIN | select.EPOLLRDHUP
            if events & selectors.EVENT_WRITE:
                mask |= select.EPOLLOUT
            return mask
