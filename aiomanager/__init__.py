"""Queues and other objects of `multiprocessing` managers, for asyncio and trio programs."""

from ._client import AsyncManager, connect
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
from ._queue import AsyncQueue, QueueStatistics

__all__ = [
    "NO_SENTINEL",
    "AioManagerError",
    "AsyncManager",
    "AsyncQueue",
    "AuthenticationError",
    "ConfigurationError",
    "ConnectionLostError",
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
]
