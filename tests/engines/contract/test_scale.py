"""Contract: a waiting get costs no thread, and holds up nobody: neither puts, nor the end of the
process, nor others who connect."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from tests.engines.contract import waiting_gets
from tests.engines.contract.hosts import Place
from tests.support.hosts import KEY, stock_queue
from tests.support.programs import PROJECT, Program
from tests.support.waiting import while_busy

COUNT = 1000


@pytest.fixture(params=["asyncio-stream", "uvloop-thread", "trio-stream"])
def runs_on(request):
    """The event loop and the transport of a program."""
    return request.param.split("-")


@contextmanager
def waiting(host, name, runs_on) -> Iterator[tuple[Program, int]]:
    """A program with many gets that wait at a host, and how many threads it has."""
    loop, transport = runs_on
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    env = {**os.environ, "PYTHONPATH": str(PROJECT), "AIOMANAGER_AUTHKEY": KEY.decode()}
    env.pop("PYTHONASYNCIODEBUG", None)  # which writes of each turn that takes long, as here
    path = Path(waiting_gets.__file__)
    with Program(
        path, loop, transport, host.address, name, str(COUNT), cwd=PROJECT, env=env
    ) as program:
        yield program, int(program.wait_for(r"^threads (\d+)$")[1])


def test_waiting_gets_of_one_process(host_processes, runs_on):
    """At a stock host, they cost a handful of threads on both sides, and what another client puts
    meanwhile comes at once."""
    host = host_processes["stock-queue"]
    name = host.name()
    before = host.process.num_threads()
    with waiting(host, name, runs_on) as (program, threads):
        assert threads <= 8
        assert host.process.num_threads() <= before + 6
        stock_queue(host.address, name).put("item")
        program.wait_for("^got item$", timeout=5)
        assert program.end() == 0
        assert program.output == [f"threads {threads}", "got item"]


@pytest.mark.parametrize("end", ["normal", "ctrl-c"])
def test_the_end_of_a_process_with_waiting_gets(host_processes, runs_on, end):
    """It takes less than a second, of which half may be waiting for the host, and there is no word
    of it on standard error."""
    host = host_processes["stock-queue"]
    took = [_seconds_to_end(host, runs_on, end)]
    while took[-1] >= while_busy(1) and len(took) < 3:
        took.append(_seconds_to_end(host, runs_on, end))
    assert took[-1] < while_busy(1), f"seconds: {took}"


def _seconds_to_end(host, runs_on, end) -> float:
    name = host.name()
    with waiting(host, name, runs_on) as (program, threads):
        if end == "normal":
            expected, code = "got item", 0
            stock_queue(host.address, name).put("item")
            program.wait_for(expected)
        else:
            expected, code = "interrupted", 130
            program.process.send_signal(signal.SIGINT)
        start = time.monotonic()
        assert program.end() == code
        assert program.output == [f"threads {threads}", expected]
        return time.monotonic() - start


@pytest.fixture(scope="module", params=[("asyncio", {}), ("trio", {})], ids=["asyncio", "trio"])
def anyio_backend(request):
    """Without asyncio's debug mode, in which so many tasks take their time."""
    return request.param


@pytest.mark.anyio
@pytest.mark.parametrize(
    "place", [("ours", "stream"), ("ours", "thread")], indirect=True, ids="-".join
)
async def test_ten_thousand_waiting_gets(queue):
    """Each gets one of as many items."""
    got: list[int] = []

    async def get() -> None:
        got.append(await queue.get())

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for _ in range(10_000):
                group.start_soon(get)
            await anyio.wait_all_tasks_blocked()
            await queue.put_many(range(10_000))
    assert sorted(got) == list(range(10_000))


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["ours", "stock-queue"])
async def test_two_hundred_who_connect_at_once(tcp_processes, kind, transport):
    """All are served over TCP, although the backlog of a stock host has room for 16 of them up to
    Python 3.12."""
    host = tcp_processes[kind]
    place = Place(host, transport)
    name = host.name()

    async def use(number: int) -> None:
        async with place.connect(wait=45) as manager:
            await manager.queue(name).put(number)

    got: list[int] = []
    async with place.connect() as manager:
        with anyio.fail_after(50):
            async with anyio.create_task_group() as group:
                for number in range(200):
                    group.start_soon(use, number)
            while len(got) < 200:
                got += await manager.queue(name).get_many(200)
    assert sorted(got) == list(range(200))
