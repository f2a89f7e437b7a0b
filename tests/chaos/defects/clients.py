"""Mistakes in the client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiomanager._concurrency.futures import Future, filled
from aiomanager._queue.fetcher import Fetcher
from aiomanager._queue.leases import Lease
from aiomanager._transport.session import Session
from tests.chaos.defects.table import Defect, Patch, enter

DEFECTS: dict[str, Defect] = {}
defect = enter(DEFECTS)


@defect
def reply_off_by_one() -> Sequence[Patch]:
    """A reply goes to who asked before, where he waits still."""
    received = Session._received

    def received_before(session: Session, kind: str, value: Any, request_id: int) -> None:
        before = request_id - 1
        received(session, kind, value, before if before in session._pending else request_id)

    return [(Session, "_received", received_before)]


@defect
def settlements_not_sent_again() -> Sequence[Patch]:
    """What was settled when the connection broke is never heard of again."""
    ask, broken = Session.ask, Session._broken

    def ask_and_note(session: Session, ident: str, method: str, *args: Any, **options: Any) -> Any:
        asked = ask(session, ident, method, *args, **options)
        if method in ("settle", "take"):
            session.__dict__.setdefault("settles", set()).add(asked[0])
        return asked

    def broken_and_forgotten(session: Session, connection: Any, error: Any) -> None:
        for request_id in session.__dict__.get("settles", ()):
            session._pending.pop(request_id, None)
        broken(session, connection, error)

    return [(Session, "ask", ask_and_note), (Session, "_broken", broken_and_forgotten)]


@defect
def no_reconnection() -> Sequence[Patch]:
    """A client whose connection broke has none any more."""
    start = Session._start

    def start_once(session: Session) -> None:
        if not session._ever_connected:
            start(session)

    return [(Session, "_start", start_once)]


@defect
def cancelled_receive_dropped() -> Sequence[Patch]:
    """What was on its way to one who has left is given back to nobody."""
    hand_back = Fetcher.hand_back

    def drop(fetcher: Fetcher, received: Any, how: Any, delay: float = 0.0) -> Future[bool]:
        return hand_back(fetcher, received, how, delay) if how == "nack" else filled(True)

    return [(Fetcher, "hand_back", drop)]


@defect
def claim_dropped() -> Sequence[Patch]:
    """What came for one who left at that very moment is nobody's."""
    init = Future.__init__

    def init_without(future: Future[Any], discard: object = None) -> None:
        init(future)

    return [(Future, "__init__", init_without)]


@defect
def sentinel_handled() -> Sequence[Patch]:
    """The sentinel is given to the handler."""
    return [(Lease, "is_sentinel", lambda lease, sentinel: False)]
