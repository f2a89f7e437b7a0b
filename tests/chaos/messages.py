"""Messages that can be recognised wherever they come out: an id, and bytes with a digest."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Sequence
from typing import Any

Message = dict[str, Any]  # of built-in types alone, so that every Python and every host takes it

# Bytes from and to, and how often: mostly small, some that travel beside the pickle.
Sizes = Sequence[tuple[int, int, int]]
SIZES: Sizes = ((1, 16, 60), (17, 200, 30), (200, 5_000, 8), (5_000, 100_000, 2))
SMALL: Sizes = ((1, 16, 3), (17, 200, 1))


class Maker:
    """Makes the messages of one producer, numbered in the order in which they are put."""

    def __init__(self, producer: str, rng: random.Random, sizes: Sizes = SIZES) -> None:
        self._producer = producer
        self._rng = rng
        self._sizes = sizes
        self._weights = [weight for _, _, weight in sizes]
        self._numbers = itertools.count()

    def next(self) -> Message:
        """The next message."""
        ((low, high, _),) = self._rng.choices(self._sizes, self._weights)
        data = self._rng.randbytes(self._rng.randint(low, high))
        return {"id": f"{self._producer}:{next(self._numbers)}", "data": data}


def origin(ident: str) -> tuple[str, int]:
    """The producer of a message, and its place in that producer's order."""
    producer, _, number = ident.rpartition(":")
    return producer, int(number)


def digest(message: Message) -> str:
    """SHA-256 of the payload, cut to 128 bits, which keeps logs small."""
    return hashlib.sha256(message["data"]).hexdigest()[:32]


def described(messages: list[Message]) -> dict[str, object]:
    """What a log says of messages."""
    return {"ids": [m["id"] for m in messages], "sha": [digest(m) for m in messages]}
