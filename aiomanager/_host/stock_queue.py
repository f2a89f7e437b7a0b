"""A hosted queue as clients see it that know only the standard library: `queue.Queue`. Items are
objects, one at a time, and received means taken.

A request becomes one call of `HostedQueue`, whose outcome goes back over the connection when the
server takes it out of the queue's answers.
"""

from __future__ import annotations

import importlib
import queue
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .._broker.outcomes import (
    Accepted,
    Handed,
    Joined,
    Nothing,
    Outcome,
    Refused,
    Returned,
    ShutDown,
)
from .._broker.queue import HostedQueue
from .._ground.buffers import Buffer
from .._wire.items import Expression
from .._wire.messages import STOCK_METHODS, dump
from .._wire.passthrough import returned_item

PUTS = ("put", "put_nowait")
# What `queue.Queue` has besides; proxies ask for it as `NamespaceProxy` does.
STOCK_ATTRIBUTES = ("maxsize", "is_shutdown", "unfinished_tasks")


class Asker(Hashable, Protocol):
    """The connection that a request of a stock client came over, and its owner at the queue."""

    queues: set[HostedQueue]  # where something of it may be left
    protocol: int  # the newest of pickle that the client reads

    def send(self, parts: Sequence[Buffer], undelivered: Callable[[], None] | None = None) -> bool:
        """Send a reply; False where nobody is there."""
        ...

    def is_gone(self) -> bool:
        """Whether nobody is there."""
        ...

    def starve(self) -> None:
        """There is no memory for what is to be sent: cut the connection."""


# By its name in there, as Python 3.6 has no `_queue`, where `Empty` says that it is from.
_MODULE = Expression(importlib.import_module, "queue")
_EMPTY_CLASS = Expression(getattr, _MODULE, "Empty")


def _shutdown_for(fallback: object, message: str) -> list[Buffer]:
    """`queue.ShutDown` where the peer's Python has it (3.13), else what its callers know."""
    error = Expression(getattr, _MODULE, "ShutDown", fallback)
    return dump(("#ERROR", Expression(error, message)))


# Of everything but an item: whatever it is then runs no code of a peer's in its comparisons.
_ARGUMENTS = (type(None), bool, int, float, str)


def plain_arguments(args: tuple[Any, ...], kwds: dict[str, Any]) -> bool:
    """Whether a queue can be called with these without running anything of a peer's."""
    return all(type(arg) in _ARGUMENTS for arg in (*args, *kwds.values()))


_NONE = dump(("#RETURN", None))
_EMPTY = dump(("#ERROR", Expression(_EMPTY_CLASS)))
_FULL = dump(("#ERROR", queue.Full()))


def with_frame(
    args: tuple[Any, ...], kwds: dict[str, Any], encode: Callable[[object], Buffer]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a stock client's put with a frame in the place of the item."""
    if args:
        return (encode(args[0]), *args[1:]), kwds
    if "item" in kwds:
        return args, {**kwds, "item": encode(kwds["item"])}
    return args, kwds


@dataclass(slots=True)  # frozen, it would take four times as long to make
class _StockCall:
    """A request of a stock client that is to be answered.

    Attributes:
        ended: the error that it knows for a queue that is shut down.
    """

    asker: Asker
    hosted: HostedQueue
    ended: object = queue.Full

    def tell(self, outcome: Outcome) -> None:
        try:
            sent = self._send(outcome)
        except MemoryError:
            self.asker.starve()
            sent = False
        if not sent and type(outcome) is Handed:
            self.hosted.undelivered(outcome)

    def _send(self, outcome: Outcome) -> bool:
        # Patterns with attributes in them would take several times as long.
        match outcome:
            case Handed():
                return self._deliver(outcome)
            case Accepted():
                return self.asker.send(_NONE if outcome.count else _FULL)
            case Nothing():
                return self.asker.send(_EMPTY)
            case Joined():
                return self.asker.send(_NONE)
            case ShutDown():
                return self.asker.send(_shutdown_for(self.ended, outcome.message))
            case Returned():
                return self.asker.send(dump(("#RETURN", outcome.value)))
            case Refused():
                return self.asker.send(dump(("#ERROR", outcome.error)))

    def _deliver(self, handed: Handed) -> bool:
        # What is sent into a connection that is gone is lost to everybody: look first, also where
        # it did not wait, as its request may have waited to be read.
        if self.asker.is_gone():
            return False
        ((item, _, data),) = handed.deliveries
        parts = returned_item(data, self.asker.protocol)
        return self.asker.send(parts, lambda: self.hosted.undeliver(item))


class StockFace:
    """The methods of `queue.Queue`, over a connection.

    A waiting call holds no thread, only a place in the queue's line, which ends with its
    connection: nothing is handed to a client that is gone. What was on its way when a client went
    is in the queue again where its system tells that it was not read. One that is killed after it
    has read an item, and before its program has it, takes it along: nobody can know.
    """

    def __init__(self, hosted: HostedQueue) -> None:
        self._hosted = hosted
        self._methods: dict[str, Callable[..., None]] = {
            **{name: getattr(self, f"_{name}") for name in STOCK_METHODS},
            **dict.fromkeys(("__repr__", "__str__", "#GETVALUE"), self._describe),
            "__getattribute__": self._attribute,
        }

    def call(self, asker: Asker, method: str, args: tuple[Any, ...], kwds: dict[str, Any]) -> None:
        """Answer a request, now or when there is something to answer; the item of a put is given
        as a frame."""
        asker.queues.add(self._hosted)
        function = self._methods.get(method)
        if function is None:
            known = ", ".join(STOCK_METHODS)
            asker.send(dump(("#TRACEBACK", f"a queue has no method {method!r}; it has: {known}")))
            return
        try:
            function(asker, *args, **kwds)
        except Exception as exc:
            self._answer(asker, Refused(exc))

    def _answer(self, asker: Asker, outcome: Outcome) -> None:
        self._hosted.answers.append((_StockCall(asker, self._hosted), outcome))

    def _put(self, asker: Asker, item: Buffer, block: bool = True, timeout: Any = None) -> None:
        # The standard library looks at the timeout of a put only where the queue has a bound.
        seconds = _seconds(block, timeout) if self._hosted.maxsize > 0 else None
        self._hosted.put([item], seconds, _StockCall(asker, self._hosted), owner=asker)

    def _get(self, asker: Asker, block: bool = True, timeout: Any = None) -> None:
        call = _StockCall(asker, self._hosted, _EMPTY_CLASS)
        self._hosted.receive(1, _seconds(block, timeout), call, owner=asker, lease=False)

    def _put_nowait(self, asker: Asker, item: Buffer) -> None:
        self._put(asker, item, False)

    def _get_nowait(self, asker: Asker) -> None:
        self._get(asker, False)

    def _task_done(self, asker: Asker) -> None:
        self._hosted.task_done()
        self._answer(asker, Returned(None))

    def _join(self, asker: Asker) -> None:
        self._hosted.join(None, _StockCall(asker, self._hosted), owner=asker)

    def _qsize(self, asker: Asker) -> None:
        self._answer(asker, Returned(self._hosted.qsize()))

    def _empty(self, asker: Asker) -> None:
        self._answer(asker, Returned(self._hosted.empty()))

    def _full(self, asker: Asker) -> None:
        self._answer(asker, Returned(self._hosted.full()))

    def _shutdown(self, asker: Asker, immediate: bool = False) -> None:
        self._hosted.shutdown(immediate)
        self._answer(asker, Returned(None))

    def _describe(self, asker: Asker) -> None:
        self._answer(asker, Returned(f"<hosted queue {self._hosted.name!r}>"))

    def _attribute(self, asker: Asker, name: str) -> None:
        if name not in STOCK_ATTRIBUTES:
            raise AttributeError(f"a queue has no attribute {name!r}")
        name = "unfinished" if name == "unfinished_tasks" else name
        self._answer(asker, Returned(getattr(self._hosted, name)))


def _seconds(block: bool, timeout: float | None) -> float | None:
    if not block:
        return 0
    if timeout is not None and timeout < 0:
        raise ValueError("'timeout' must be a non-negative number")
    return timeout
