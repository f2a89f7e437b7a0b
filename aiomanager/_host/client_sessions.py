"""What the host remembers of its clients, from one connection to the next.

A client of ours whose connection broke does not know which of its requests arrived. It sends them
again, and those that change something have a number: what was answered before is not run again but
gets the same answer. For how long it may do so it says when it connects; the host remembers at
least that long, up to `KEPT_AT_MOST`, and what it has forgotten it does not run again either.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from .._broker.backlog import Timer, Timers
from .._broker.queue import HostedQueue
from .._ground.errors import ConnectionLostError
from .._wire.messages import Answer
from .connection import Peer
from .own_queue import Send

# How long the answers of a client that is gone are kept for its return, in seconds, where it does
# not say for how long it may come back, and at most; and how much longer than it says, as it may
# notice the end of its connection later than the host does.
ANSWERS_KEPT = 600.0
KEPT_AT_MOST = 3600.0
MARGIN = 1.0

# Each keeps an answer: those of our own clients are some for each queue.
CHANNELS_LIMIT = 10_000


class Client:
    """A client of ours. It works through its channels one request at a time, so that the last
    answer of each is all that it can ask for again.

    Attributes:
        peer: its connection; None while it has none.
        queues: where something may be its own.
    """

    def __init__(self) -> None:
        self.peer: Peer | None = None
        self.forgetting: Timer | None = None
        self.queues: set[HostedQueue] = set()
        self._returns_within = ANSWERS_KEPT
        self._introduced = False  # has said for how long it may come back
        self._was_forgotten = False
        self._answers: dict[Hashable, tuple[int, Answer | None]] = {}

    @property
    def kept(self) -> float:
        """Seconds for which it is remembered after its connection has ended."""
        return min(self._returns_within, KEPT_AT_MOST) + MARGIN

    def hello(self, was_here: bool, returns_within: float) -> None:
        """What the client says of itself on each connection, before it sends anything again.

        Args:
            was_here: it has been connected to this run of the host before.
            returns_within: seconds after the end of a connection for which it may come back.
        """
        # It knows of this run, and this run does not know of it.
        self._was_forgotten |= was_here and not self._introduced
        self._introduced = True
        self._returns_within = returns_within

    def once(
        self,
        channel: Hashable,
        number: int,
        run: Callable[[Send], None],
        send: Send,
        *,
        again: bool = False,
    ) -> None:
        """Run a request unless it was run before, and send its answer in either case.

        Args:
            run: runs it, and is given what sends and remembers the answer.
            again: the client has sent it before.

        Raises:
            ConnectionLostError: whether it was run before is forgotten; it is not run again.
        """
        last, answer = self._answers.get(channel, (0, None))
        if number == last and answer is not None:
            send(answer)
            return
        if number <= last:
            raise RuntimeError(f"request {number} of {channel!r} comes after request {last}")
        if not last:
            if again and self._was_forgotten:
                raise ConnectionLostError(
                    "the host has forgotten this client, which was away for longer than it is "
                    "remembered; whether the call has happened is unknown",
                    outcome_known=False,
                )
            if len(self._answers) >= CHANNELS_LIMIT:
                raise RuntimeError(f"this client has {CHANNELS_LIMIT} channels already")

        def remember(answer: Answer) -> bool:
            self._answers[channel] = (number, answer)
            return send(answer)

        self._answers[channel] = (number, None)
        run(remember)


class Clients:
    """The clients of a host, by the name that each gives itself.

    Args:
        on_forgotten: called with a client that will not come back.
    """

    def __init__(
        self, timers: Timers, on_forgotten: Callable[[Client], None] = lambda client: None
    ) -> None:
        self._timers = timers
        self._on_forgotten = on_forgotten
        self._clients: dict[str, Client] = {}

    def __len__(self) -> int:
        return len(self._clients)

    def introduce(self, name: str) -> Client:
        """A client that has connected, for the first time or again."""
        client = self._clients.setdefault(name, Client())
        if client.forgetting is not None:
            client.forgetting.cancel()
            client.forgetting = None
        return client

    def left(self, name: str) -> None:
        """A client's connection is gone; the client may come back."""
        client = self._clients[name]
        client.peer = None
        client.forgetting = self._timers.call_at(
            self._timers.time() + client.kept, lambda: self._forget(name)
        )

    def forget(self, name: str) -> None:
        """A client that is connected has said that it will not come back."""
        del self._clients[name]

    def _forget(self, name: str) -> None:
        self._on_forgotten(self._clients.pop(name))
