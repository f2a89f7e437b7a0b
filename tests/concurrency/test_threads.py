"""Outcomes that come from other threads, of an engine's own."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import anyio
import pytest

from aiomanager._concurrency import threads
from aiomanager._concurrency.event_loop import current_loop, for_other_threads
from aiomanager._concurrency.futures import Future
from aiomanager._concurrency.threads import Handover, OwnThread
from tests.support.waiting import wait_until, wait_until_sync

pytestmark = [pytest.mark.anyio, pytest.mark.every_python]

COUNT = 1000


def on_a_thread(work) -> None:
    """Run something on another thread, and wait until it has ended, without a turn of the loop."""
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


async def outcome(future: Future[Any]) -> Any:
    """What a future has, soon."""
    with anyio.fail_after(5):
        return await future.wait()


@pytest.fixture
def hops(monkeypatch) -> list[int]:
    """One entry for each time that a thread has woken the event loop."""
    hops: list[int] = []
    real = for_other_threads

    def counting(callback):
        wake = real(callback)

        def call() -> bool:
            hops.append(threading.get_ident())
            return wake()

        return call

    monkeypatch.setattr(threads, "for_other_threads", counting)
    return hops


@pytest.mark.may_block(reason="the test waits for its thread")
async def test_one_hop_for_all_that_comes_meanwhile(hops):
    """However many results there are; and what comes later has a hop of its own."""
    handover = Handover()
    for batch in range(1, 3):
        futures: list[Future[int]] = [Future() for _ in range(COUNT)]

        def fill(futures=futures) -> None:
            for number, future in enumerate(futures):
                assert handover.set_result(future, number)

        on_a_thread(fill)
        assert not any(future.filled for future in futures), "filled by the thread"
        assert await outcome(futures[-1]) == COUNT - 1
        assert [future.value for future in futures] == list(range(COUNT))
        assert len(hops) == batch


@pytest.mark.may_block(reason="the test waits for its thread")
async def test_an_error_is_an_outcome():
    """Also among results; and a callback that fails takes nothing from those behind it."""
    handover = Handover()
    first: Future[int] = Future()
    second: Future[int] = Future()

    def fill() -> None:
        handover.set_exception(first, ValueError("no"))
        handover.call(partial(int, "x"))
        handover.set_result(second, 2)

    on_a_thread(fill)
    with pytest.raises(ValueError, match="no"):
        await outcome(first)
    assert await outcome(second) == 2


@pytest.mark.may_block(reason="the test waits for its threads")
async def test_many_threads_at_once():
    """Nothing that they hand over is left behind."""
    handover = Handover()
    futures: list[Future[int]] = [Future() for _ in range(8 * COUNT)]

    def fill(part: int) -> None:
        for future in futures[part::8]:
            handover.set_result(future, part)

    started = [threading.Thread(target=fill, args=(part,)) for part in range(8)]
    for thread in started:
        thread.start()
    with anyio.fail_after(30):
        assert [await future.wait() for future in futures] == [*range(8)] * COUNT
    for thread in started:
        thread.join()


async def test_work_of_an_own_thread(hops):
    """It runs there, in order, and its outcomes come here."""
    own, here = OwnThread("own"), threading.get_ident()
    done: list[int] = []

    def work(number: int) -> int:
        done.append(number)
        if number % 10 == 9:
            raise ValueError(number)
        return threading.get_ident()

    futures = [own.run(partial(work, number)) for number in range(100)]
    for number, future in enumerate(futures):
        if number % 10 == 9:
            with pytest.raises(ValueError, match=str(number)):
                await outcome(future)
        else:
            assert await outcome(future) != here
    assert done == list(range(100))
    assert 1 <= len(hops) <= 100


async def test_a_thread_that_has_nothing_to_do(monkeypatch):
    """It ends, and there is another one where there is something again."""
    monkeypatch.setattr(threads, "LINGER", 0.001)
    own = OwnThread("own thread of a test")
    for number in range(20):
        assert await outcome(own.run(partial(int, number))) == number
        if number % 2:
            await wait_until(
                lambda: "own thread of a test" not in [t.name for t in threading.enumerate()],
                description="the thread has ended",
            )


def test_a_loop_that_has_ended(anyio_backend):
    """What comes for it is dropped, and the thread hears of that. It is no error."""
    backend, options = anyio_backend
    futures: list[Future[int]] = [Future() for _ in range(3)]
    kept: list[object] = []
    running, ended = threading.Event(), threading.Event()

    async def main() -> None:
        handover, own = Handover(), OwnThread("own")
        kept.extend((current_loop(), handover, own.run(partial(ended.wait, 10))))
        running.set()

        def late() -> None:
            ended.wait(10)
            kept.append([handover.set_result(future, 1) for future in futures])

        kept.append(threading.Thread(target=late))
        kept[-1].start()  # type: ignore[attr-defined]

    anyio.run(main, backend=backend, backend_options=options)
    ended.set()
    kept[3].join(10)  # type: ignore[attr-defined]
    assert kept[4] == [False, False, False]
    assert not any(future.filled for future in futures)
    wait_until_sync(
        lambda: "own" not in [thread.name for thread in threading.enumerate()],
        description="the thread has ended",
    )
