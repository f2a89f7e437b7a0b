"""The signatures of methods that pass on whatever arguments they get.

A class of one's own may have the method names of a lock or an event and other arguments: the object
at the host decides what they are. Type checkers, `help` and `inspect` are shown what those of the
standard library take and return, by `@shown_as(Event.wait)`; where that is generic, by a plain
call, since pyright loses type variables in a decorator that was called.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, TypeVar

F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")

# A class that is given in place of a type. As a function that makes such objects, a `Protocol` or
# an abstract class is good too, for mypy.
TypeAsValue = type[T] | Callable[..., T]


def shown_as(signature: F) -> Callable[[Callable[..., Any]], F]:
    """Show a method with the signature of another function; it is called as it is."""
    return lambda method: shown(signature, method)


def shown(signature: F, method: Any) -> F:
    """The same, for a method of another name."""
    method.__name__ = method.__qualname__ = signature.__name__
    method.__signature__ = inspect.signature(signature)
    return method  # type: ignore[no-any-return]


class Event(Protocol):
    """An `Event`."""

    async def wait(self: Any, timeout: float | None = None) -> bool: ...
    async def is_set(self: Any) -> bool: ...
    async def set(self: Any) -> None: ...
    async def clear(self: Any) -> None: ...


class Barrier(Protocol):
    """A `Barrier`."""

    async def wait(self: Any, timeout: float | None = None) -> int: ...
    async def abort(self: Any) -> None: ...
    async def reset(self: Any) -> None: ...
    async def parties(self: Any) -> int: ...
    async def n_waiting(self: Any) -> int: ...
    async def broken(self: Any) -> bool: ...


class Lock(Protocol):
    """A `Lock`, an `RLock` or a semaphore."""

    async def acquire(self: Any, blocking: bool = True, timeout: float | None = None) -> bool: ...
    async def release(self: Any, n: int = 1) -> None: ...


class Condition(Protocol):
    """A `Condition`, beside those of a lock."""

    async def wait(self: Any, timeout: float | None = None) -> bool: ...
    async def notify(self: Any, n: int = 1) -> None: ...
    async def notify_all(self: Any) -> None: ...


class Namespace(Protocol):
    """A `Namespace`."""

    async def get(self: Any, name: str, /) -> Any: ...
    async def set(self: Any, name: str, value: object, /) -> None: ...
    async def delete(self: Any, name: str, /) -> None: ...


class Result(Protocol):
    """The result of a `Pool`, without its `get`."""

    async def wait(self: Any, timeout: float | None = None) -> None: ...
    async def ready(self: Any) -> bool: ...
    async def successful(self: Any) -> bool: ...


class Pool(Protocol):
    """A `Pool`, where it computes something and waits for it."""

    async def apply(
        self: Any,
        func: Callable[..., R],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = None,
    ) -> R: ...
    async def map(
        self: Any, func: Callable[[S], R], iterable: Iterable[S], chunksize: int | None = None
    ) -> list[R]: ...
    async def starmap(
        self: Any,
        func: Callable[..., R],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
    ) -> list[R]: ...
