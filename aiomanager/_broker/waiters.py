"""Calls that wait at a hosted queue."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from .backlog import Data, Timer

# Called once with the answer; an exception instance is the answer of a call that failed. Returns
# False where the one who asked is gone, so that what the answer carried has to be kept. It may
# call the queue.
Reply = Callable[[Any], bool]


@dataclass(slots=True, eq=False)
class Parked:
    """A call that waits: for items (count), for room (frames), or for the queue to be done."""

    owner: Hashable
    ticket: Hashable
    reply: Reply
    count: int = 0
    lease: bool = True
    frames: deque[Data] | None = None
    accepted: int = 0
    timer: Timer | None = None
    line: Line | None = None  # where it waits


Line = OrderedDict[Parked, None]  # first come, first served; anyone may leave


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
        self._owned: dict[Hashable, dict[Parked, None]] = {}

    def enter(self, parked: Parked, line: Line) -> None:
        """Wait at the end of a line; raises RuntimeError where the owner has too many there."""
        owned = self._owned.setdefault(parked.owner, {})
        if len(owned) >= self._limit:
            raise RuntimeError(
                f"{self._limit} calls of this client wait at this queue already, which is as many "
                "as its host lets wait"
            )
        owned[parked] = None
        line[parked] = None
        parked.line = line

    def leave(self, parked: Parked) -> None:
        """Wait no more."""
        assert parked.line is not None
        del parked.line[parked]
        if not parked.line and self.stalled.get(parked.owner) is parked.line:
            del self.stalled[parked.owner]
        parked.line = None
        owned = self._owned[parked.owner]
        del owned[parked]
        if not owned:
            del self._owned[parked.owner]
        if parked.timer is not None:
            parked.timer.cancel()

    def owned_by(self, owner: Hashable) -> list[Parked]:
        """What an owner has waiting here, oldest first."""
        return list(self._owned.get(owner, ()))

    def stall(self, parked: Parked) -> None:
        """Let a getter wait until its owner has settled something."""
        assert parked.line is not None
        del parked.line[parked]
        parked.line = self.stalled.setdefault(parked.owner, OrderedDict())
        parked.line[parked] = None

    def resume(self, owner: Hashable) -> None:
        """Let the getters of an owner that were stalled be the first again."""
        for parked in reversed(self.stalled.pop(owner, ())):
            parked.line = self.getters
            self.getters[parked] = None
            self.getters.move_to_end(parked, last=False)

    def count_getters(self) -> int:
        """Items that are being waited for."""
        lines = (self.getters, *self.stalled.values())
        return sum(parked.count for line in lines for parked in line)
