"""Queues and other objects of a manager by their names, as type checkers see them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import EllipsisType
from typing import Any, TypeVar, overload

from .._ground.names import check_name, check_options
from .._proxies.signatures import TypeAsValue
from .._queue.queue import AsyncQueue

P = TypeVar("P")
S = TypeVar("S")
T = TypeVar("T")


class HostedObjects(ABC):
    """What an `AsyncManager` gives for a name."""

    @overload
    def queue(self, name: str, *, prefetch: int = ...) -> AsyncQueue[Any]: ...
    @overload
    def queue(
        self, name: str, *, sentinel: object, prefetch: int = ...
    ) -> AsyncQueue[Any, Any]: ...
    @overload
    def queue(
        self, name: str, item_type: TypeAsValue[T], *, prefetch: int = ...
    ) -> AsyncQueue[T]: ...
    @overload
    def queue(
        self, name: str, item_type: TypeAsValue[T], *, sentinel: S, prefetch: int = ...
    ) -> AsyncQueue[T, S | None]: ...
    def queue(
        self,
        name: str,
        item_type: object = None,
        *,
        sentinel: Any = ...,
        prefetch: int | EllipsisType = ...,
    ) -> AsyncQueue[Any, Any]:
        """The queue that the host registered under `name`; the same object for the same name, with
        the options that it was first asked for with.

        Args:
            item_type: the type of the items, for the type checker: `queue("jobs", Job)` is an
                `AsyncQueue[Job]`. Nothing looks at it at run time, nor at the items. For a union,
                annotate the variable: `jobs: AsyncQueue[Job | Mail] = manager.queue("jobs")`.
            sentinel: the item that ends iterations over it, None where it is left out;
                `NO_SENTINEL` for none.
            prefetch: how many items an iteration holds at once at most, the one that the loop
                works on included; 1 where it is left out. More than 1 spares a quick loop round
                trips; several consumers then begin with items in another order than that of the
                puts. It holds them only where the loop is quick, for 50 ms at most, and on hosts
                that hand them out again if this process dies.

        Whether the host has it shows at the first use: `ConfigurationError` where it has not.

        Raises:
            ConfigurationError: an option differs from what the queue has already in this manager.
        """
        return self._queue(name, sentinel, prefetch)

    @overload
    async def proxy(self, name: str, /, *args: Any, as_: TypeAsValue[P], **kwds: Any) -> P: ...
    @overload
    async def proxy(self, name: str, /, *args: Any, **kwds: Any) -> Any: ...
    async def proxy(self, name: str, /, *args: Any, as_: object = None, **kwds: Any) -> Any:
        """Call what the host registered under `name`, with the arguments, and return the object
        that it gives, wrapped as `wrap` does it. It needs no closing, and outlives this manager.

        Args:
            as_: what the type checker is to take the result for, as in `wrap`: `AsyncLock`,
                `AsyncDict[str, int]`, a `Protocol` of one's own. It is not passed to the host.

        Raises:
            ConfigurationError: the host has registered nothing under that name.
            RemoteError: the registered function raised.
            EncodeError: the arguments cannot be pickled.

        Cancelled, an object that was made is given up.
        """
        return await self._proxy(name, args, kwds)

    async def declare(
        self,
        name: str,
        maxsize: int = 0,
        *,
        lease_timeout: float | None = None,
        dead_letter: str | None = None,
        max_deliveries: int | None = None,
    ) -> AsyncQueue[Any]:
        """Make a queue at the host, and return it. Where it is there with the same options, nothing
        is changed, whoever has made it. It stays as long as its host.

        Args:
            name: printable text of up to 255 characters.
            maxsize: how many items may wait, 0 for any number.
            lease_timeout: seconds after which an item that a live consumer has received and not
                settled goes to somebody else; None for what the host has for its queues.
            dead_letter: the queue for items that were handed out `max_deliveries` times to
                consumers that were lost with them; None for what the host has.
            max_deliveries: see `dead_letter`.

        Raises:
            ConfigurationError: an option cannot work, the queue is there with others, or the host
                makes no queues at run time, as one of the standard library's.

        Cancelled, it was made or was not.
        """
        check_options(check_name(name), maxsize, lease_timeout, max_deliveries)
        options = {
            "maxsize": maxsize,
            "lease_timeout": lease_timeout,
            "dead_letter": dead_letter,
            "max_deliveries": max_deliveries,
        }
        await self._declare(name, options)
        return self.queue(name)

    @abstractmethod
    async def _declare(self, name: str, options: Mapping[str, Any]) -> None: ...

    @abstractmethod
    def _queue(
        self, name: str, sentinel: Any, prefetch: int | EllipsisType
    ) -> AsyncQueue[Any, Any]: ...

    @abstractmethod
    async def _proxy(self, name: str, args: Sequence[Any], kwds: Mapping[str, Any]) -> Any: ...
