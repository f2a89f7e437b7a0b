"""The last words of a client to a host of ours: that it does not come back, and what it was given
that is in nobody's hands.

Without them the host keeps for the client what it took, for as long as it may come back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Protocol

from .._concurrency.futures import Future
from .._ground.buffers import Buffer
from .._ground.errors import ConnectionLostError
from .._wire.messages import load
from .._wire.requests import pack_request
from .base import Conversation
from .leaving import Leaving


class Converse(Protocol):
    """Carries out a conversation on a connection of its own, on the calling thread."""

    def __call__(
        self, name: str | None, conversation: Conversation[None], timeout: float, /, **said: Any
    ) -> object:
        """Arguments as for `Opener`; the timeout is in seconds."""


class Taken(Protocol):
    """An item, as it came."""

    handle: Any
    attempt: int
    data: Buffer


@dataclass(eq=False)
class Held:
    """What a process holds of one queue.

    Attributes:
        ident: the queue's id at the host.
        asked: requests about what is taken whose answers have not come.
        untold: the channels of takes whose answers have, of which the host has not been told.
        reads: the last delivery that was taken so, by channel.
        taken: what was taken and is in nobody's hands, by delivery: it was not handed out yet, or
            is on its way back. With it, whether it cannot be unpickled here.
        undone: how many were taken and are not done, by the run of the host, oldest first.
    """

    ident: str
    asked: int = 0
    untold: set[str] = field(default_factory=set)
    reads: dict[str, int] = field(default_factory=dict)
    taken: dict[int, tuple[Taken, bool]] = field(default_factory=dict)
    undone: deque[list[Any]] = field(default_factory=deque)

    @property
    def empty(self) -> bool:
        """Whether the host need not hear of the end."""
        return not (self.asked or self.untold or self.taken or self.undone)

    def until_answered(self, future: Future[Any]) -> Future[Any]:
        """Count a request as asked until its answer has come. Where the host is given up, it may
        have come there all the same."""
        self.asked += 1

        def answered(answer: Any) -> Any:
            self.asked -= 1
            return answer

        def failed(error: Exception) -> Exception:
            if not isinstance(error, ConnectionLostError):
                self.asked -= 1
            return error

        return future.map(answered, failed)


class Farewell(Leaving):
    """What one client holds.

    Args:
        converse: reaches the host, on the calling thread.
        client: its name there.
    """

    def __init__(self, converse: Converse, client: str) -> None:
        super().__init__()
        self._converse = converse
        self._client = client
        self._queues: list[Held] = []

    def queue(self, ident: str) -> Held:
        """Where the engine of a queue writes down what it holds."""
        held = Held(ident)
        self._queues.append(held)
        return held

    def nothing_left(self) -> bool:
        return all(held.empty for held in self._queues)

    def count(self) -> int:
        return sum(len(held.taken) for held in self._queues)

    def give_back_now(self, deadline: float) -> None:
        if not self.nothing_left():
            seconds = max(0.1, deadline - monotonic())
            said = {"client": self._client, "returns_within": 0.0}
            self._converse(None, self._words(), seconds, **said)

    def _words(self) -> Conversation[None]:
        for held in self._queues:
            # What said so before may not have arrived, nor what was asked in the channel since.
            for channel, last in held.reads.items():
                yield from _asked(held.ident, "read", [channel], last)
            while held.taken:
                delivery_id, (taken, rejected) = next(iter(held.taken.items()))
                again = True  # it may have arrived before
                arguments = (delivery_id, taken.attempt, rejected, again)
                yield from _asked(held.ident, "restore", *arguments, frames=[taken.data])
                held.taken.pop(delivery_id, None)
        # What it was given and has not read of is undone by this.
        yield from _asked("", "goodbye")
        self.said()

    def said(self) -> None:
        """The host knows."""
        self._queues.clear()


def _asked(
    ident: str, method: str, *args: Any, frames: Sequence[Buffer] = ()
) -> Conversation[None]:
    kind, value, _ = load((yield pack_request(1, ident, method, args, frames)))
    if kind != "#RETURN":
        raise value if isinstance(value, Exception) else RuntimeError(str(value))
