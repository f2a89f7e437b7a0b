"""Which client speaks to the hosts of which scheme: the registry that `connect` looks into."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from .._ground.addresses import KNOWN_SCHEMES, OTHER_SCHEMES, Address
from .._ground.errors import ConfigurationError
from .base import QueueEngine


class Part(Protocol):
    """A connection to a host, or several."""

    def close(self) -> None:
        """Disconnect at once, on the event loop."""

    def cut(self) -> None:
        """Disconnect where the event loop has ended; callable from any thread."""


class HostClient(ABC):
    """What an `AsyncManager` has of its host, from the time that it connects: one object for each
    time, in one event loop.

    Attributes:
        queue_names: the queues that the host had at that time; None where it does not tell.
        parts: its connections, of which none knows this: they outlive it where nobody closes it.
    """

    queue_names: Sequence[str] | None = None
    parts: Sequence[Part] = ()

    @abstractmethod
    async def open(self, unwanted: Callable[[], bool]) -> None:
        """Connect. Run to its end whatever becomes of its caller; `unwanted` says whether that one
        has left. `close` follows in any case.

        Raises:
            ConnectionLostError: no host answers.
            AuthenticationError: it has another key.
            ConfigurationError: it cannot be one that this client knows.
        """

    @abstractmethod
    def hosts(self, name: str) -> bool:
        """Whether what the host has under a name is a queue with the promises of its engine, and
        not an object that happens to be one."""

    @abstractmethod
    def engine(self, name: str) -> QueueEngine:
        """The queue of a name at the host, for a queue object of this event loop. Whether the host
        has it shows when it is used."""

    async def declare(self, name: str, options: Mapping[str, Any]) -> None:
        """Make a queue at the host, unless it is there with the same options.

        Raises:
            ConfigurationError: the host cannot make queues, or has it with other options.
        """
        raise ConfigurationError(
            f"the host cannot make queue {name!r} at run time: give it to the host when it starts"
        )

    async def proxy(self, name: str, args: Sequence[Any], kwds: Mapping[str, Any]) -> Any:
        """An object that the host has registered under a name, wrapped."""
        raise ConfigurationError("this host has queues and nothing else")

    def pickled(self, name: str, sentinel: object, prefetch: int, *, for_hosts: bool) -> Any:
        """How a queue pickles for another process of ours, or for a host.

        Raises:
            ConfigurationError: it cannot be passed to another.
        """
        raise ConfigurationError(
            f"queue {name!r} is in the memory of this process and cannot be passed to another"
        )

    def methods(self, name: str) -> Any:
        """A queue that was used already as a wrapped object, with the methods that it has beside
        those of a queue; None where it was not."""
        raise ConfigurationError(f"queue {name!r} has no methods but those of a queue")

    @abstractmethod
    async def shutdown(self) -> None:
        """End the host, for all its clients."""

    @abstractmethod
    async def aclose(self) -> None:
        """Tell the host of the end, when the queues are closed; `close` follows."""

    def close(self) -> None:
        """Disconnect at once."""
        for part in self.parts:
            part.close()

    def cut(self) -> None:
        """Disconnect where the event loop has ended; callable from any thread."""
        for part in self.parts:
            part.cut()


# Makes the client of an address, which is given the authkey and what `connect` was told beside.
Factory = Callable[[Address, bytes, Any], HostClient]

_factories: dict[str, Factory] = {}


def register(*schemes: str, factory: Factory) -> None:
    """Have the hosts of these schemes reached by the clients that `factory` makes. An address of a
    scheme that `parse` does not know itself is the URL as it is."""
    for scheme in schemes:
        _factories[scheme] = factory
        if scheme not in KNOWN_SCHEMES:
            OTHER_SCHEMES.add(scheme)


def client_of(address: Address, authkey: bytes, options: Any) -> HostClient:
    """A client for an address, which is not connected yet."""
    return _factories[address.kind](address, authkey, options)
