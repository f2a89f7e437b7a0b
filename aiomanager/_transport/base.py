"""A connection to a manager, as both transports offer it, and the conversations that go over it.

A conversation is a generator: it yields the parts of a message to send, is sent the reply, and
returns its result. It does no I/O, so a worker thread and an event loop run the same ones.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from .._ground.addresses import Address
from .._ground.buffers import Buffer
from .._ground.errors import (
    ConnectionLostError,
)
from .._wire.handshake import Greeted
from .._wire.hello import Hello, check_version, pack_hello, read_hello
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
        hello: what a host of ours has said of itself; None for one of the standard library's.
    """

    broken = apart = False
    number = 0
    hello: Hello | None = None

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


class Opener(Protocol):
    """Connects and authenticates, and introduces the connection."""

    def __call__(self, name: str | None, /, **said: Any) -> Awaitable[Connection]:
        """Connect.

        Args:
            name: what the logs of a stock host call it. Without one the connection is good for one
                function of the manager's server itself.
            said: what a host of ours is told beside, in the hello.
        """
        ...


def introduce(
    greeted: Greeted, address: Address, name: str | None, said: Mapping[str, Any]
) -> Conversation[Hello | None]:
    """Say hello to a host of ours, and return what it says; ask a stock host to take requests on
    this connection. Arguments as for `Opener`.

    Raises `ConfigurationError` where it is a host of another version.
    """
    if greeted.ours:
        hello = read_hello((yield pack_hello(**said)))
        check_version(hello["version"], address)
        return hello
    if name is not None:
        load_reply((yield dump((None, "accept_connection", (name,), {}))))
    return None


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
