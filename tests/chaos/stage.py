"""Where a run takes place: a folder of logs, a host, the programs around it, and the end of it all,
when everything is drained, stopped and compared with how it was at the start."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import psutil

from tests.chaos.checker import PARENT, Report, Rules, check
from tests.chaos.logs import Log
from tests.chaos.messages import SMALL, Maker, Message, described
from tests.chaos.processes import Nursery, Program
from tests.chaos.raw import Address, RawClient, StockQueue
from tests.chaos.waits import Stuck, until

KEY = "a key of the chaos tests, long enough"
QUEUE = "jobs"
BACKENDS = ("asyncio", "uvloop", "trio")
TRANSPORTS = ("stream", "thread")
MARKERS = 10


# Names a folder to which the logs of invalid runs are copied, for whoever looks for a reason.
KEEP_VARIABLE = "AIOMANAGER_CHAOS_KEEP"


class Stage:
    """A run under way.

    Args:
        seed: of everything random in it.
        hosting: `ours`, or the stock host's `queue` or `joinable`, the negative controls.
        defect: the seeded defect that its programs run with.
        tcp: whether the host listens on loopback instead of on a unix socket.
        seconds: after which `time_is_up`, so that a fault ends with the trials that it has had.
        first: how many trials there were before, on other stages.
    """

    def __init__(
        self,
        nursery: Nursery,
        seed: int,
        *,
        hosting: str = "ours",
        defect: str | None = None,
        tcp: bool = False,
        seconds: float = 3600.0,
        first: int = 0,
    ) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.hosting = hosting
        self.defect = defect
        self.first = first
        self.trials = 0
        self.notes: dict[str, Any] = {}
        self.broken = False  # so that there is no good end to be had
        self.last_put = 0.0  # when `put` began
        self.folder = Path(tempfile.mkdtemp(prefix="c-"))
        self.address: Address = ("127.0.0.1", 0) if tcp else str(self.folder / "h.sock")
        self.host: Program | None = None
        self.programs: list[Program] = []
        self._nursery = nursery
        self._log = Log(self.folder / f"{PARENT}.jsonl")
        self._numbers = itertools.count(1)
        self._maker = Maker(PARENT, self.rng, SMALL)
        self._deadline = time.monotonic() + seconds
        self._putter: StockQueue | None = None
        self._observer: RawClient | None = None
        self._base = (0, 0, 0)
        self._report: Report | None = None
        self.host_settings: dict[str, Any] = {}
        self._host_options: dict[str, Any] = {}

    # -- the host -----------------------------------------------------------------------------

    def start_host(self, queues: dict[str, int] | None = None, **settings: Any) -> Program:
        """Start a host and wait until it listens."""
        self.host_settings = {
            name: value.format(folder=self.folder) if isinstance(value, str) else value
            for name, value in settings.items()
        }
        options = {
            "queues": queues or {QUEUE: 0},
            "settings": self.host_settings,
            "flavour": self.hosting,
        }
        self._host_options = options
        program = "host" if self.hosting == "ours" else "stock host"
        if self.hosting != "ours" and isinstance(self.address, str):
            Path(self.address).unlink(missing_ok=True)  # it leaves its own, and cannot start then
        self.host = self.start(program, f"host{next(self._numbers)}", **options)
        address = self.host.until("listening")["address"]
        self.address = tuple(address) if isinstance(address, list) else address
        self._base = self._usage()
        return self.host

    def kill_host(self) -> None:
        """End the host without a word."""
        assert self.host is not None
        self.host.kill()
        self.note("host-killed", who=self.host.name)
        self.programs.remove(self.host)
        self.forget_connections()

    def restart_host(self) -> None:
        """Start the host again as it was, at the same address."""
        options = self._host_options
        self.start_host(options["queues"], **options["settings"])

    def _usage(self) -> tuple[int, int, int]:
        assert self.host is not None
        process = self.host.process
        return process.num_fds(), process.num_threads(), len(process.children())

    # -- the programs -------------------------------------------------------------------------

    def start(self, program: str, name: str, **options: Any) -> Program:
        """Start a program. What the options leave open is chosen at random: loop and transport."""
        filled = {
            "name": name,
            "address": self.address,
            "key": KEY,
            "queue": QUEUE,
            "seed": self.rng.getrandbits(32),
            "backend": self.rng.choice(BACKENDS),
            "transport": self.rng.choice(TRANSPORTS),
            "defect": self.defect,
            **options,
        }
        started = self._nursery.start(program, self.folder / f"{name}.jsonl", filled)
        self.programs.append(started)
        return started

    def consumer(self, kind: str, **options: Any) -> Program:
        """Start a consumer of a kind; `stock` is one of the standard library."""
        program = "stock consumer" if kind == "stock" else "consumer"
        return self.start(program, f"{kind}{next(self._numbers)}", kind=kind, **options)

    def producer(self, kind: str = "ours", **options: Any) -> Program:
        """Start a producer, of ours or `stock`."""
        program = "stock producer" if kind == "stock" else "producer"
        return self.start(program, f"p{next(self._numbers)}", **options)

    def joiner(self) -> Program:
        """Start a program that waits until the queue is done."""
        return self.start("joiner", f"joiner{next(self._numbers)}")

    def kill(self, program: Program) -> None:
        """End a program at once; its log says no more."""
        # Noted before, so that nothing that happens because of it is older than the note.
        self.note("killed", who=program.name)
        program.kill()
        self.programs.remove(program)

    def end(self, program: Program, timeout: float = 20.0) -> None:
        """Ask a program to end, by SIGTERM, and see that it does."""
        program.signal(signal.SIGTERM)
        self.see_end(program, timeout)

    def see_end(self, program: Program, timeout: float = 20.0) -> None:
        """Wait for a program's end; note what is wrong with it."""
        try:
            code = program.wait(timeout)
        except Stuck as exc:
            self.hung(str(exc))
            program.kill()
        else:
            if code != 0:
                self.failed(f"{program} ended with {code}: {program.errors[-500:]}")
        self.programs.remove(program)

    # -- what this process does itself --------------------------------------------------------

    def sleep(self, longest: float) -> None:
        """Let a random time pass, so that what comes next comes at no particular instant."""
        time.sleep(self.rng.uniform(0, longest))

    def note(self, event: str, **fields: Any) -> None:
        """Write to the log of this process."""
        self._log.write(event, **fields)

    def hung(self, why: str) -> None:
        """Note that something did not end."""
        self.note("hung", why=why)

    def failed(self, why: str) -> None:
        """Note that something is wrong, in a sentence."""
        self.note("failed", why=why)

    def check(self, condition: object, why: str) -> None:
        """Note that something is wrong unless the condition is true."""
        if not condition:
            self.failed(why)

    @property
    def time_is_up(self) -> bool:
        """Whether to start no more trials."""
        return time.monotonic() > self._deadline

    def rounds(self, trials: int, size: int = 1) -> Iterator[int]:
        """Yield how many trials to make at once, as long as there is time, and count them."""
        while self.trials < trials and not self.time_is_up:
            count = min(size, trials - self.trials)
            yield count
            self.trials += count

    def attempt(self, event: str, **fields: Any) -> int:
        """Write that an operation of this process begins."""
        return self._log.attempt(event, **fields)

    def message(self, size: int) -> Message:
        """A message of this process's, of so many bytes."""
        message = self._maker.next()
        message["data"] = self.rng.randbytes(size)
        return message

    def put(self, count: int = 1) -> list[Message]:
        """Put messages from here, as a stock client does, one call each."""
        if self._putter is None:
            self._putter = StockQueue(self.address, KEY, QUEUE)
        messages = [self._maker.next() for _ in range(count)]
        for message in messages:
            self.last_put = time.monotonic()
            operation = self._log.attempt("put", **described([message]))
            self._putter.call("put", message)
            self._log.write("ok", op=operation)
        return messages

    def task_done(self, count: int) -> None:
        """Say for somebody else that items are done which he has taken."""
        if self._putter is None:
            self._putter = StockQueue(self.address, KEY, QUEUE)
        for _ in range(count):
            self._putter.call("task_done")

    def statistics(self, queue: str = QUEUE) -> dict[str, Any]:
        """What a host of ours counts."""
        if self._observer is None:
            self._observer = RawClient(self.address, KEY, "observer")
        counts: dict[str, Any] = self._observer.own(queue, "statistics")
        return counts

    def until_statistics(
        self, condition: Callable[[dict[str, Any]], object], description: str, timeout: float = 20.0
    ) -> None:
        """Wait until a host of ours counts what is wanted."""
        until(lambda: condition(self.statistics()), description, timeout)

    def until_waiting(self, programs: list[Program], where: str = "waiting_getters") -> None:
        """Wait until each of these, and nobody else, waits at the host."""
        for program in programs:
            program.until("ready")
        if self.hosting == "ours":
            self.until_statistics(lambda counts: counts[where] >= len(programs), "all wait")
            return
        for program in programs:
            # A stock host does not tell. Whoever sleeps twice in a row waits for its reply.
            until(lambda p=program: _asleep(p) and _asleep(p), f"{program} waits")  # type: ignore[misc]

    def forget_connections(self) -> None:
        """Close what this process holds of the host."""
        for client in (self._putter, self._observer):
            if client is not None:
                client.close()
        self._putter = self._observer = None

    # -- the end ------------------------------------------------------------------------------

    def drain(self, timeout: float = 30.0) -> None:
        """See everything that is in the queue processed, and `join` return."""
        try:
            joiner = self.joiner()
            drain = self.consumer("deliveries" if self.hosting == "ours" else "stock")
            if self.hosting == "ours":
                self.until_statistics(lambda counts: not counts["unfinished"], "drained", timeout)
            else:
                # What was put before a marker has been handed out by when the marker has; and
                # each dead getter may take one.
                def marked() -> bool:
                    markers = self.put(MARKERS)
                    with contextlib.suppress(Stuck):
                        until(lambda: _has_processed(drain, markers), "a marker came", 0.3)
                        return True
                    return False

                until(marked, "drained", timeout)
            self.see_end(joiner, 2.0)
        except (Stuck, OSError, EOFError) as exc:
            self.hung(f"{type(exc).__name__}: {exc}")
            self.broken = True

    def finish(self, rules: Rules | None = None) -> Report:
        """Drain, end everything, compare with the start, and read the logs. Of what is broken
        already there is nothing to expect but more of the same."""
        rules = rules or Rules()
        if self.broken:
            rules = replace(rules, drained=False)
        elif self.host is not None:
            if rules.drained:
                self.drain()
            if self.hosting == "ours" and not self.broken:
                self._end_clients()
                self._compare()
                self._end_host()
        self.close_programs()
        self._report = check(self.folder, rules, self.seed)
        return self._report

    def _end_clients(self) -> None:
        host = self.host
        assert host is not None
        with (
            contextlib.suppress(OSError, EOFError),
            RawClient(self.address, KEY, "closer") as client,
        ):
            client.own(QUEUE, "shutdown")
        for program in list(self.programs):
            if program is not host:
                self.see_end(program)
        self.forget_connections()

    def _compare(self) -> None:
        try:
            until(
                lambda: all(n <= base for n, base in zip(self._usage(), self._base, strict=True)),
                f"the host is back at {self._base} descriptors, threads, children",
                5.0,
            )
        except (Stuck, psutil.Error) as exc:
            self.note("left", why=f"{exc}, but has {self._usage()}")

    def _end_host(self) -> None:
        assert self.host is not None
        host, self.host = self.host, None
        self.end(host, 5.0)
        if isinstance(self.address, str) and Path(self.address).exists():
            self.note("left", why=f"socket file {self.address}")

    def close_programs(self) -> None:
        """Kill what still runs."""
        self.forget_connections()
        # The hosts were started first; whoever still waits for them is not to see their end.
        for program in reversed(self.programs):
            if self.hosting != "ours":
                self.note("killed", who=program.name)  # a stock queue cannot tell it to end
            program.resume()
            program.kill()
        self.programs.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close_programs()
        self._log.close()
        if KEEP_VARIABLE in os.environ and not (self._report and self._report.valid):
            kept = Path(os.environ[KEEP_VARIABLE], self.folder.name)
            shutil.copytree(self.folder, kept, copy_function=_copy)
        shutil.rmtree(self.folder, ignore_errors=True)


def _copy(source: str, target: str) -> None:
    if Path(source).is_file():
        shutil.copy(source, target)


def _asleep(program: Program) -> bool:
    time.sleep(0.004)
    return bool(program.process.status() == psutil.STATUS_SLEEPING)


def _has_processed(program: Program, any_of: list[Message]) -> bool:
    idents = {message["id"] for message in any_of}
    return any(
        record["e"] == "processed" and record["id"] in idents for record in program.log.update()
    )
