"""A queue as a folder, each of its items a file: for the processes of one machine, without a host.
A file's name is the state of its item, and a rename the next one: whoever is killed leaves no step
half done. A lock, which the kernel lifts when its holder dies, makes a call one step for others."""

from __future__ import annotations

import fcntl
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from aiomanager import ConnectionLostError
from aiomanager.engines import base
from aiomanager.engines.base import Future, Promises, Received, Settlement
from aiomanager.engines.polling import Subscription

Put = Future[tuple[int, Exception | None]]
LEASE, FOR_EVER = 60.0, 1e10  # seconds until what is leased, or taken, is handed out again


class Item(NamedTuple):
    """A file's name. The item can be handed out when it is due: after a delay, or when its lease
    ends. No lease of it ends when another does, so whoever settles too late finds no such file."""

    number: int
    attempt: int = 0
    due: float = 0.0
    owner: str = ""  # the engine that has it, if it does not wait


class DirectoryEngine(base.QueueEngine):
    """A queue in a folder. Its items outlive its processes, though not a power cut, as nothing is
    synced. The clock orders them and ends leases, so that no process has to know the others."""

    promises = Promises(
        durable=True, redelivered="first", lease="time", fencing=True, put_once=True
    )

    def __init__(self, folder: Path) -> None:
        self._folder, self._me, self.closed = folder, uuid.uuid4().hex, False
        self._thread, self.waits = base.OwnThread("directory"), Subscription(longest=0.1)

    def put(self, frames: Sequence[bytes], timeout: float | None, ticket: base.Ticket) -> Put:
        return self._run(self._append, frames).map(lambda count: (count, None))

    def receive(self, count: int, timeout: float | None) -> Future[list[Received]]:
        got = self.waits.start(lambda: self._run(list, self._lease(count)).wait(), timeout, "get")
        return got.map(lambda received: received or [])

    def interrupt(self) -> None:
        self.waits.interrupt("get")

    def settle(self, settlements: Sequence[Settlement], channel: str = "") -> Future[list[bool]]:
        return self._run(lambda: [self._settle(*one) for one in settlements])

    def take(self, received: Sequence[Received], channel: str) -> Future[list[bool]]:
        return self._run(lambda: [self._settle(one.handle, "take", FOR_EVER) for one in received])

    def restore(self, received: Received, *, rejected: bool = False) -> Future[bool]:
        item = Item(received.handle.number, received.attempt - (not rejected))
        return self._run(lambda: self._append([received.data], item) >= self._finish(1))

    async def task_done(self, count: int) -> list[Exception | None]:
        return base.counted(await self._run(self._finish, count).wait(), count)

    async def join(self) -> None:
        await self.waits.wait(lambda: self._run(lambda: not self._items("*")).wait(), None)

    async def statistics(self) -> dict[str, Any]:
        items = await self._run(self._items, "*").wait()
        return {"qsize": sum(not item.owner or item.due <= time.time() for item in items)}

    async def aclose(self) -> None:
        leased = await self._run(self._items, self._me).wait()
        await self.settle([(item, "nack", 0.0) for item in leased]).wait()

    def _run(self, work: Callable[..., Any], *args: Any) -> Future[Any]:
        if self.closed:
            raise ConnectionLostError("this queue is closed")
        return self._thread.run(lambda: self._locked(work, *args)).map(self._changed)

    def _changed(self, answer: Any) -> Any:
        if answer:  # a look that found nothing has changed nothing
            self.waits.notify()
        return answer

    def _locked(self, work: Callable[..., Any], *args: Any) -> Any:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with (self._folder / "lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                return work(*args)
        except OSError as exc:
            raise ConnectionLostError(str(exc), outcome_known=False) from exc

    def _path(self, item: Item) -> Path:
        return self._folder / "_".join(map(str, item))

    def _items(self, owner: str) -> list[Item]:
        names = (path.name.split("_") for path in self._folder.glob(f"*_*_*_{owner}"))
        return sorted(Item(int(n), int(a), float(due), owner) for n, a, due, owner in names)

    def _append(self, frames: Sequence[Any], item: Item | None = None) -> int:
        for number, frame in enumerate(frames):
            (self._folder / f"new{number}").write_bytes(frame)
        for number in range(len(frames)):  # now that the disk had room for all
            (self._folder / f"new{number}").rename(self._path(item or Item(time.time_ns())))
        return len(frames)

    def _lease(self, count: int) -> Iterator[Received]:
        for item in [item for item in self._items("*") if item.due <= time.time()][:count]:
            lease = Item(item.number, item.attempt + 1, time.time() + LEASE, self._me)
            data = self._path(item).rename(self._path(lease)).read_bytes()
            yield Received(lease, time.time_ns(), lease.attempt, data)

    def _settle(self, item: Item, action: str, delay: float = 0.0) -> bool:
        if item.due < time.time() or not self._path(item).exists():
            return False
        owner = f"{self._me}-taken" if action == "take" else ""
        to = Item(item.number, item.attempt - (action == "return"), time.time() + delay, owner)
        self._path(item).rename(self._folder / "done" if action == "ack" else self._path(to))
        return True

    def _finish(self, count: int) -> int:
        return sum(self._settle(item, "ack") for item in self._items(f"{self._me}-taken")[:count])


class Client:
    """One client of the queues in a folder, as the tests of the contract want it."""

    engine = DirectoryEngine

    def __init__(self, address: str, queues: Mapping[str, int]) -> None:
        self._root, self._engines = Path(address), list[DirectoryEngine]()

    def queue(self, name: str) -> DirectoryEngine:
        self._engines.append(DirectoryEngine(self._root / quote(f"queue {name}", safe="")))
        return self._engines[-1]

    async def aclose(self) -> None:
        for engine in self._engines:
            engine.closed = True
            engine.waits.end("this queue is closed")

    def lose(self) -> None:
        for engine in self._engines:
            base.start_detached(engine.aclose)
