"""Who has received which item of a queue and not settled it, and until when it may.

A lease belongs to one delivery, not to an item: what is settled late is settled under an id that
nobody knows any more, however often the item was handed out since.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable, Hashable, Iterator, Sequence

from .backlog import TAKE_BYTES, Item, Timer, Timers


class Leases:
    """The leases of one queue.

    Args:
        timeout: seconds that a lease lasts; None for as long as its owner does.
        on_expired: is given the items whose leases have ended with their time.
        limit: items that one owner may have at once.
        limit_bytes: bytes that one owner may have at once, but for the item that takes it over.
    """

    def __init__(
        self,
        timers: Timers,
        timeout: float | None,
        on_expired: Callable[[list[Item]], None],
        *,
        limit: float = math.inf,
        limit_bytes: float = math.inf,
    ) -> None:
        self._timers = timers
        self._timeout = timeout
        self._on_expired = on_expired
        self._limit = limit
        self._limit_bytes = limit_bytes
        # Ids of one run of a host mean nothing to the next: a late settlement must not match.
        self._first = self._next = random.getrandbits(48) << 14  # no secret
        self._owned: dict[Hashable, dict[int, Item]] = {}  # by owner, oldest first
        self._bytes: dict[Hashable, int] = {}  # by owner
        # Where leases end: the owners of them all. They last equally long, so the first of all is
        # the oldest, and one timer does for all.
        self._owners: dict[int, Hashable] = {}
        self._count = 0
        self._timer: Timer | None = None

    def __len__(self) -> int:
        return self._count

    def items(self) -> Iterator[tuple[int, Item]]:
        """All that are leased, by the ids of their deliveries."""
        for owned in self._owned.values():
            yield from owned.items()

    def room(self, owner: Hashable) -> tuple[int, int]:
        """How many more items, and bytes, an owner may be handed in one answer; no items where it
        has as much as it may have."""
        left = self._limit_bytes - self._bytes.get(owner, 0)
        count = self._limit - len(self._owned.get(owner, ()))
        if left <= 0 or count <= 0:
            return 0, 0
        return int(min(count, sys.maxsize)), int(min(left, TAKE_BYTES))

    def grant(self, owner: Hashable, items: Sequence[Item]) -> list[int]:
        """Lease items to an owner; return the ids of the deliveries."""
        ids = list(range(self._next, self._next + len(items)))
        self._next += len(items)
        self._owned.setdefault(owner, {}).update(zip(ids, items, strict=True))
        size = 0
        for item in items:
            size += len(item.data)
        self._bytes[owner] = self._bytes.get(owner, 0) + size
        self._count += len(items)
        if self._timeout is not None:
            expires = self._timers.time() + self._timeout
            for ident, item in zip(ids, items, strict=True):
                item.expires = expires
                self._owners[ident] = owner
            if self._timer is None:
                self._timer = self._timers.call_at(expires, self._expire)
        return ids

    def issued(self, delivery_id: int) -> bool:
        """Whether a delivery is of this run of the host, settled or not."""
        return self._first <= delivery_id < self._next

    def has(self, owner: Hashable, delivery_id: int) -> bool:
        """Whether the delivery is still the owner's to settle."""
        return delivery_id in self._owned.get(owner, ())

    def end(self, owner: Hashable, delivery_id: int) -> Item | None:
        """End a lease and return its item; None where it is not the owner's any more."""
        owned = self._owned.get(owner)
        item = owned.pop(delivery_id, None) if owned else None
        if item is None:
            return None
        if owned:
            self._bytes[owner] -= len(item.data)
        else:
            del self._owned[owner], self._bytes[owner]
        self._owners.pop(delivery_id, None)
        self._count -= 1
        return item

    def end_all(self, owner: Hashable) -> list[Item]:
        """End all that an owner has."""
        owned = self._owned.pop(owner, {})
        self._bytes.pop(owner, None)
        if self._owners:
            for delivery_id in owned:
                self._owners.pop(delivery_id, None)
        self._count -= len(owned)
        return list(owned.values())

    def _expire(self) -> None:
        now = self._timers.time()
        expired: list[Item] = []
        self._timer = None
        while self._owners:
            delivery_id, owner = next(iter(self._owners.items()))
            item = self._owned[owner][delivery_id]
            if item.expires > now:
                self._timer = self._timers.call_at(item.expires, self._expire)
                break
            self.end(owner, delivery_id)
            expired.append(item)
        if expired:
            self._on_expired(expired)
