"""Calls that wait at a hosted queue."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from ._backlog import Data, Timer

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


Line = OrderedDict[Parked, None]  # first come, first served; anyone may leave
