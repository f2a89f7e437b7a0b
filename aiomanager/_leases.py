"""Who has received which item of a queue and not settled it, and until when it may.

A lease belongs to one delivery, not to an item: what is settled late is settled under an id that
nobody knows any more, however often the item was handed out since.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Hashable, Sequence

from ._backlog import Item, Timer, Timers


class Leases:
    """The leases of one queue.

    Args:
        timeout: seconds that a lease lasts; None for as long as its owner does.
        on_expired: is given the items whose leases have ended with their time.
    """

    def __init__(
        self, timers: Timers, timeout: float | None, on_expired: Callable[[list[Item]], None]
    ) -> None:
        self._timers = timers
        self._timeout = timeout
        self._on_expired = on_expired
        # Ids of one run of a host mean nothing to the next: a late settlement must not match.
        self._ids = itertools.count(random.getrandbits(48) << 14)  # no secret
        self._owned: dict[Hashable, dict[int, Item]] = {}  # by owner, oldest first
        self._count = 0
        self._timer: Timer | None = None

    def __len__(self) -> int:
        return self._count

    def grant(self, owner: Hashable, items: Sequence[Item]) -> list[int]:
        """Lease items to an owner; return the ids of the deliveries."""
        ids = list(itertools.islice(self._ids, len(items)))
        self._owned.setdefault(owner, {}).update(zip(ids, items, strict=True))
        self._count += len(items)
        if self._timeout is not None:
            expires = self._timers.time() + self._timeout
            for item in items:
                item.expires = expires
            if self._timer is None:
                self._timer = self._timers.call_at(expires, self._expire)
        return ids

    def has(self, owner: Hashable, delivery_id: int) -> bool:
        """Whether the delivery is still the owner's to settle."""
        return delivery_id in self._owned.get(owner, ())

    def end(self, owner: Hashable, delivery_id: int) -> Item | None:
        """End a lease and return its item; None where it is not the owner's any more."""
        owned = self._owned.get(owner)
        item = owned.pop(delivery_id, None) if owned else None
        if item is None:
            return None
        if not owned:
            del self._owned[owner]
        self._count -= 1
        return item

    def end_all(self, owner: Hashable) -> list[Item]:
        """End all that an owner has."""
        items = list(self._owned.pop(owner, {}).values())
        self._count -= len(items)
        return items

    def _expire(self) -> None:
        # All leases last equally long, so that each owner's first is its oldest, and one timer
        # does for all.
        now = self._timers.time()
        expired: list[Item] = []
        for owner in list(self._owned):
            while (oldest := self._oldest(owner)) is not None and oldest[1].expires <= now:
                self.end(owner, oldest[0])
                expired.append(oldest[1])
        times = [oldest[1].expires for owner in self._owned if (oldest := self._oldest(owner))]
        self._timer = self._timers.call_at(min(times), self._expire) if times else None
        if expired:
            self._on_expired(expired)

    def _oldest(self, owner: Hashable) -> tuple[int, Item] | None:
        return next(iter(self._owned.get(owner, {}).items()), None)
