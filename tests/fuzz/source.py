"""Decisions out of bytes, so that whatever makes bytes can make anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Source:
    """Reads decisions from bytes, and zeros where there are no more."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def __bool__(self) -> bool:
        return self._position < len(self._data)

    def take(self, count: int) -> bytes:
        """Up to so many of the bytes themselves."""
        taken = self._data[self._position : self._position + count]
        self._position += count
        return taken

    def number(self, below: int) -> int:
        """A number from 0 on; one byte, or two where it may be large."""
        return int.from_bytes(self.take(1 if below <= 256 else 2), "little") % below

    def choice(self, options: Sequence[T]) -> T:
        """One of these."""
        return options[self.number(len(options))]

    def pieces(self, data: bytes) -> list[bytes]:
        """The data, cut where the source says."""
        cuts = sorted(self.number(len(data) + 1) for _ in range(self.number(8)))
        return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
