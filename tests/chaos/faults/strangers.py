"""P1 and P2: peers that say nothing, say half of it, or say what nobody understands."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Iterator

from tests.chaos import raw
from tests.chaos.checker import Rules
from tests.chaos.faults import Fault
from tests.chaos.sessions import AUTHENTICATED, UNAUTHENTICATED, malformed
from tests.chaos.stage import KEY, QUEUE, Stage
from tests.chaos.waits import until

DEADLINE = 1.5  # of the handshake, seconds
SERVED_SECONDS = 1.0
SESSIONS_AT_ONCE = 8
GROWTH_MB = 30.0


def bad_peers(stage: Stage, trials: int) -> None:
    """All connect and stay: a third silent, a third in the middle of the handshake, a third with
    garbage. Others are served meanwhile, and the host is rid of them within the deadline."""
    host = stage.host
    assert host is not None
    before = host.process.num_fds()
    began = time.monotonic()
    with contextlib.ExitStack() as peers:
        for _ in stage.rounds(trials):
            peer = peers.enter_context(raw.connect(stage.address))
            with contextlib.suppress(OSError):
                if stage.trials % 3 == 1:
                    peer.sendall(b"\0\0\0\x10half")
                elif stage.trials % 3 == 2:
                    peer.sendall(stage.rng.randbytes(stage.rng.randrange(1, 2000)))
        served_at = time.monotonic()
        with raw.RawClient(stage.address, KEY, "newcomer") as newcomer:
            newcomer.own(QUEUE, "qsize")
        stage.put(5)
        served = time.monotonic() - served_at
        stage.notes["served_ms"] = round(served * 1000)
        stage.check(served < SERVED_SECONDS, f"a newcomer was served after {served:.2f} s")
        stage.forget_connections()
        # Still connected on their side.
        until(lambda: host.process.num_fds() <= before, "it is rid of them", DEADLINE + 1.0)
        stage.notes["rid_of_them_s"] = round(time.monotonic() - began, 2)


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
    long=300,
    inject=bad_peers,
    settings={"handshake_timeout": DEADLINE},
    rules=Rules(exactly_once=True),
)
P2 = Fault(
    code="P2",
    title="malformed sessions beside a healthy client",
    short=500,
    long=10_000,
    inject=malformed_sessions,
    queues={QUEUE: 0, "loot": 0},
    settings={"handshake_timeout": DEADLINE},
    rules=Rules(exactly_once=True),
    seconds=120.0,
)
ALL = (P1, P2)
