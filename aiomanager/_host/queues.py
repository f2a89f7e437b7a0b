"""The queues of a host, those that it was started with and those that were declared since."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from .._broker.backlog import Item
from .._broker.outcomes import Answers
from .._broker.queue import HostedQueue
from .._ground.buffers import Buffer
from .._ground.errors import ConfigurationError
from .._ground.names import check_name, check_options, not_known
from .._wire.dead_letters import DeadLetter
from .._wire.items import encode
from .._wire.messages import NOT_HERE
from .memory_reserve import Reserve
from .reactor import Reactor
from .settings import HostSettings

QUEUES_LIMIT = 100_000
"""Queues of one host."""


@dataclass(frozen=True)
class Declared:
    """What a queue was declared with. None stands for what the host has for all its queues.

    Attributes:
        maxsize: how many items may wait, 0 for any number.
        lease_timeout, dead_letter, max_deliveries: as in `HostSettings`.
    """

    maxsize: int = 0
    lease_timeout: float | None = None
    dead_letter: str | None = None
    max_deliveries: int | None = None


class HostQueues(Mapping[str, HostedQueue]):
    """The queues of a host, by their names.

    Args:
        others: the names of what else is registered.
        on_new: called with each new queue and its name.
    """

    def __init__(
        self,
        settings: HostSettings,
        reactor: Reactor,
        answers: Answers,
        reserve: Reserve,
        others: Callable[[], Iterator[str]],
        on_new: Callable[[str, HostedQueue], None],
    ) -> None:
        self._settings = settings
        self._reactor = reactor
        self._answers = answers
        self._reserve = reserve
        self._others = others
        self._queues: dict[str, HostedQueue] = {}
        self._declared: dict[str, Declared] = {}
        self._on_new = on_new

    def __getitem__(self, name: str) -> HostedQueue:
        return self._queues[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._queues)

    def __len__(self) -> int:
        return len(self._queues)

    def find(self, name: str) -> HostedQueue:
        """A queue; raises the error for a name that is not here."""
        try:
            return self._queues[name]
        except KeyError:
            raise self.unknown(name) from None

    def unknown(self, name: str) -> KeyError:
        """The error for a name that is not here. No KeyError of an object has its attribute; to
        clients that know only the standard library it is one like any other."""
        error = KeyError(not_known(name, {*self._queues, *self._others()}))
        setattr(error, NOT_HERE, name)
        return error

    def declare(self, name: Any, options: Mapping[str, Any]) -> None:
        """Make a queue, unless it is here with these options.

        Raises:
            ConfigurationError: the name or an option cannot work, it is here with others, or there
                is no room for one more.
        """
        check_name(name)
        known = {field.name for field in fields(Declared)}
        if not known >= set(options):
            raise ConfigurationError(
                f"a queue has no {', '.join(sorted(set(options) - known))}; it has: "
                f"{', '.join(sorted(known))}"
            )
        declared = Declared(**options)
        check_options(name, declared.maxsize, declared.lease_timeout, declared.max_deliveries)
        before = self._declared.get(name)
        if before == declared:
            return
        if before is not None:
            raise ConfigurationError(f"queue {name!r} is here with other options: {before}")
        if name in self._others():
            raise ConfigurationError(f"{name!r} is registered here already as something else")
        if declared.dead_letter is not None and declared.dead_letter not in self._queues:
            raise ConfigurationError(f"dead_letter: {not_known(declared.dead_letter, self)}")
        if len(self._queues) >= QUEUES_LIMIT:
            raise ConfigurationError(f"this host has {QUEUES_LIMIT} queues, and makes no more")
        self._make(name, declared)

    def _make(self, name: str, declared: Declared) -> None:
        settings = self._settings
        lease_timeout, most = declared.lease_timeout, declared.max_deliveries
        self._declared[name] = declared
        queue = self._queues[name] = HostedQueue(
            self._reactor,
            declared.maxsize,
            lease_timeout=settings.lease_timeout if lease_timeout is None else lease_timeout,
            name=name,
            max_deliveries=settings.max_deliveries if most is None else most,
            dead_letter=self._dead_letters_to(name, declared.dead_letter or settings.dead_letter),
            max_unsettled=settings.max_unsettled,
            max_unsettled_bytes=settings.max_unsettled_bytes,
            max_waiting=settings.max_waiting,
            answers=self._answers,
            afford=self._reserve.afford,
            warn=self._reactor.warn,
        )
        self._on_new(name, queue)

    def start(self) -> None:
        """Make the queues that the host is started with."""
        for name, maxsize in self._settings.queues.items():
            self._make(name, Declared(maxsize))

    def _dead_letters_to(
        self, name: str, target: str | None
    ) -> Callable[[Item], tuple[HostedQueue, Buffer]] | None:
        """What the queue `name` does with an item that it gives up."""
        if target is None or target == name:
            return None

        def dead_letter(item: Item) -> tuple[HostedQueue, Buffer]:
            letter = _given_up(item, name)
            self._reactor.warn("an item of queue %r goes to %r: %s", name, target, letter.reason)
            return self._queues[target], encode(letter)

        return dead_letter


def _given_up(item: Item, queue: str) -> DeadLetter[Any]:
    """The letter of an item of a queue that too many consumers did not survive, or could not
    unpickle, at the host."""
    reasons: list[str] = []
    if item.losses:
        reasons.append(f"its consumer was lost {_times(item.losses)}")
    if item.rejects:
        reasons.append(f"its consumer could not unpickle it {_times(item.rejects)}")
    reason = "; ".join(reasons)
    return DeadLetter(bytes(item.data), reason, item.attempt, queue)


def _times(count: int) -> str:
    return f"{count} times" if count > 1 else "once"
