"""What a process holds for a host, and gives back when its event loop no longer does.

While the loop runs, that is its work. Where it ends, where whoever used it becomes garbage, or
where the interpreter ends, a thread that may wait does it, on connections of its own. So what is
held must refer to nothing of those who are gone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from abc import ABC, abstractmethod
from time import monotonic, sleep
from weakref import ref

from .._concurrency.event_loop import current_loop, on_loop_end
from .._concurrency.finalizers import at_exit

logger = logging.getLogger("aiomanager")

# Seconds that the end of the interpreter waits for a host.
EXIT_PATIENCE = 1.0
# Seconds for which a thread tries to give back where the interpreter goes on, and between tries.
PATIENCE = 3.0
PAUSE = 0.25


class Leaving(ABC):
    """Something held in the running event loop.

    Attributes:
        given_up: nobody may have it from here any more.
        loop: the event loop, weakly.
    """

    def __init__(self) -> None:
        self.given_up = False
        self.loop = ref(current_loop())
        self._process = os.getpid()
        self._thread = threading.current_thread()
        self._working = threading.Lock()
        self._call_off = on_loop_end(self.leave)
        _all.add(self)

    @abstractmethod
    def nothing_left(self) -> bool:
        """Whether there is nothing to give back or to say."""

    @abstractmethod
    def count(self) -> int:
        """How many items are held."""

    @abstractmethod
    def give_back_now(self, deadline: float) -> None:
        """Give back what can be until the deadline, on the calling thread. It may raise."""

    @property
    def slowness(self) -> float:
        """Seconds for which the host may rightly take to answer."""
        return 0.0

    def leave(self) -> None:
        """Give back everything soon, on another thread. Callable from anywhere, finalizers
        included; where no thread is to be had any more, the end of the interpreter does it."""
        if self._process != os.getpid():
            return
        self.given_up = True
        self._call_off()
        if self.nothing_left():
            _all.discard(self)
            return
        with contextlib.suppress(RuntimeError):
            threading.Thread(target=self._leave_now, name="aiomanager-leaving", daemon=True).start()

    def give_back(self, deadline: float) -> bool:
        """Give back what can be until the deadline, on the calling thread; whether no item is
        left. In a forked child there is nothing to give: it is the parent's."""
        if self._process != os.getpid():
            return True
        if not self._working.acquire(timeout=max(0.0, deadline - monotonic())):
            return False
        try:
            self.given_up = True
            self.give_back_now(deadline)
            if self.nothing_left():
                _all.discard(self)
            return not self.count()
        finally:
            self._working.release()

    def at_exit(self, deadline: float) -> None:
        """`give_back`, unless the event loop goes on for which the interpreter waits."""
        thread = self._thread
        if not thread.daemon and thread is not threading.main_thread() and thread.is_alive():
            return
        try:
            self.give_back(deadline + self.slowness)
        except Exception as exc:
            logger.debug("left undone: %s", exc)
        if count := self.count():
            logger.warning(
                "%s items that this process held for nobody are lost: their queue is full or its "
                "host gone",
                count,
            )
        _all.discard(self)

    def _leave_now(self) -> None:
        deadline = monotonic() + self.slowness + PATIENCE
        try:
            while not self._try_until(deadline) and monotonic() < deadline:
                sleep(PAUSE)
        finally:
            _all.discard(self)

    def _try_until(self, deadline: float) -> bool:
        try:
            soon = monotonic() + self.slowness + EXIT_PATIENCE
            return self.give_back(min(deadline, soon)) and self.nothing_left()
        except Exception as exc:
            logger.debug("what was received for nobody does not go back: %s", exc)
            return False


# Strong references, as those who hold things may be garbage themselves.
_all: set[Leaving] = set()


def _give_back_all() -> None:
    deadline = monotonic() + EXIT_PATIENCE
    for leaving in list(_all):
        leaving.at_exit(deadline)


def _start_anew() -> None:
    """In a forked child: what is held is the parent's."""
    _all.clear()


at_exit(_give_back_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)
