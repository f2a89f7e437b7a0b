"""A connection to a manager, as both transports offer it, and the conversations that go over it.

A conversation is a generator: it yields the parts of a message to send, is sent the reply, and
returns its result. It does no I/O, so a worker thread and an event loop run the same ones.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any, TypeVar

from .._ground.errors import (
    ConnectionLostError,
)
from .._wire.framing import Buffer
from .._wire.messages import dump
from .._wire.replies import load_reply

T = TypeVar("T")
Conversation = Generator[Sequence[Buffer], Buffer, T]


class Connection(ABC):
    """One connection, past its handshake. Whoever was interrupted while using it closes it: it
    would give the next caller the reply that the last one did not wait for.

    Attributes:
        broken: the connection has failed. What fails beside it, as a call may, leaves it usable.
        apart: it is closed by whoever uses it, and by nobody in his place.
        number: how many connections its pool had opened, with this one.
    """

    broken = apart = False
    number = 0

    @abstractmethod
    async def converse(self, conversation: Conversation[T], timeout: float | None) -> T:
        """Run a conversation; each reply has to come within `timeout` seconds.

        Raises `ConnectionLostError`; what the conversation raises leaves the connection usable.
        """

    def finish_now(self, conversation: Conversation[Any], timeout: float) -> None:
        """Bring a conversation to its end that the event loop has left, on the calling thread,
        which waits for it up to `timeout` seconds. It may raise anything."""
        raise NotImplementedError

    @abstractmethod
    def is_alive(self) -> bool:
        """Whether the other side has neither ended nor said anything unasked, as far as this side
        has heard; for a connection that nobody uses."""

    @abstractmethod
    def prepare(self, parts: Sequence[Buffer]) -> list[Buffer]:
        """A message as `send_now` and `send_rest` take it."""

    @abstractmethod
    def send_now(self, prepared: list[Buffer]) -> list[Buffer]:
        """Send of one message what can be sent without waiting; return the rest.

        Raises `ConnectionLostError`.
        """

    @abstractmethod
    async def send_rest(self, rest: Sequence[Buffer]) -> None:
        """Send what `send_now` has left, or would have."""

    @abstractmethod
    def listen(
        self,
        on_messages: Callable[[list[Buffer]], None],
        on_lost: Callable[[ConnectionLostError], None],
    ) -> None:
        """From now on, call back with all messages that have come, and once when the connection
        breaks."""

    @abstractmethod
    def close(self) -> None:
        """Close at once; whoever waits for something here is woken by a `ConnectionLostError`."""


# Connects and authenticates, and introduces the connection under a name. Without a name it is good
# for one function of the manager's server itself.
Opener = Callable[[str | None], Awaitable[Connection]]


def introduce(name: str) -> Conversation[None]:
    """Ask the server to take requests on this connection; `name` is what its logs call it."""
    load_reply((yield dump((None, "accept_connection", (name,), {}))))


def call_function(name: str, *args: Any, **kwds: Any) -> Conversation[Any]:
    """Call a function of the manager's server itself."""
    return load_reply((yield dump((None, name, args, kwds))))


def run_now(conversation: Generator[Any, Any, T], step: Callable[[Any], Any]) -> T:
    """Run a generator by calling `step` with each thing it yields; for blocking callers."""
    answer: Any = None
    while True:
        try:
            wanted = conversation.send(answer)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        answer = step(wanted)
