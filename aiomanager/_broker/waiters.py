"""Calls that wait at a hosted queue."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass

from .._ground.buffers import Buffer
from .backlog import Timer
from .outcomes import Caller


@dataclass(slots=True, eq=False)
class Waiter:
    """A call that waits: for items (count), for room (frames), or for the queue to be done."""

    owner: Hashable
    ticket: Hashable
    caller: Caller
    count: int = 0
    lease: bool = True
    frames: deque[Buffer] | None = None
    accepted: int = 0
    timer: Timer | None = None
    line: Line | None = None  # where it waits


Line = OrderedDict[Waiter, None]  # first come, first served; anyone may leave


class WaitingRoom:
    """The calls that wait at one queue, in their lines and by their owners: whoever leaves costs
    as much as he has there, and not as much as all others have.

    Args:
        limit: calls of one owner that may wait at once.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.getters: Line = OrderedDict()
        self.putters: Line = OrderedDict()
        self.joiners: Line = OrderedDict()
        # Getters whose owners have as much as they may have, until they settle some of it.
        self.stalled: dict[Hashable, Line] = {}
        self._owned: dict[Hashable, dict[Waiter, None]] = {}

    def enter(self, waiter: Waiter, line: Line) -> None:
        """Wait at the end of a line; raises RuntimeError where the owner has too many there."""
        owned = self._owned.setdefault(waiter.owner, {})
        if len(owned) >= self._limit:
            raise RuntimeError(
                f"{self._limit} calls of this client wait at this queue already, which is as many "
                "as its host lets wait"
            )
        owned[waiter] = None
        line[waiter] = None
        waiter.line = line

    def leave(self, waiter: Waiter) -> None:
        """Wait no more."""
        assert waiter.line is not None
        del waiter.line[waiter]
        if not waiter.line and self.stalled.get(waiter.owner) is waiter.line:
            del self.stalled[waiter.owner]
        waiter.line = None
        owned = self._owned[waiter.owner]
        del owned[waiter]
        if not owned:
            del self._owned[waiter.owner]
        if waiter.timer is not None:
            waiter.timer.cancel()

    def owned_by(self, owner: Hashable) -> list[Waiter]:
        """What an owner has waiting here, oldest first."""
        return list(self._owned.get(owner, ()))

    def stall(self, waiter: Waiter) -> None:
        """Let a getter wait until its owner has settled something."""
        assert waiter.line is not None
        del waiter.line[waiter]
        waiter.line = self.stalled.setdefault(waiter.owner, OrderedDict())
        waiter.line[waiter] = None

    def resume(self, owner: Hashable) -> None:
        """Let the getters of an owner that were stalled be the first again."""
        for waiter in reversed(self.stalled.pop(owner, ())):
            waiter.line = self.getters
            self.getters[waiter] = None
            self.getters.move_to_end(waiter, last=False)

    def count_getters(self) -> int:
        """Items that are being waited for."""
        lines = (self.getters, *self.stalled.values())
        return sum(waiter.count for line in lines for waiter in line)
