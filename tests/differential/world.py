"""What a scenario has at hand: a host, one of the two faces, and a way to start processes."""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing import process, util
from multiprocessing.managers import BaseManager
from typing import Any, NamedTuple

import pytest

import aiomanager
from tests.differential import faces, hosts, loops
from tests.support.waiting import wait_until_sync, while_busy

# Seconds for what must happen and takes no time by itself.
PATIENCE = 10.0

_names: dict[str, Iterator[int]] = {}


class Face(NamedTuple):
    """What a scenario calls: `standard`, or an arrangement of event loops (see `loops`)."""

    name: str

    @property
    def is_ours(self) -> bool:
        return self.name != "standard"

    def over(self, proxy: Any) -> Any:
        """A managed object for scenarios, by a proxy of the standard library's."""
        return faces.over(proxy, self.name) if self.is_ours else proxy


class World:
    """A scenario's world.

    Attributes:
        face: the face of all objects here.
        kind: the host's, `stock`, `joinable` or `ours`.
        host: the manager that started it, with the standard library's own methods.
        method: the start method of `process`.
    """

    def __init__(self, host: Any, kind: str, face: str, method: str) -> None:
        self.host = host
        self.kind = kind
        self.face = Face(face)
        self.method = method
        self._processes: list[Any] = []
        self._threads: list[threading.Thread] = []
        self._managers: list[Any] = []

    # -- objects ------------------------------------------------------------------------------

    def make(self, kind: str, *args: Any, **kwds: Any) -> Any:
        """A new object of what is registered under a name: `make("dict", a=1)`."""
        return self.face.over(getattr(self.host, kind)(*args, **kwds))

    def queue(self) -> Any:
        """A queue by its name that nobody has used: a hosted one, at a host of ours."""
        return self.face.over(self.proxy_of_a_queue())

    def proxy_of_a_queue(self) -> Any:
        """The same as a proxy of the standard library's."""
        name = self.unused()
        return self.host.get_queue(name) if self.kind == "ours" else getattr(self.host, name)()

    def unused(self) -> str:
        """The name of a queue that nobody has used."""
        return f"jobs_{next(_names.setdefault(self.host.address, itertools.count()))}"

    def connect(self) -> Any:
        """A client: `look_up(name, *args)` calls what is registered; `close()` in the end."""
        client = OurClient(self) if self.face.is_ours else StandardClient(self)
        self._managers.append(client)
        return client

    # -- processes and threads ----------------------------------------------------------------

    def process(self, target: Callable[..., Any], *args: Any) -> Any:
        """Start a child with the start method."""
        started: Any = multiprocessing.get_context(self.method).Process(  # type: ignore[attr-defined]
            target=target, args=args
        )
        started.start()
        self._processes.append(started)
        return started

    def run(self, target: Callable[..., Any], *args: Any, code: int | None = 0) -> None:
        """Start a child, and wait until it has ended with the code, any if None."""
        self.ends(self.process(target, *args), code)

    def ends(self, child: Any, code: int | None = 0) -> None:
        """A child has ended, with the code."""
        child.join(while_busy(PATIENCE))
        assert child.exitcode is not None, "the child hangs"
        assert code is None or child.exitcode == code

    def fork(self, target: Callable[..., Any], *args: Any) -> None:
        """Run a function in a child of `os.fork`.

        The standard library's proxies have to be told, which `Process` does for them.
        """
        forked(target if self.face.is_ours else Told(target), *args)

    def thread(self, target: Callable[..., Any], *args: Any) -> Outcome:
        """Start a thread; its outcome can be waited for."""
        outcome = Outcome(target, args)
        thread = threading.Thread(target=outcome.run)
        thread.start()
        self._threads.append(thread)
        return outcome

    # -- the end ------------------------------------------------------------------------------

    def close(self) -> None:
        """End all that the scenario started."""
        for child in self._processes:
            if child.is_alive():
                child.kill()
            child.join()
            child.close()
        for client in self._managers:
            client.close()
        gc.collect()
        loops.stop_all()
        deadline = time.monotonic() + PATIENCE
        for thread in self._threads:
            thread.join(max(0.1, deadline - time.monotonic()))
        gc.collect()


class Outcome:
    """What a thread's function returns or raises."""

    def __init__(self, target: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._target = target
        self._args = args
        self._done = threading.Event()
        self._value: Any = None
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._value = self._target(*self._args)
        except BaseException as exc:
            self._error = exc
        finally:
            loops.forget_thread()
            self._done.set()

    @property
    def is_done(self) -> bool:
        return self._done.is_set()

    def get(self, timeout: float = PATIENCE) -> Any:
        """Wait for it; raise what the function raised."""
        if not self._done.wait(while_busy(timeout)):
            pytest.fail("the thread hangs")
        if self._error is not None:
            raise self._error
        return self._value


class Told:
    """A function for a forked child, where the standard library's proxies are told of the fork."""

    def __init__(self, target: Callable[..., Any]) -> None:
        self._target = target

    def __call__(self, *args: Any) -> Any:
        private: Any = util
        private._run_after_forkers()
        return self._target(*args)


class StandardClient:
    """A connected `BaseManager`."""

    def __init__(self, world: World) -> None:
        class Client(BaseManager):
            """What a script knows."""

        self._type: Any = Client
        self._client: Any = Client(world.host.address, process.current_process().authkey)
        self._client.connect()

    def look_up(self, name: str, *args: Any) -> Any:
        if not hasattr(self._type, name):
            self._type.register(name, proxytype=hosts.PROXIES.get(name))
        return getattr(self._client, name)(*args)

    def close(self) -> None:
        pass


class OurClient:
    """An open `AsyncManager`."""

    def __init__(self, world: World) -> None:
        self._loop = world.face.name
        address, key = world.host.address, bytes(process.current_process().authkey)
        self.manager: Any = None

        async def enter() -> None:
            self.manager = aiomanager.connect(address, key)
            await self.manager.__aenter__()

        loops.call(self._loop, enter)

    def look_up(self, name: str, *args: Any) -> Any:
        async def ask() -> Any:
            return await self.manager.proxy(name, *args)

        return faces.blocking(loops.call(self._loop, ask), self._loop)

    def queue(self, name: str) -> Any:
        async def ask() -> Any:
            return self.manager.queue(name)

        return faces.blocking(loops.call(self._loop, ask), self._loop)

    def close(self) -> None:
        manager, self.manager = self.manager, None
        if manager is not None:

            async def leave() -> None:
                await manager.__aexit__(None, None, None)

            loops.call(self._loop, leave)


def forked(target: Callable[..., Any], *args: Any) -> None:
    """Run a function in a child of `os.fork`."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.set_wakeup_fd(-1)  # that of an event loop which does not run here
            target(*args)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    status: list[int] = []

    def ended() -> bool:
        done, left = os.waitpid(pid, os.WNOHANG)
        if done:
            status.append(left)
        return bool(done)

    try:
        wait_until_sync(ended, timeout=while_busy(PATIENCE), description="the child ends")
    finally:
        if not status:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status[0]) == 0


def took_at_most(seconds: float, work: Callable[[], Any]) -> Any:
    """Run something that has to be quick."""
    began = time.monotonic()
    value = work()
    assert time.monotonic() - began < while_busy(seconds)
    return value
