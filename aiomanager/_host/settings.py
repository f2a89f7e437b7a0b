"""What a host is told, and how `BaseManager` passes it on to the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.managers import BaseManager
from typing import Any

from .._ground.errors import ConfigurationError
from .._ground.names import check_name, check_options, is_number
from .._wire.framing import MESSAGE_LIMIT


@dataclass(frozen=True, kw_only=True)
class HostSettings:
    """What a host is told beside its address and its key. All times are seconds.

    Attributes:
        queues: the name of each queue and its maxsize, 0 for unbounded.
        lease_timeout: how long a client of ours that is alive may keep an item without settling
            it, before it goes to somebody else; None for any time.
        dead_letter: the name of the queue, one of `queues`, for items that were handed out
            `max_deliveries` times to clients that were lost with them, kept them longer than
            `lease_timeout`, or could not unpickle them; without one they are handed out for ever.
        max_deliveries: see `dead_letter`.
        max_unsettled: how many items of a queue a client of ours may have received and not settled,
            before it is handed no more until it settles some. What it has taken by `get` is its
            own, and does not count.
        max_unsettled_bytes: how many bytes of them, but for the item that takes it over.
        max_waiting: how many calls of one connection may wait at a queue.
        dead_after: how long a TCP connection may be dead without a word before its client counts
            as gone.
        handshake_timeout: how long a new connection may take to authenticate.
        unauthenticated_limit: connections that have not authenticated yet; with one more, the
            oldest of them is cut.
        message_limit: bytes of the largest message; a peer that announces a longer one is cut.
        allow_shutdown: whether a client may shut the host down.
        busy_poll: where the host had to wait for less than this the last time, it looks for more
            for as long before it sleeps; 0 for never.
        grace: how long a stopping host waits for calls under way and for replies to get out.
    """

    queues: Mapping[str, int] = field(default_factory=dict)
    lease_timeout: float | None = None
    dead_letter: str | None = None
    max_deliveries: int = 20
    max_unsettled: int = 10_000
    max_unsettled_bytes: int = 256 * 1024**2
    max_waiting: int = 100_000
    dead_after: float = 25.0
    handshake_timeout: float = 10.0
    unauthenticated_limit: int = 1024
    message_limit: int = MESSAGE_LIMIT
    allow_shutdown: bool = True
    busy_poll: float = 0.0002
    grace: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        check_queues(self.queues)
        if self.dead_letter is not None and self.dead_letter not in self.queues:
            raise ConfigurationError(
                f"dead_letter is {self.dead_letter!r}; name one of the queues: "
                f"{', '.join(sorted(self.queues)) or 'there is none'}"
            )
        for name in (
            "lease_timeout",
            "max_deliveries",
            "max_unsettled",
            "max_unsettled_bytes",
            "max_waiting",
            "dead_after",
            "handshake_timeout",
            "message_limit",
        ):
            value = getattr(self, name)
            if value is not None and not (is_number(value) and value > 0):
                raise ConfigurationError(f"{name} is {value!r}; give a number above 0")
        if not (is_number(self.busy_poll) and self.busy_poll >= 0):
            raise ConfigurationError(f"busy_poll is {self.busy_poll!r}; give seconds from 0 on")


def check_queues(queues: Any) -> dict[str, int]:
    """The queues to host, as a dict; refuses names and sizes that cannot work."""
    if not isinstance(queues, Mapping):
        raise ConfigurationError(
            f"queues is {queues!r}; give a mapping of names to sizes, such as {{'jobs': 0}} for "
            "one queue without a bound"
        )
    for name, maxsize in queues.items():
        check_name(name)
        # `shutdown` is an attribute of each started manager, not of the class.
        if hasattr(BaseManager, name) or name == "shutdown":
            raise ConfigurationError(
                f"{name!r} cannot name a queue: a client of the standard library, which calls it "
                "as a method of its manager, has another use for that name"
            )
        check_options(name, maxsize)
    return dict(queues)


class HostRegistry(dict[str, Any]):
    """What `BaseManager` hands to its server: the registered types, and here also the settings."""

    def __init__(self, types: Mapping[str, Any], settings: HostSettings) -> None:
        super().__init__(types)
        self.settings = settings

    def __reduce__(self) -> tuple[Any, ...]:
        return HostRegistry, (dict(self), self.settings)
