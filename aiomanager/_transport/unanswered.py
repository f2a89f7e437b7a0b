"""The requests of a session that have not been answered, and the end of those whose time is up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from time import monotonic
from typing import Any

from .._concurrency.event_loop import call_later
from .._concurrency.futures import Future
from .._ground.buffers import Buffer
from .._ground.errors import unanswered


class Request(Future[Any]):
    """A request, and the place for its answer.

    Attributes:
        waits: the answer may take any time.
        asked: when it was asked, and when it was last sent.
    """

    __slots__ = ("asked", "parts", "sent", "waits")

    def __init__(self, parts: Sequence[Buffer], waits: bool) -> None:
        super().__init__()
        self.parts = parts
        self.waits = waits
        self.asked = monotonic()
        self.sent: float | None = None


class Unanswered(dict[int, Request]):
    """Requests by their ids, in the order in which they were asked.

    Args:
        patience: seconds within which one that waits for nothing has ended.
    """

    def __init__(self, patience: float) -> None:
        super().__init__()
        self._patience = patience
        self._timing = False  # somebody looks for requests whose time is up

    def add(self, request_id: int, request: Request) -> None:
        """From now on it is to be answered."""
        self[request_id] = request
        if not request.waits and not self._timing:
            self._timing = True
            call_later(self._patience, self._look_at_the_time)

    def owed_since(self) -> float:
        """When the oldest was sent that waits for nothing."""
        for request in self.values():
            if not request.waits and request.sent is not None:
                return request.sent
        return inf

    def fail(self, error_for: Callable[[Request], Exception], behind: Exception) -> None:
        """End all."""
        requests = list(self.values())
        self.clear()
        for request in requests:
            request.set_exception(error_for(request), behind=behind)

    def _look_at_the_time(self) -> None:
        """End those whose time is up, and look again when that of the next is."""
        over = monotonic() - self._patience
        for request_id, request in list(self.items()):
            if request.waits:
                continue
            if request.asked > over:
                call_later(request.asked - over, self._look_at_the_time)
                return
            del self[request_id]
            request.set_exception(unanswered(self._patience, sent=request.sent is not None))
        self._timing = False
