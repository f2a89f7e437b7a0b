"""Who else holds a lock."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.support.waiting import wait_until


class Holder(threading.Thread):
    """Blocking code that holds a lock in a block, `async with` or `with`."""

    def __init__(self, proxy: Any) -> None:
        super().__init__()
        self._proxy = proxy
        self._has = threading.Event()
        self._give_up = threading.Event()

    def run(self) -> None:
        with self._proxy:
            self._has.set()
            self._give_up.wait()

    def __enter__(self) -> None:
        self.start()
        assert self._has.wait(10)

    def __exit__(self, *_: object) -> None:
        self._give_up.set()
        self.join()

    async def __aenter__(self) -> None:
        self.start()
        await wait_until(self._has.is_set, description="the lock is acquired")

    async def __aexit__(self, *_: object) -> None:
        self.__exit__()


def is_free(proxy: Any) -> bool:
    """Whether blocking code gets the lock at once."""
    if not proxy.acquire(False):
        return False
    proxy.release()
    return True


LOCKS = ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition"]


all_locks = pytest.mark.parametrize("kind", LOCKS)
