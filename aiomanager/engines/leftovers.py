"""What a process holds of a queue at a stock host, and gives back when its event loop no longer
does.

A stock host knows no leases: what a process has got and nobody there wants is lost with it, unless
it is put into the queue again. The engine does that while its event loop runs. Where the loop
ends, the engine becomes garbage, or the interpreter ends, a thread that may wait does it, on
connections of its own: so this is all that is left of an engine, and refers to nothing of it.
"""

from __future__ import annotations

import contextlib
import heapq
import logging
import operator
import os
import queue
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Any
from weakref import ref

from .._afterwards import at_exit
from .._frames import Expression, Frame, encode
from .._links import Conversation, Link, call_function
from .._replies import NotThereError, load_queue_reply
from .._tasks import current_loop, is_running, on_loop_end
from .._threads import ThreadLane
from .._wire import Buffer, dump
from .base import Received

logger = logging.getLogger("aiomanager")

# Seconds that the end of the interpreter waits for the host, beyond the end of a slice.
EXIT_PATIENCE = 1.0
# Seconds for which a thread tries to give items back where the interpreter goes on.
PATIENCE = 3.0
# Seconds between two looks at the same thing.
PAUSE = 0.005
PAUSE_OF_A_FULL_QUEUE = 0.25


class StockReceived(Received):
    """An item with the reply around it that brought it.

    Attributes:
        target: the object that it came from; after a restart of the host there is another.
    """

    __slots__ = ("target",)

    def __init__(self, target: Target, reply: Buffer) -> None:
        super().__init__(0, 0, reply)
        self.target = target

    def load(self) -> Any:
        return super().load()[1]

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

    def __init__(self, link: Link, received: Sequence[StockReceived] = ()) -> None:
        self.left = False
        self.received = list(received)
        self.link = link
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
        """Wait for its end, or bring it about, on the calling thread."""
        self.left = True
        try:
            # A loop on another thread goes on with it, or has not yet noticed that it is to end.
            while self._goes_on and loop is not None and is_running(loop):
                if monotonic() > deadline:
                    return
                sleep(PAUSE)
            if self._goes_on:
                self.link.finish_now(self.conversation, deadline - monotonic())
        except Exception as exc:
            logger.debug("a call at the end of the event loop has failed: %s", exc)
        finally:
            self.link.apart = False
            self.link.close()

    @property
    def _goes_on(self) -> bool:
        return self._begun and not self._over


class Leftovers:
    """What one engine holds.

    Args:
        lane: makes the connections to give things back.
        wait_slice: seconds that a call may wait at the host.

    Attributes:
        out: what was handed out and is not settled.
        kept: what was handed back, by when it is due and in the order in which it came: a heap.
        foreign: what nobody here can unpickle, in the same way.
        errands: conversations that are under way.
        target: the object that is used.
        given_up: the engine is not there any more, and its items are not to be had from it.
    """

    def __init__(self, lane: ThreadLane, wait_slice: float) -> None:
        self.out: dict[int, StockReceived] = {}
        self.kept: list[tuple[float, int, StockReceived]] = []
        self.foreign: list[tuple[float, int, StockReceived]] = []
        self.errands: set[Errand] = set()
        self.target: Target | None = None
        self.given_up = False
        self._lane = lane
        self._slice = wait_slice
        self._process = os.getpid()
        self._loop = ref(current_loop())
        self._thread = threading.current_thread()
        self._working = threading.Lock()
        self._going: deque[StockReceived] = deque()  # to be given back, by a thread
        self._call_off = on_loop_end(self.leave)
        _all.add(self)

    def leave(self) -> None:
        """Give back everything soon, on another thread. Callable from anywhere, finalizers
        included; where no thread is to be had any more, the end of the interpreter does it."""
        if self._process != os.getpid():
            return
        self.given_up = True
        self._call_off()
        if not self._nothing_left():
            with contextlib.suppress(RuntimeError):
                threading.Thread(
                    target=self._leave_now, name="aiomanager-leftovers", daemon=True
                ).start()
                return
        else:
            _all.discard(self)

    def settled(self) -> None:
        """Everything has been given back by the engine itself, which is closed."""
        self.given_up = True
        self._call_off()
        if self._nothing_left():
            _all.discard(self)

    def give_back(self, deadline: float) -> bool:
        """Give back what can be given back until the deadline, on the calling thread; whether
        nothing is left. In a forked child there is nothing to give: it is the parent's."""
        if self._process != os.getpid():
            return True
        if not self._working.acquire(timeout=max(0.0, deadline - monotonic())):
            return False
        try:
            self.given_up = True
            self._collect(deadline)
            self._put_back(deadline)
            if not self._count() and self.target is not None and self.target.reference is None:
                ident, self.target = self.target.ident, None
                self._lane.converse_now(
                    None, call_function("decref", ident), max(0.1, deadline - monotonic())
                )
            if self._nothing_left():
                _all.discard(self)
            return not self._count()
        finally:
            self._working.release()

    def at_exit(self, deadline: float) -> None:
        """`give_back`, unless the event loop goes on for which the interpreter waits."""
        thread = self._thread
        if not thread.daemon and thread is not threading.main_thread() and thread.is_alive():
            return
        with contextlib.suppress(Exception):
            self.give_back(deadline + (self._slice if self.errands else 0.0))
        if count := self._count():
            logger.warning(
                "%s items that this process held for nobody are lost: their queue is full or its "
                "host gone",
                count,
            )
        _all.discard(self)

    def _leave_now(self) -> None:
        deadline = monotonic() + self._slice + PATIENCE
        try:
            while not self.give_back(min(deadline, monotonic() + self._slice + EXIT_PATIENCE)):
                if monotonic() > deadline:
                    break
                sleep(PAUSE_OF_A_FULL_QUEUE)
        except Exception as exc:
            logger.debug("what was received for nobody does not go back: %s", exc)
        finally:
            _all.discard(self)

    def _nothing_left(self) -> bool:
        owes = self.target is not None and self.target.reference is None
        return not (self._count() or self.errands or owes)

    def _count(self) -> int:
        return len(self._going) + len(self.kept) + len(self.foreign) + len(self.out)

    def _collect(self, deadline: float) -> None:
        """Gather everything in the order in which it came."""
        loop = self._loop()
        for heap in (self.kept, self.foreign):
            while heap:
                self._going.append(heapq.heappop(heap)[-1])
        for ident in sorted(self.out):
            self._going.append(self.out.pop(ident))
        while self.errands:
            errand = self.errands.pop()
            errand.finish(loop, deadline)
            self._going += errand.received

    def _put_back(self, deadline: float) -> None:
        if self._going and self.target is not None:
            conversation = self._putting_back(self.target, deadline)
            seconds = max(0.1, deadline - monotonic())
            with contextlib.suppress(queue.Full):
                self._lane.converse_now("aiomanager", conversation, seconds)

    def _putting_back(self, target: Target, deadline: float) -> Conversation[None]:
        while self._going:
            seconds = max(0.0, min(self._slice, (deadline - monotonic()) / 2))
            yield from target.put(self._going[0].expression(), seconds)
            self._going.popleft()
            yield from target.count_done()  # for the get that brought it here


# Strong references, as those who hold things may be garbage themselves.
_all: set[Leftovers] = set()


def _give_back_all() -> None:
    deadline = monotonic() + EXIT_PATIENCE
    for leftovers in list(_all):
        leftovers.at_exit(deadline)


def _start_anew() -> None:
    """In a forked child: what is held is the parent's."""
    _all.clear()


at_exit(_give_back_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)
