"""A hosted queue as its two kinds of clients see it.

`StockFace` is `queue.Queue` to whoever knows only the standard library: items are objects, one at
a time, received means taken. `OwnFace` is what aiomanager's own clients use: batches of frames,
leases, and an answer that is kept so that a repeated request changes nothing twice.

Both turn a request into one call of `HostedQueue`, whose reply goes back over the connection.
"""

from __future__ import annotations

import importlib
import inspect
import queue
from collections.abc import Callable, Hashable
from typing import Any

from ._errors import QueueShutDown
from ._frames import Frame
from ._hosted import Data, HostedQueue
from ._wire import bulky

Answer = tuple[str, Any]  # the kind and the value of a reply in the manager protocol
Send = Callable[[Answer], bool]

STOCK_METHODS = (
    "put", "get", "put_nowait", "get_nowait", "task_done", "join",
    "qsize", "empty", "full", "shutdown",
)  # fmt: skip


class _Expression:
    """Pickles as the call of a function, so that the value is made where it arrives."""

    def __init__(self, function: Any, *args: Any) -> None:
        self._call = (function, args)

    def __call__(self) -> None:
        raise TypeError("only for pickling")  # pickle wants the function of a call to be callable

    def __reduce__(self) -> tuple[Any, ...]:
        return self._call


def _shutdown_for(fallback: type[Exception], message: str) -> _Expression:
    """`queue.ShutDown` where the peer's Python has it (3.13), else what its callers know."""
    module = _Expression(importlib.import_module, "queue")
    return _Expression(_Expression(getattr, module, "ShutDown", fallback), message)


class StockFace:
    """The methods of `queue.Queue`, over a connection."""

    def __init__(self, hosted: HostedQueue) -> None:
        self._hosted = hosted

    def call(
        self, owner: Any, method: str, args: tuple[Any, ...], kwds: dict[str, Any], send: Send
    ) -> None:
        """Answer a request, now or when there is something to answer.

        A waiting call holds no thread, only a place in the queue's line, which ends with its
        owner: nothing is handed to a client that is gone.
        """
        if method not in STOCK_METHODS:
            raise AttributeError(f"method {method!r} is not one of {STOCK_METHODS}")
        getattr(self, f"_{method}")(owner, send, *args, **kwds)

    def _put(
        self, owner: Hashable, send: Send, item: Frame, block: bool = True, timeout: Any = None
    ) -> None:
        def reply(answer: Any) -> bool:
            if isinstance(answer, QueueShutDown):
                return send(("#ERROR", _shutdown_for(queue.Full, str(answer))))
            return send(("#RETURN", None) if answer else ("#ERROR", queue.Full()))

        # The standard library looks at the timeout of a put only where the queue has a bound.
        seconds = _seconds(block, timeout) if self._hosted.maxsize else None
        self._hosted.put([item.data], seconds, reply, owner=owner)

    def _get(self, owner: Any, send: Send, block: bool = True, timeout: Any = None) -> None:
        def reply(answer: Any) -> bool:
            if isinstance(answer, QueueShutDown):
                return send(("#ERROR", _shutdown_for(queue.Empty, str(answer))))
            if not answer:
                return send(("#ERROR", queue.Empty()))
            # What is sent into a connection that is gone is lost to everybody: look first.
            return not owner.is_gone() and send(("#RETURN", Frame(bytes(answer[0][2]))))

        self._hosted.receive(1, _seconds(block, timeout), reply, owner=owner, lease=False)

    def _put_nowait(self, owner: Hashable, send: Send, item: Frame) -> None:
        self._put(owner, send, item, False)

    def _get_nowait(self, owner: Any, send: Send) -> None:
        self._get(owner, send, False)

    def _task_done(self, owner: Hashable, send: Send) -> None:
        self._hosted.task_done()
        send(("#RETURN", None))

    def _join(self, owner: Hashable, send: Send) -> None:
        self._hosted.join(None, lambda answer: send(("#RETURN", None)), owner=owner)

    def _qsize(self, owner: Hashable, send: Send) -> None:
        send(("#RETURN", self._hosted.qsize()))

    def _empty(self, owner: Hashable, send: Send) -> None:
        send(("#RETURN", self._hosted.empty()))

    def _full(self, owner: Hashable, send: Send) -> None:
        send(("#RETURN", self._hosted.full()))

    def _shutdown(self, owner: Hashable, send: Send, immediate: bool = False) -> None:
        self._hosted.shutdown(immediate)
        send(("#RETURN", None))


def item_of(method: str, args: tuple[Any, ...], kwds: dict[str, Any]) -> inspect.BoundArguments:
    """Where in a stock client's put the item is."""
    signature = inspect.signature(lambda item, block=True, timeout=None: None)
    return signature.bind(*args, **kwds)


def _seconds(block: bool, timeout: float | None) -> float | None:
    if not block:
        return 0
    if timeout is not None and timeout < 0:
        raise ValueError("'timeout' must be a non-negative number")
    return timeout


class OwnFace:
    """Batches, leases and statistics for aiomanager's own clients."""

    def __init__(self, hosted: HostedQueue) -> None:
        self._hosted = hosted

    def call(
        self, owner: Any, ticket: Hashable, method: str, args: tuple[Any, ...], send: Send
    ) -> None:
        """Answer a request, now or when there is something to answer; `ticket` cancels it."""

        def reply(answer: Any) -> bool:
            if isinstance(answer, QueueShutDown):
                return send(("#SHUTDOWN", str(answer)))
            return send(("#RETURN", answer))

        hosted = self._hosted
        match method:
            case "put":
                frames, timeout = args
                hosted.put(_own(frames), timeout, reply, owner=owner, ticket=ticket)
            case "receive":
                count, timeout = args

                def deliver(answer: Any) -> bool:
                    if isinstance(answer, list):
                        answer = [(i, attempt, bulky(data)) for i, attempt, data in answer]
                    return reply(answer)

                hosted.receive(count, timeout, deliver, owner=owner, ticket=ticket)
            case "join":
                hosted.join(None, reply, owner=owner, ticket=ticket)
            case "cancel":
                hosted.cancel(owner, *args)
                reply(None)
            case "settle":
                reply(hosted.settle(*args, owner=owner))
            case "restore" | "task_done" | "qsize" | "empty" | "full" | "shutdown" | "statistics":
                reply(getattr(hosted, method)(*args))
            case "maxsize":
                reply(hosted.maxsize)
            case _:
                raise AttributeError(f"a queue has no operation {method!r}")


def _own(frames: list[Data]) -> list[Data]:
    # A frame that is a view would keep the whole message alive that it came in. Only large frames
    # are views, and where one is alone in its message there is nothing else to keep.
    return frames
