"""Contract: what cannot work fails at once, with an error of ours that says what to do, and the
queue is as it was."""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import socket
import sys
import threading
import time
import types
from pathlib import Path

import pytest

import aiomanager
from aiomanager import (
    AioManagerError,
    AuthenticationError,
    ConfigurationError,
    ConnectionLostError,
    DecodeError,
    EncodeError,
    QueueEmpty,
    QueueFull,
    QueueShutDown,
    RemoteError,
)
from tests.engines.contract import foreign
from tests.engines.contract.states import came
from tests.support.hosts import KEY
from tests.support.waiting import while_busy

pytestmark = pytest.mark.anyio


@contextlib.contextmanager
def soon(error, match=None):
    """What is in the block raises this error of ours, in under a second."""
    start = time.monotonic()
    with pytest.raises(error, match=match) as caught:
        yield caught
    assert isinstance(caught.value, AioManagerError)
    assert time.monotonic() - start < while_busy(1)


async def assert_holds(queue, *items):
    """These items are in the queue, and no other."""
    for item in items:
        assert await queue.get(timeout=5) == item
    with pytest.raises(QueueEmpty):
        await queue.get(timeout=0.1)


# -- items ----------------------------------------------------------------------------------------


async def test_an_item_that_cannot_be_pickled(queue):
    """The caller hears of it; nothing was sent, not even what stands before it."""
    await queue.put("good")
    with soon(EncodeError, "lambda|function") as caught:
        await queue.put(lambda: None)
    assert isinstance(caught.value, (pickle.PicklingError, TypeError))
    with soon(EncodeError):
        await queue.put_many([1, 2, threading.Lock()])
    await assert_holds(queue, "good")


async def test_an_item_whose_class_is_gone_at_the_receiver(queue):
    """The receiver hears of it, and the item stays for somebody who has the class."""
    await queue.put(foreign.Parcel("goods"))
    with pytest.MonkeyPatch.context() as patch:
        foreign.lose(patch)
        for _ in range(2):
            with soon(DecodeError, "Make its class importable"):
                await queue.get(timeout=5)
        with soon(DecodeError):
            await queue.get_many(5)
    assert await queue.qsize() in (0, 1)  # a stock client keeps it for a moment
    await assert_holds(queue, foreign.Parcel("goods"))
    await queue.task_done()
    await queue.join()


async def test_many_items_of_which_one_cannot_be_unpickled_here(queue, place):
    """What stands before it is got; then comes the error; and nothing has changed its place, where
    that is promised."""
    await queue.put_many(["a", foreign.Parcel("b"), "c"])
    with pytest.MonkeyPatch.context() as patch:
        foreign.lose(patch)
        assert await queue.get_many(3, timeout=5) == ["a"]
        rest: list[object] = []
        with soon(DecodeError):
            # Two, so that it comes to the one whichever of them is the first now.
            for _ in range(2):
                rest += await queue.get_many(3, timeout=5)
    rest += [await queue.get(timeout=5) for _ in range(2 - len(rest))]
    assert came(place, rest, [foreign.Parcel("b"), "c"])
    await assert_holds(queue)


async def test_an_item_whose_class_the_host_does_not_have(queue, place, monkeypatch):
    """A host of ours never looks inside an item. A stock one must, and its error says so."""
    item = _class_of_this_process(monkeypatch)
    if place.host.promises.opaque:
        await queue.put(item)
        await assert_holds(queue, item)
    else:
        with soon(RemoteError, "invented_here"):
            await queue.put(item)
        await assert_holds(queue)


def _class_of_this_process(patch):
    module = types.ModuleType("invented_here")
    module.Item = type("Item", (int,), {"__module__": module.__name__})  # type: ignore[attr-defined]
    patch.setitem(sys.modules, module.__name__, module)
    return module.Item(7)


# -- queues ---------------------------------------------------------------------------------------


async def test_a_name_that_is_not_registered(manager):
    """The first use says so, whatever it is."""
    queue = manager.queue("nowhere")
    for call in (lambda: queue.put(1), queue.get, queue.get_nowait, queue.qsize, queue.join):
        with soon(ConfigurationError, "nowhere"):
            await call()
    with soon(ConfigurationError, "nowhere"):
        async for _ in queue:
            pass


async def test_a_name_under_which_there_is_no_queue(manager, place):
    """The first use says so."""
    if not place.host.has_address:
        pytest.skip("there is nothing but queues")
    with soon(ConfigurationError, "no queue"):
        await manager.queue("no_queue").put(1)


async def test_a_full_queue(small):
    """It stays as it is."""
    await small.put_many([1, 2])
    with soon(QueueFull):
        await small.put_nowait(3)
    await assert_holds(small, 1, 2)


async def test_a_queue_that_is_shut_down(queue, place):
    """Nothing is put, and what is there can be got. What a stock host has no way to do is refused
    with the reason."""
    await queue.put("item")
    if not place.host.can_shut_down:
        with soon(ConfigurationError, "put a sentinel"):
            await queue.shutdown()
        await assert_holds(queue, "item")
        return
    await queue.shutdown()
    with soon(QueueShutDown):
        await queue.put("more")
    assert await queue.get() == "item"
    with soon(QueueShutDown):
        await queue.get()


# -- connecting -----------------------------------------------------------------------------------


async def connect(address, authkey=KEY, **options):
    """Connect, and do nothing."""
    async with aiomanager.connect(address, authkey, **options):
        pass


@pytest.fixture
def remote(place):
    """A place that has to be connected to."""
    if not place.host.has_address:
        pytest.skip("there is no connection")
    return place


async def test_a_wrong_key(remote):
    """Whoever has it hears so, and the host goes on."""
    with soon(AuthenticationError, "another authkey") as caught:
        await connect(remote.host.address, b"not the key", transport=remote.transport)
    assert isinstance(caught.value, multiprocessing.AuthenticationError)
    await connect(remote.host.address, transport=remote.transport)


@pytest.mark.parametrize("key", [b"", ""])
async def test_an_empty_key(remote, key):
    """It is none."""
    with soon(ConfigurationError, "authkey is empty"):
        await connect(remote.host.address, key, transport=remote.transport)


async def test_a_path_at_which_there_is_nothing(socket_path, transport):
    """No host is there."""
    with soon(ConnectionLostError, "no host at"):
        await connect(socket_path, transport=transport)


async def test_a_path_that_is_no_socket(tmp_path, transport):
    """A host will never be there."""
    (tmp_path / "file").write_text("text")
    with soon(ConfigurationError, "is no socket"):
        await connect(tmp_path / "file", transport=transport)


async def test_a_socket_on_which_nobody_listens(socket_path, transport):
    """The host that made it is gone."""
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as sock:
        sock.bind(socket_path)
        with soon(ConnectionLostError, "no host at"):
            await connect(socket_path, transport=transport)
    Path(socket_path).unlink()


async def test_a_port_on_which_nobody_listens(transport):
    """No host is there."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as sock:
        port = sock.getsockname()[1]
    with soon(ConnectionLostError, "no host at"):
        await connect(("127.0.0.1", port), transport=transport)


async def test_somebody_who_listens_and_says_nothing(transport):
    """What does not answer is no host."""
    with (
        contextlib.closing(socket.create_server(("127.0.0.1", 0))) as sock,
        soon(ConnectionLostError, "no host answered"),
    ):
        await connect(sock.getsockname(), transport=transport, connect_timeout=0.1)


async def test_somebody_who_listens_and_says_something_else(transport):
    """What does not speak the protocol is no host."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as sock:

        def answer():
            client, _ = sock.accept()
            client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            client.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with soon(ConnectionLostError):
            await connect(sock.getsockname(), transport=transport)
        thread.join()


@pytest.mark.parametrize(
    "address",
    ["", "ftp://somewhere", ("localhost",), ("localhost", 0), ("localhost", "1"), 7, "tcp://host"],
)
async def test_what_is_no_address(address):
    """The error says what one looks like."""
    with soon(ConfigurationError):
        await connect(address)


@pytest.mark.may_block(reason="the test ends a process")
async def test_a_host_that_is_still_starting(socket_path, transport):
    """Whoever gives it time is connected when it is there."""
    context = multiprocessing.get_context("forkserver")
    host = aiomanager.QueueManager(socket_path, KEY, queues={"jobs": 0}, ctx=context)
    start = threading.Timer(0.1, host.start)
    start.start()
    try:
        async with aiomanager.connect(socket_path, KEY, wait=30, transport=transport) as manager:
            await manager.queue("jobs").put(1)
    finally:
        start.join()
        host.shutdown()
