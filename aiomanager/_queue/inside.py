"""What an `AsyncQueue` consists of, for the modules of this package: none of it is a user's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from .._concurrency.event_loop import EachLoop
from .._ground.errors import ConfigurationError
from ..engines.base import QueueEngine
from .codec import Codec
from .local import LocalQueue

T = TypeVar("T")


class Inside(Generic[T]):
    """The inside of a queue, which its methods and the package's other modules share.

    Args:
        engine: makes the queue at its host, for the running event loop.
        reduce: how the queue pickles, for a host or not; None where it cannot be passed on.

    Attributes:
        locals: the queue as each event loop uses it.
    """

    def __init__(
        self,
        engine: Callable[[], QueueEngine],
        name: str,
        codec: Codec,
        reduce: Callable[[bool], Any] | None,
    ) -> None:
        self.locals: EachLoop[LocalQueue[T]] = EachLoop(lambda: LocalQueue(engine(), name, codec))
        self._name = name
        self._reduce = reduce

    def here(self) -> LocalQueue[T]:
        """The queue as the running event loop uses it."""
        return self.locals.here()

    def reduce(self, *, for_hosts: bool) -> Any:
        """How it pickles, for another process of ours or for a host, which passes it to those who
        know only the standard library."""
        if self._reduce is None:
            raise ConfigurationError(
                f"<AsyncQueue {self._name!r}> lives in this process and cannot be passed to another"
            )
        return self._reduce(for_hosts)


class _HasInside(Protocol[T]):
    _inside: Inside[T]


def inside(queue: _HasInside[T]) -> Inside[T]:
    """The inside of an `AsyncQueue`: the one way in."""
    return queue._inside  # noqa: SLF001 - what stands below `AsyncQueue` cannot name it
