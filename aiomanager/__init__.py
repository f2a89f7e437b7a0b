"""Queues and other objects of `multiprocessing` managers, for asyncio and trio programs."""

from __future__ import annotations

from ._client import connect, host
from ._consumer import consume
from ._delivery import NO_SENTINEL, Delivery
from ._errors import (
    AioManagerError,
    AuthenticationError,
    ConfigurationError,
    ConnectionLostError,
    DecodeError,
    EncodeError,
    LeaseLostError,
    QueueEmpty,
    QueueFull,
    QueueShutDown,
    RemoteError,
)
from ._host import QueueManager
from ._letters import DeadLetter
from ._manager import AsyncManager
from ._objects import AsyncProxy
from ._proxy import wrap
from ._queue import AsyncQueue, QueueStatistics

__all__ = [
    "NO_SENTINEL",
    "AioManagerError",
    "AsyncManager",
    "AsyncProxy",
    "AsyncQueue",
    "AuthenticationError",
    "ConfigurationError",
    "ConnectionLostError",
    "DeadLetter",
    "DecodeError",
    "Delivery",
    "EncodeError",
    "LeaseLostError",
    "QueueEmpty",
    "QueueFull",
    "QueueManager",
    "QueueShutDown",
    "QueueStatistics",
    "RemoteError",
    "connect",
    "consume",
    "host",
    "wrap",
]
