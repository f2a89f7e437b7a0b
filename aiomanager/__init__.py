"""Queues and other objects of `multiprocessing` managers, for asyncio and trio programs."""

from __future__ import annotations

from ._client.connect import connect, host
from ._client.manager import AsyncManager
from ._ground.errors import (
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
from ._host.manager import QueueManager, QueueProxy
from ._proxies.base import AsyncProxy
from ._proxies.conditions import AsyncCondition
from ._proxies.containers import AsyncArray, AsyncDict, AsyncList, AsyncValue
from ._proxies.kinds import AsyncBarrier, AsyncEvent, AsyncIteratorProxy, AsyncNamespace
from ._proxies.locks import AsyncLock
from ._proxies.pools import AsyncPool, AsyncResult
from ._proxies.wrap import _unpickled_queue as _unpickled_queue
from ._proxies.wrap import wrap
from ._queue.consumer import consume
from ._queue.deliveries import Delivery
from ._queue.leases import NO_SENTINEL
from ._queue.queue import AsyncQueue, QueueStatistics
from ._wire.dead_letters import DeadLetter

__version__ = "0.1.0"  # the distribution's too: pyproject.toml reads it here

__all__ = [
    "NO_SENTINEL",
    "AioManagerError",
    "AsyncArray",
    "AsyncBarrier",
    "AsyncCondition",
    "AsyncDict",
    "AsyncEvent",
    "AsyncIteratorProxy",
    "AsyncList",
    "AsyncLock",
    "AsyncManager",
    "AsyncNamespace",
    "AsyncPool",
    "AsyncProxy",
    "AsyncQueue",
    "AsyncResult",
    "AsyncValue",
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
    "QueueProxy",
    "QueueShutDown",
    "QueueStatistics",
    "RemoteError",
    "connect",
    "consume",
    "host",
    "wrap",
]
