"""What a process holds of a queue at a stock host, and gives back when its event loop no longer
does.

A stock host knows no leases: what a process has got and nobody there wants is lost with it, unless
it is put into the queue again. The engine does that while its event loop runs; this is all that is
left of an engine then.
"""

from __future__ import annotations

import contextlib
import heapq
import logging
import operator
import queue
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Any

from ..._concurrency.event_loop import is_running
from ..._ground.buffers import Buffer
from ..._transport.base import Connection, Conversation, call_function
from ..._transport.leaving import Leaving
from ..._transport.thread import ThreadTransport
from ..._wire.items import Expression, Frame, encode
from ..._wire.messages import dump
from ..._wire.replies import NotThereError, load_queue_reply
from ..base import Received

logger = logging.getLogger("aiomanager")

# Seconds between two looks at the same thing.
PAUSE = 0.005


class StockReceived(Received):
    """An item with the reply around it that brought it.

    Attributes:
        target: the object that it came from; after a restart of the host there is another.
    """

    __slots__ = ("target",)

    def __init__(self, target: Target, reply: Buffer) -> None:
        super().__init__(None, 0, 0, reply)
        self.target = target

    def unwrapped(self, loaded: Any) -> Any:
        return loaded[1]

    def frame(self) -> bytes:
        return encode(self.expression())

    def expression(self) -> Expression:
        """What unpickles to the item."""
        return Expression(operator.getitem, Frame(bytes(self.data)), 1)


@dataclass(eq=False)
class Target:
    """A queue object at a host.

    Attributes:
        ident: its id there.
        methods: the names of those that it exposes.
        reference: where somebody else sees to the count of references, what must not be garbage
            as long as the object is used. None where the engine owns one reference itself.
        plain_put, plain_get: whether it takes no `block` and `timeout`.
    """

    ident: str
    methods: Sequence[str]
    reference: object = None
    plain_put: bool = False
    plain_get: bool = False

    def call(self, method: str, *args: Any, **kwds: Any) -> Conversation[Any]:
        """The conversation of one call."""
        return load_queue_reply((yield dump((self.ident, method, args, kwds))))

    def is_unknown(self, error: Exception) -> bool:
        """Whether an error says that the host does not know the object, so that the call has not
        happened."""
        return isinstance(error, NotThereError) and error.key == self.ident

    def put(self, item: object, seconds: float) -> Conversation[Any]:
        """Put an item or a frame, waiting for room up to `seconds`."""
        args = (item,) if self.plain_put else (item, seconds > 0, seconds)
        return self.call("put", *args)

    def count_done(self) -> Conversation[None]:
        """Count one item as done, where that is counted and there is one."""
        if "task_done" in self.methods:
            with contextlib.suppress(ValueError):
                yield from self.call("task_done")


class Errand:
    """A conversation about items, which comes to an end whatever becomes of the event loop.

    Attributes:
        left: the event loop will not see its end.
        received: the items that are in its hands.
    """

    def __init__(self, connection: Connection, received: Sequence[StockReceived] = ()) -> None:
        self.left = False
        self.received = list(received)
        self.connection = connection
        self._begun = False
        self._over = False
        self.conversation: Conversation[None]

    def begin(self, steps: Conversation[None]) -> Conversation[None]:
        """The conversation, watched."""
        self.conversation = self._watched(steps)
        return self.conversation

    def _watched(self, steps: Conversation[None]) -> Conversation[None]:
        self._begun = True
        try:
            if not self.left:
                yield from steps
        finally:
            self._over = True

    def finish(self, loop: Any, deadline: float) -> None:
        """Wait for its end, or bring it about, on the calling thread; it was `left`."""
        try:
            # A loop on another thread goes on with it, or has not yet noticed that it is to end.
            while self._goes_on and loop is not None and is_running(loop):
                if monotonic() > deadline:
                    return
                sleep(PAUSE)
            if self._goes_on:
                self.connection.finish_now(self.conversation, deadline - monotonic())
        except Exception as exc:
            logger.debug("a call at the end of the event loop has failed: %s", exc)
        finally:
            self.connection.apart = False
            self.connection.close()

    @property
    def _goes_on(self) -> bool:
        return self._begun and not self._over


class Leftovers(Leaving):
    """What one engine holds.

    Args:
        transport: makes the connections to give things back.
        wait_slice: seconds that a call may wait at the host.

    Attributes:
        out: what was handed out and is not settled, and what was taken and is in nobody's hands.
        kept: what was handed back, by when it is due and in the order in which it came: a heap.
        foreign: what nobody here can unpickle, in the same way.
        errands: conversations that are under way.
        target: the object that is used.
        moving: held by whoever moves an item from one of these to another. The event loop may be
            a daemon's, which goes on while the interpreter ends and its items are collected.
    """

    def __init__(self, transport: ThreadTransport, wait_slice: float) -> None:
        super().__init__()
        self.moving = threading.Lock()
        self.out: dict[int, StockReceived] = {}
        self.kept: list[tuple[float, int, StockReceived]] = []
        self.foreign: list[tuple[float, int, StockReceived]] = []
        self.errands: set[Errand] = set()
        self.target: Target | None = None
        self._transport = transport
        self._slice = wait_slice
        self._going: deque[StockReceived] = deque()  # to be given back, by a thread

    @property
    def slowness(self) -> float:
        return self._slice if self.errands else 0.0

    def nothing_left(self) -> bool:
        owes = self.target is not None and self.target.reference is None
        return not (self.count() or self.errands or owes)

    def count(self) -> int:
        return len(self._going) + len(self.kept) + len(self.foreign) + len(self.out)

    def give_back_now(self, deadline: float) -> None:
        self._collect(deadline)
        self._put_back(deadline)
        if not self.count() and self.target is not None and self.target.reference is None:
            ident, self.target = self.target.ident, None
            self._transport.converse_now(
                None, call_function("decref", ident), max(0.1, deadline - monotonic())
            )

    def _collect(self, deadline: float) -> None:
        """Gather everything in the order in which it came."""
        loop = self.loop()
        with self.moving:
            for heap in (self.kept, self.foreign):
                while heap:
                    self._going.append(heapq.heappop(heap)[-1])
            for ident in sorted(self.out):
                self._going.append(self.out.pop(ident))
            errands = list(self.errands)
            self.errands.clear()
            for errand in errands:
                errand.left = True
        for errand in errands:
            errand.finish(loop, deadline)
            self._going += errand.received

    def _put_back(self, deadline: float) -> None:
        if self._going and self.target is not None:
            conversation = self._putting_back(self.target, deadline)
            seconds = max(0.1, deadline - monotonic())
            with contextlib.suppress(queue.Full):
                self._transport.converse_now("aiomanager", conversation, seconds)

    def _putting_back(self, target: Target, deadline: float) -> Conversation[None]:
        while self._going:
            seconds = max(0.0, min(self._slice, (deadline - monotonic()) / 2))
            yield from target.put(self._going[0].expression(), seconds)
            self._going.popleft()
            yield from target.count_done()  # for the get that brought it here
