"""What the host remembers of its clients, from one connection to the next.

A client of ours whose connection broke does not know which of its requests arrived. It sends them
again, and those that change something have a number: what was answered before is not run again but
gets the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from ._backlog import Timer, Timers
from ._faces import Answer, Send
from ._peers import Peer

# How long the answers of a client that is gone are kept for its return, in seconds. A client must
# have given up before.
ANSWERS_KEPT = 600.0


class Client:
    """A client of ours. It works through its channels one request at a time, so that the last
    answer of each is all that it can ask for again."""

    def __init__(self) -> None:
        self.peer: Peer | None = None
        self.forgetting: Timer | None = None
        self._answers: dict[Hashable, tuple[int, Answer | None]] = {}

    def once(self, channel: Hashable, number: int, run: Callable[[Send], None], send: Send) -> None:
        """Run a request unless it was run before, and send its answer in either case.

        Args:
            run: runs it, and is given what sends and remembers the answer.
        """
        last, answer = self._answers.get(channel, (0, None))
        if number == last and answer is not None:
            send(answer)
            return
        if number <= last:
            raise RuntimeError(f"request {number} of {channel!r} comes after request {last}")

        def remember(answer: Answer) -> bool:
            self._answers[channel] = (number, answer)
            return send(answer)

        self._answers[channel] = (number, None)
        run(remember)


class Clients:
    """The clients of a host, by the name that each gives itself."""

    def __init__(self, timers: Timers) -> None:
        self._timers = timers
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
            self._timers.time() + ANSWERS_KEPT, lambda: self._forget(name)
        )

    def _forget(self, name: str) -> None:
        del self._clients[name]
