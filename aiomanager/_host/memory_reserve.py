"""Memory that a host keeps, so that it can let clients in and hand out what it has, however much is
put.

Where a system bounds a process (RLIMIT_AS, a strict overcommit policy), the last of the memory goes
to some small step that cannot be undone or said to anybody. So puts are refused while there still
is some, and what is kept is for everything else. A system that kills the process instead is not
noticed.
"""

from __future__ import annotations

import mmap

# Bytes. For what clients have under way: a get hands out a megabyte at a time, or an item.
RESERVE = 8 * 1024**2
# So many are put before it is looked again.
STEP = 1024**2
# What the allocator is asked for where the system has no more: a read takes so much.
PIECE = 64 * 1024


class Reserve:
    """A reserve, and whether there is memory beside it."""

    def __init__(self) -> None:
        self._kept: object = None
        self._left = 0

    def afford(self, size: int) -> None:
        """Raise `MemoryError` where there are no so many bytes more to keep something in."""
        self._left -= size
        if self._left > 0:
            return
        try:
            if self._kept is None:
                self._kept = _memory()
            _memory()
        except MemoryError as exc:
            raise MemoryError(
                "the host has no memory for more items; get some of those that it has, put fewer "
                "or give the queue a maxsize"
            ) from exc
        self._left = STEP

    def spend(self) -> None:
        """Let go of it: something has failed for want of memory."""
        self._kept = None
        self._left = 0


def _memory() -> object:
    """As much memory as is to be kept. Nobody touches it, so it costs microseconds."""
    try:
        # From the system. The allocator would take the size for a hint of what is to come, and
        # give less back.
        return mmap.mmap(-1, RESERVE)
    except OSError:
        # What was freed may stay the allocator's, where something in use lies behind it.
        return [bytes(PIECE) for _ in range(RESERVE // PIECE)]
