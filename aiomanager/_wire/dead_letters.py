"""What a dead-letter queue holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from .items import Header, decode, headers_of, taken_off

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class DeadLetter(Generic[T_co]):
    """What stands in a dead-letter queue for an item that was given up: by `consume`, after its
    last retry, or by the host, after too many consumers were lost with it.

    Attributes:
        data: the item as it travelled, also where no process can unpickle it.
        reason: the last error, as text.
        attempts: how often the item was handed out.
        queue: the name of the queue that it came from.
    """

    __module__ = "aiomanager"  # it travels

    data: bytes = field(repr=False)
    reason: str
    attempts: int
    queue: str

    @property
    def item(self) -> T_co:
        """The item. Raises `DecodeError` where this process cannot unpickle it."""
        return decode(taken_off(self.data))  # type: ignore[no-any-return]

    @property
    def headers(self) -> dict[str, Header]:
        """What went along with the item."""
        return headers_of(self.data)
