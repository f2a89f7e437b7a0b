"""F13: connections that go dead without a word, at any byte, in either direction."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Collection, Sequence
from typing import Any

from tests.chaos.checker import Rules
from tests.chaos.faults import Fault
from tests.chaos.messages import SMALL, Sizes
from tests.chaos.processes import Program
from tests.chaos.programs.consumers import LEASING
from tests.chaos.relay import Connection, Relay
from tests.chaos.stage import Stage
from tests.chaos.waits import until

FRAME = 4096
LONG: Sizes = ((FRAME, FRAME, 1),)
HANDSHAKE = 8  # messages of one side, at most
GREETINGS = 4  # messages of a host before the first that a program asked for
SHORT_FRAME = 64
PATIENCE: dict[str, Any] = {"call_timeout": 0.3, "connect_timeout": 0.3, "wait": 20.0}
CLIENTS = 12


def half_open(stage: Stage, trials: int) -> None:
    """Each connection stops at some byte of some message, and is left like that."""
    if stage.hosting != "ours":
        _half_open_proxies(stage, trials)
        return
    rng = stage.rng
    # Each offset of the long frames, in a random order; the others are shorter than this.
    offsets = itertools.cycle(rng.sample(range(FRAME), FRAME))

    def arm(connection: Connection) -> None:
        way = rng.choice((connection.up, connection.down))
        offset = next(offsets) if rng.random() < 0.7 else rng.randrange(SHORT_FRAME)
        way.stop_at(rng.choice((0, 2, 4, rng.randrange(20))), offset)

    def stopped_again() -> bool:
        # A connection that has no long frames in the direction that was chosen goes on for ever.
        with relay.lock:
            for connection in relay.connections:
                if not connection.held and rng.random() < 0.01:
                    connection.up.stop_at(0, rng.randrange(SHORT_FRAME))
        return len(relay.stops) > stage.trials

    with relay_to(stage, arm) as relay:
        programs = _clients(stage, relay, relay)
        for _ in stage.rounds(trials):
            until(stopped_again, "a connection stopped", 10)
        _heal(stage, [relay], programs)


def lost_replies(stage: Stage, trials: int) -> None:
    """Each connection stops before some reply, so that what was asked for has happened and nobody
    knows; and is asked for again, over the next one."""

    def arm(connection: Connection) -> None:
        if stage.trials < trials:
            connection.down.stop_at(GREETINGS + stage.rng.randrange(4), 0)

    with relay_to(stage, arm) as relay:
        # Consumers who can tell what was put twice from what is handed out again.
        kinds = ("get", "deliveries")
        programs = _clients(stage, relay, relay, sizes=SMALL, batch=3, kinds=kinds)
        for _ in stage.rounds(trials):
            until(lambda: len(relay.stops) > stage.trials, "a connection stopped", 10)
        for program in programs:
            if program.name.startswith("p"):
                # With two replies more there is none that it still waits for in vain.
                program.until("ok", program.log.count("ok") + 2)
        _heal(stage, [relay], programs)


def every_byte(stage: Stage, trials: int) -> None:
    """Connections stop at each byte in turn of the messages that carry 4 KiB: on their way to the
    host those that put them, on their way from it those that receive them."""
    places = [(way, offset) for offset in range(FRAME) for way in ("up", "down")]
    wanted = {places[(stage.first + number) % len(places)] for number in range(trials)}

    def armed(way: str) -> Callable[[Connection], None]:
        def arm(connection: Connection) -> None:
            if there := [offset for its_way, offset in wanted - reached() if its_way == way]:
                # The handshake, and what shows its length only behind this byte, is let through.
                getattr(connection, way).stop_at(HANDSHAKE, stage.rng.choice(there), FRAME)

        return arm

    def reached() -> set[tuple[str, int]]:
        return {(way, offset) for way, relay in relays.items() for offset in relay.stops}

    relays: dict[str, Relay] = {}
    with contextlib.ExitStack() as stack:
        for way in ("up", "down"):
            relays[way] = stack.enter_context(relay_to(stage, armed(way), name=way))
        programs = _clients(stage, relays["up"], relays["down"])
        for _ in stage.rounds(trials):
            until(lambda: len(wanted & reached()) > stage.trials, "a connection stopped", 15)
        _heal(stage, relays.values(), programs)


def _half_open_proxies(stage: Stage, trials: int) -> None:
    # Stock clients never connect anew, so that a connection is all that each of them has.
    stage.consumer("stock")
    with relay_to(stage, lambda connection: None) as relay:
        victims = [stage.consumer("stock", address=relay.address) for _ in range(trials)]
        stage.until_waiting(victims)
        with relay.lock:
            for connection in relay.connections:
                connection.hold(connection.down)
        stage.put(trials + 1)
        stage.drain()
    for _ in stage.rounds(trials, trials):
        pass


def swizzled(stage: Stage, trials: int) -> None:
    """Connections are held one by one and go on in another order, or are given up by then."""
    with relay_to(stage, lambda connection: None) as relay:
        programs = _clients(stage, relay, relay)
        for program in programs:
            program.until("ready")
        for count in stage.rounds(trials, CLIENTS):
            with relay.lock:
                there = [connection for connection in relay.connections if not connection.held]
            victims = stage.rng.sample(there, min(count, len(there)))
            for victim in victims:
                with relay.lock:
                    victim.hold(
                        *stage.rng.choice(((victim.up,), (victim.down,), (victim.up, victim.down)))
                    )
                stage.sleep(0.03)
            stage.rng.shuffle(victims)
            for victim in victims:
                stage.sleep(0.1)
                relay.release(victim)
        _heal(stage, [relay], programs)


def relay_to(stage: Stage, on_accept: Callable[[Connection], None], *, name: str = "r") -> Relay:
    """A wire to the host of a stage."""
    target = stage.address
    if isinstance(target, str):
        return Relay(str(stage.folder / f"{name}.sock"), target, on_accept)
    return Relay(("127.0.0.1", 0), target, on_accept)


def _clients(
    stage: Stage,
    putting: Relay,
    receiving: Relay,
    *,
    sizes: Sizes = LONG,
    batch: int = 1,
    kinds: Sequence[str] = ("get", *LEASING),
) -> list[Program]:
    producers = [
        stage.producer(sizes=sizes, pause=0.005, batch=batch, address=putting.address, **PATIENCE)
        for _ in range(CLIENTS // 2)
    ]
    consumers = [
        stage.consumer(
            kinds[number % len(kinds)], work=0.005, address=receiving.address, **PATIENCE
        )
        for number in range(CLIENTS - len(producers))
    ]
    return producers + consumers


def _heal(stage: Stage, relays: Collection[Relay], programs: list[Program]) -> None:
    for relay in relays:
        relay.stop_accepting()
    for program in programs:
        program.until("ready")
    for program in programs:
        if program.name.startswith("p"):
            stage.end(program)
    # What the host waits for on connections that are dead, keep-alive would end in half a minute.
    for relay in relays:
        relay.cut_held()
    stage.drain()
    for program in programs:
        if not program.name.startswith("p"):
            stage.end(program)


F13 = Fault(
    code="F13",
    title="connection half-open from any byte on",
    short=50,
    long=1000,
    control=8,
    inject=half_open,
    settings={"handshake_timeout": 1.0},
    rules=Rules(in_order=False, overtaken=True),
)
F13_SWIZZLED = Fault(
    code="F13b",
    title="connections held one by one, released in another order",
    short=24,
    long=1000,
    inject=swizzled,
    settings={"handshake_timeout": 1.0},
    rules=Rules(in_order=False, overtaken=True),
    tcp=True,
)
F13_BYTES = Fault(
    code="F13c",
    title="connection half-open at each byte of a 4 KiB message, both ways",
    short=16,
    long=2 * FRAME,
    at_once=256,
    seconds=900.0,
    inject=every_byte,
    settings={"handshake_timeout": 1.0},
    rules=Rules(in_order=False, overtaken=True),
)
F13_REPLIES = Fault(
    code="F13d",
    title="connection half-open before a reply",
    short=24,
    long=1000,
    inject=lost_replies,
    settings={"handshake_timeout": 1.0},
    rules=Rules(in_order=False),
)
ALL = (F13, F13_SWIZZLED, F13_BYTES, F13_REPLIES)
