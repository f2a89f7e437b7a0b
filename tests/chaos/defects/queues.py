"""Mistakes in the hosted queue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiomanager._broker.backlog import NO_NUMBER, Backlog, Item
from aiomanager._broker.leases import Leases
from aiomanager._broker.queue import HostedQueue
from aiomanager._broker.takes import Takes
from aiomanager._host.client_sessions import Client
from aiomanager._host.connection import Peer
from tests.chaos.defects.table import Defect, Patch, enter, nothing

DEFECTS: dict[str, Defect] = {}
defect = enter(DEFECTS)


# -- leases -----------------------------------------------------------------------------------


@defect
def no_requeue() -> Sequence[Patch]:
    """What a client had when its connection ended is forgotten."""

    def forget(queue: HostedQueue, items: list[Item]) -> None:
        queue._done += len(items)

    return [(HostedQueue, "_lost", forget)]


@defect
def lease_by_message() -> Sequence[Patch]:
    """A lease is known by its message and not by its delivery."""
    grant, end = Leases.grant, Leases.end

    def grant_by_message(leases: Leases, owner: Any, items: Sequence[Item]) -> list[int]:
        owned = leases._owned.setdefault(owner, {})
        for ident, item in zip(grant(leases, owner, items), items, strict=True):
            owned[item.number] = owned.pop(ident)
            if leases._owners.pop(ident, None) is not None:
                leases._owners[item.number] = owner
        return [item.number for item in items]

    def end_by_message(leases: Leases, owner: Any, number: int) -> Item | None:
        having = (one for one, items in leases._owned.items() if number in items)
        return end(leases, next(having, owner), number)

    return [(Leases, "grant", grant_by_message), (Leases, "end", end_by_message)]


@defect
def stale_ack_accepted() -> Sequence[Patch]:
    """Whatever is settled is said to have been there to settle."""
    settle = HostedQueue.settle

    def settle_all(*args: Any, **kwds: Any) -> list[bool]:
        return [True for _ in settle(*args, **kwds)]

    return [(HostedQueue, "settle", settle_all)]


@defect
def lease_timeout_never() -> Sequence[Patch]:
    """The time of a lease is never over."""
    return [(Leases, "_expire", nothing)]


@defect
def taken_and_there() -> Sequence[Patch]:
    """What somebody has taken stays in the queue."""
    take = HostedQueue.take

    def take_and_keep(
        queue: HostedQueue, idents: Sequence[int], *, owner: Any, **whose: Any
    ) -> list[bool]:
        leased = queue._leases._owned.get(owner, {})
        kept = [leased[ident] for ident in idents if ident in leased]
        copies = [Item(item.data, item.number) for item in kept]
        taken = take(queue, idents, owner=owner, **whose)
        queue._return(copies)
        return taken

    return [(HostedQueue, "take", take_and_keep)]


@defect
def delayed_nack_forgotten() -> Sequence[Patch]:
    """What is to be handed out later never is."""
    return [(Backlog, "delay", nothing)]


@defect
def returned_to_the_tail() -> Sequence[Patch]:
    """What returns is handed out after all that was put since."""
    take = Backlog.take

    def take_new_first(backlog: Backlog, count: int) -> list[Item]:
        if not backlog._ready:
            return take(backlog, count)
        returned, backlog._returned = backlog._returned, []
        try:
            return take(backlog, count)
        finally:
            backlog._returned = returned

    return [(Backlog, "take", take_new_first)]


@defect
def restored_to_the_head() -> Sequence[Patch]:
    """What was taken for nobody goes before all that was put, and not to its place."""
    restore = Takes.restore

    def without_number(*args: Any) -> Item | None:
        item = restore(*args)
        if item is not None:
            item.number = NO_NUMBER
        return item

    return [(Takes, "restore", without_number)]


@defect
def take_of_the_dead_kept() -> Sequence[Patch]:
    """What somebody has taken without knowing it, and is dead, stays taken."""
    return [(HostedQueue, "holder_lost", lambda queue, holder: 0)]


# -- waiting ----------------------------------------------------------------------------------


@defect
def dead_waiter_kept() -> Sequence[Patch]:
    """A client that is gone keeps its place in the line, and what it is given counts as given."""
    send = Peer.send

    def owner_lost(queue: HostedQueue, owner: Any) -> int:
        items = queue._leases.end_all(owner)
        queue._lost(items)
        queue._move()
        return len(items)

    def send_anyway(peer: Peer, *args: Any) -> bool:
        return peer.closed or send(peer, *args)

    return [
        (HostedQueue, "owner_lost", owner_lost),
        (Peer, "send", send_anyway),
        (Peer, "is_gone", lambda peer: False),
    ]


@defect
def dead_putter_kept() -> Sequence[Patch]:
    """What a client that is gone wanted to put goes in when there is room."""
    owner_lost = HostedQueue.owner_lost

    def owner_lost_but_its_puts(queue: HostedQueue, owner: Any) -> int:
        room = queue._room
        putting = [waiter for waiter in room.putters if waiter.owner == owner]
        for waiter in putting:
            del room._owned[owner][waiter]
        returned = owner_lost(queue, owner)
        for waiter in putting:
            room._owned.setdefault(owner, {})[waiter] = None
        return returned

    return [(HostedQueue, "owner_lost", owner_lost_but_its_puts)]


@defect
def cancel_ignored() -> Sequence[Patch]:
    """A call that waits at the host goes on waiting when it is cancelled."""
    return [(HostedQueue, "cancel", nothing)]


@defect
def shutdown_forgets_getters() -> Sequence[Patch]:
    """Who waits when the queue is shut down is told nothing, then or later."""
    shutdown = HostedQueue.shutdown

    def shutdown_without(queue: HostedQueue, immediate: bool = False) -> None:
        queue._getters.clear()
        shutdown(queue, immediate)

    return [(HostedQueue, "shutdown", shutdown_without)]


@defect
def maxsize_ignored() -> Sequence[Patch]:
    """There is always room."""
    init = HostedQueue.__init__

    def init_without(queue: HostedQueue, timers: Any, maxsize: int = 0, **options: Any) -> None:
        init(queue, timers, 0, **options)

    return [(HostedQueue, "__init__", init_without)]


@defect
def join_forgets_leases() -> Sequence[Patch]:
    """Nobody waits for what is being worked on."""
    unfinished = property(lambda queue: len(queue._backlog) + queue._takes.total)
    return [(HostedQueue, "unfinished", unfinished)]


@defect
def task_done_for_others() -> Sequence[Patch]:
    """One who says twice that an item is done has done somebody else's."""

    def done(takes: Takes, holder: Any, count: int) -> None:
        takes.total -= count

    def count_all(takes: Takes, holder: Any) -> int:
        return 1_000_000

    return [(Takes, "done", done), (Takes, "count", count_all)]


# -- messages ---------------------------------------------------------------------------------


@defect
def batch_reversed() -> Sequence[Patch]:
    """What is put at once comes out the other way round."""
    append = HostedQueue._append

    def append_reversed(queue: HostedQueue, frames: Sequence[Any]) -> None:
        append(queue, frames[::-1])

    return [(HostedQueue, "_append", append_reversed)]


@defect
def byte_changed() -> Sequence[Patch]:
    """A byte of an item is another when it comes out."""
    append = HostedQueue._append

    def append_changed(queue: HostedQueue, frames: Sequence[Any]) -> None:
        changed = [bytearray(frame) for frame in frames]
        for frame in changed:
            if len(frame) > 200:
                frame[-20] ^= 1
        append(queue, [bytes(frame) for frame in changed])

    return [(HostedQueue, "_append", append_changed)]


@defect
def no_deduplication() -> Sequence[Patch]:
    """What is sent again is run again."""

    def always(
        client: Client, channel: Any, number: int, run: Any, send: Any, *, again: bool
    ) -> None:
        run(send)

    return [(Client, "once", always)]


@defect
def answer_before_last() -> Sequence[Patch]:
    """What is sent again gets the answer to the request before it."""
    once = Client.once

    def once_late(
        client: Client, channel: Any, number: int, run: Any, send: Any, *, again: bool
    ) -> None:
        last, _ = client._answers.get(channel, (0, None))
        before = client.__dict__.setdefault("before", {})
        if number == last and channel in before:
            send(before[channel])
            return
        if channel in client._answers:
            before[channel] = client._answers[channel][1]
        once(client, channel, number, run, send, again=again)

    return [(Client, "once", once_late)]


@defect
def answers_of_all_channels() -> Sequence[Patch]:
    """A client's channels share the place of their last answer."""
    once = Client.once

    def once_for_all(
        client: Client, channel: Any, number: int, run: Any, send: Any, *, again: bool
    ) -> None:
        once(client, "all", number, run, send, again=again)

    return [(Client, "once", once_for_all)]
