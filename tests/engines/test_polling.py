"""Waits at a host that calls back never, or sometimes."""

from __future__ import annotations

import asyncio

import anyio
import anyio.lowlevel
import pytest

from aiomanager import ConnectionLostError
from aiomanager._concurrency.futures import Future
from aiomanager.engines.polling import Subscription
from tests.support.waiting import wait_until, while_busy

pytestmark = [pytest.mark.anyio, pytest.mark.every_python]

LONG = 3600.0  # longer than a test: what comes sooner was not polled for


class Place:
    """Something to look at.

    Attributes:
        looks: when somebody has looked.
        found: what is there.
    """

    def __init__(self) -> None:
        self.looks: list[float] = []
        self.found: list[str] = []

    async def look(self) -> list[str]:
        """What is there; nothing more than once."""
        self.looks.append(anyio.current_time())
        await anyio.lowlevel.checkpoint()
        found, self.found = self.found, []
        return found

    async def looked(self, count: int = 1) -> None:
        """Wait until somebody has looked so often."""
        await wait_until(lambda: len(self.looks) >= count, description=f"{count} looks")
        await anyio.wait_all_tasks_blocked()


@pytest.fixture
def place():
    """Where there is nothing yet."""
    return Place()


async def test_what_is_there_is_found_at_once(place):
    """In one look, also where nobody wants to wait."""
    subscription = Subscription(LONG, LONG)
    for timeout in (0, 5, None):
        place.found = ["a", "b"]
        assert await subscription.start(place.look, timeout).wait() == ["a", "b"]
    assert await subscription.start(place.look, 0).wait() is None
    assert len(place.looks) == 4


async def test_a_notification_wakes_all(place):
    """Long before they would have looked by themselves; each looks again."""
    subscription = Subscription(LONG, LONG)
    waits = [subscription.start(place.look, None) for _ in range(3)]
    await place.looked(3)
    for number in range(1, 4):
        place.found = ["item"]
        subscription.notify()
        while sum(wait.filled for wait in waits) < number:
            await anyio.lowlevel.checkpoint()
        await anyio.wait_all_tasks_blocked()
    assert [await wait.wait() for wait in waits] == [["item"]] * 3


async def test_a_change_during_a_look_is_not_missed(place):
    """It may have come after the look had seen that there is nothing."""
    subscription = Subscription(LONG, LONG)

    async def look() -> list[str]:
        found: list[str] = await place.look()
        if len(place.looks) == 1:
            place.found = ["item"]
            subscription.notify()
        return found

    with anyio.fail_after(5):
        assert await subscription.start(look, None).wait() == ["item"]


async def test_without_notifications_it_looks_by_itself(place):
    """After pauses that grow, of a random length, and not beyond their bound."""
    subscription = Subscription(0.001, 0.01)
    wait = subscription.start(place.look, None)
    await place.looked(20)
    place.found = ["item"]
    with anyio.fail_after(5):
        assert await wait.wait() == ["item"]


async def test_the_pauses(place, monkeypatch):
    """Each is between half and all of one that grows up to the bound, and is the shortest again
    when something has changed."""
    bounds: list[tuple[float, float]] = []

    def uniform(*of_a_pause: float) -> float:
        bounds.append(of_a_pause)  # type: ignore[arg-type]
        return 0.0 if len(bounds) < 8 else LONG

    monkeypatch.setattr("aiomanager.engines.polling.random.uniform", uniform)
    subscription = Subscription(1.0, 4.0)
    wait = subscription.start(place.look, None, "wait")
    await place.looked(8)
    subscription.notify()
    await place.looked(9)
    subscription.interrupt("wait")
    assert await wait.wait() is None
    assert [longest for _, longest in bounds] == [1.0, 1.5, 2.25, 3.375, 4.0, 4.0, 4.0, 4.0, 1.0]
    assert all(shortest == longest / 2 for shortest, longest in bounds)


async def test_a_timeout(place):
    """Not before, and not much later, and with a last look at the end."""
    for subscription in (Subscription(LONG, LONG), Subscription(0.001, 0.01)):
        before = len(place.looks)
        start = anyio.current_time()
        assert await subscription.start(place.look, 0.1).wait() is None
        assert 0.09 < anyio.current_time() - start < while_busy(1)
        assert len(place.looks) >= before + 2
        assert place.looks[-1] - start > 0.09, "the last look is at the end"


async def test_an_interruption(place):
    """It ends the wait at once, without another look, and no other wait, nor the next."""
    subscription = Subscription(LONG, LONG)
    gets = subscription.start(place.look, None, "get")
    puts = subscription.start(place.look, None, "put")
    await place.looked(2)
    subscription.interrupt("get")
    with anyio.fail_after(5):
        assert await gets.wait() is None
    assert len(place.looks) == 2
    assert not puts.filled
    place.found = ["item"]
    assert await subscription.start(place.look, None, "get").wait() == ["item"]
    subscription.interrupt("put")
    assert await puts.wait() is None


async def test_an_interruption_before_the_first_look(place):
    """Whoever started the wait has left before it came to anything."""
    subscription = Subscription(LONG, LONG)
    wait = subscription.start(place.look, None, "get")
    subscription.interrupt("get")
    with anyio.fail_after(5):
        assert await wait.wait() is None
    assert place.looks == []


async def test_a_look_without_a_wait_is_not_interrupted(place):
    """Somebody is there who wants the answer, and would take this one for it."""
    subscription = Subscription(LONG, LONG)
    place.found = ["item"]
    look = subscription.start(place.look, 0, "get")
    subscription.interrupt("get")
    assert await look.wait() == ["item"]


async def test_what_an_interrupted_look_has_found(place):
    """It belongs to whoever has the future: nothing is lost."""
    subscription = Subscription(LONG, LONG)
    in_the_look, go_on = anyio.Event(), anyio.Event()

    async def look() -> list[str]:
        in_the_look.set()
        await go_on.wait()
        return ["item"]

    wait = subscription.start(look, None, "get")
    await in_the_look.wait()
    subscription.interrupt("get")
    go_on.set()
    with anyio.fail_after(5):
        assert await wait.wait() == ["item"]


async def test_an_error_of_a_look(place):
    """It ends the wait."""

    async def look() -> list[str]:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await Subscription().start(look, None).wait()


async def test_the_end(place):
    """All who wait hear of it, and who comes later."""
    subscription = Subscription(LONG, LONG)
    wait = subscription.start(place.look, None)
    await place.looked()
    subscription.end("this engine is closed")
    for future in (wait, subscription.start(place.look, 0)):
        with pytest.raises(ConnectionLostError, match="closed"), anyio.fail_after(5):
            await future.wait()
    with pytest.raises(ConnectionLostError, match="closed"):
        await subscription.wait(place.look, None)


async def test_a_wait_of_its_caller(place):
    """It can be cancelled, and is forgotten then."""
    subscription = Subscription(LONG, LONG)
    with anyio.move_on_after(0.01) as scope:
        await subscription.wait(place.look, None)
    assert scope.cancelled_caught
    subscription.notify()
    await anyio.wait_all_tasks_blocked()
    assert len(place.looks) == 1


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.may_leave("tasks", reason="a loop is closed in the middle of a wait")
def test_an_event_loop_that_was_closed_in_the_middle(anyio_backend, place):
    """A finalizer that ends the wait finds nobody there, and does not fail."""

    async def begin() -> tuple[Subscription, Future[list[str] | None]]:
        subscription = Subscription(LONG, LONG)
        wait = subscription.start(place.look, None, "get")
        await place.looked()
        return subscription, wait

    loop = asyncio.new_event_loop()
    subscription, wait = loop.run_until_complete(begin())
    loop.close()
    subscription.interrupt("get")
    subscription.notify()
    assert not wait.filled
