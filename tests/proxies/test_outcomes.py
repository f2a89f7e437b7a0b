"""What an object returns is returned, and what it raises is raised, whatever either is."""

from __future__ import annotations

import asyncio
import multiprocessing
import pickle
import queue
import traceback
from typing import Any

import anyio
import pytest

import aiomanager
from aiomanager import wrap
from aiomanager._concurrency.futures import replica
from aiomanager._wire.replies import NotThereError, load_queue_reply, load_reply
from tests.proxies.freed import all_freed
from tests.support import objects

ERRORS: list[Exception] = [
    ValueError("value"),
    KeyError("key"),
    OSError(5, "disk"),
    PermissionError(13, "denied"),
    EOFError("tape"),
    TimeoutError("device"),
    ConnectionRefusedError(111, "database"),
    BrokenPipeError(32, "pipe"),
    asyncio.QueueEmpty("empty"),
    queue.Empty("empty"),
    multiprocessing.TimeoutError("result"),
    multiprocessing.AuthenticationError("key"),
    StopAsyncIteration("stop"),
    aiomanager.ConnectionLostError("elsewhere", outcome_known=False),
    aiomanager.DecodeError("there"),
    aiomanager.RemoteError("further on"),
    aiomanager.QueueShutDown("its own"),
    objects.ShutDown("of what is no queue"),
]
every_error = pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)


def is_equal(error: BaseException, other: BaseException) -> bool:
    """Whether two errors say the same."""
    return type(error) is type(other) and error.args == other.args


@pytest.fixture(params=["stock", "ours"])
def address(request, manager, our_host):
    """Hosts of both kinds."""
    return (manager if request.param == "stock" else our_host).address


@pytest.mark.anyio
async def test_what_an_object_raises(address):
    """It arrives as it was raised, and the connection is used again: nothing is decided by type."""
    async with aiomanager.connect(address, objects.KEY) as connected:
        device = await connected.proxy("Device")
        thread = await device.name()
        for error in ERRORS:
            with pytest.raises(type(error)) as raised:
                await device.fail(error)
            assert is_equal(raised.value, error)
            assert await device.name() == thread, error
        with pytest.raises(StopAsyncIteration, match="stop"):
            await device.fail(StopIteration("stop"))
        assert await device.name() == thread


@pytest.mark.anyio
async def test_an_error_that_is_a_value(manager, address):
    """It is returned, from whatever holds it."""
    shared, namespace = wrap(manager.dict()), wrap(manager.Namespace())
    values, value = wrap(manager.list()), wrap(manager.Value("O", None))
    async with aiomanager.connect(address, objects.KEY) as connected:
        device = await connected.proxy("Device")
        returned: list[BaseException] = [*ERRORS, StopIteration("x"), asyncio.CancelledError("x")]
        for error in returned:
            await shared.update(error=error)
            await namespace.set("error", error)
            await values.append(error)
            await value.set(error)
            for found in (
                await device.echo(error),
                await shared.get("error"),
                await shared.pop("error"),
                await namespace.get("error"),
                await values.call("__getitem__", -1),
                await value.get(),
            ):
                assert is_equal(found, error)
        assert all(map(is_equal, [each async for each in values], returned))


@pytest.mark.anyio
async def test_errors_that_are_items_of_an_iterator(address):
    """Those that it yields are items, and those that it raises are raised; after each comes the
    next."""
    items = [(how, error) for error in ERRORS[:-5] for how in ("yield", "raise")]
    async with aiomanager.connect(address, objects.KEY) as connected:
        iterator = await connected.proxy("Results", *items)
        for how, error in items:
            if isinstance(error, StopAsyncIteration):
                continue
            if how == "yield":
                assert is_equal(await anext(iterator), error)
                continue
            with pytest.raises(type(error)) as raised:
                await anext(iterator)
            assert is_equal(raised.value, error)


@pytest.mark.anyio
async def test_an_error_that_an_iterator_raised_for_nobody(manager):
    """It is left to the next that asks, as an item is."""
    pool = wrap(manager.Pool(1))
    iterator = await pool.imap(objects.failing_slowly, [0.05, 0.05])
    for _ in range(2):
        with pytest.raises(ArithmeticError):
            while True:
                with anyio.move_on_after(0.02):
                    await anext(iterator)
    with pytest.raises(StopAsyncIteration):
        await anext(iterator)
    await pool.terminate()


@pytest.mark.anyio
async def test_results_of_a_pool(manager):
    """Whatever a function returns is returned, and raised what it raises."""
    async with wrap(manager.Pool(1)) as pool:
        for error in ERRORS[:-3]:
            assert is_equal(await pool.apply(objects.echo, (error,)), error)
            with pytest.raises(type(error)) as raised:
                await pool.apply(objects.fail, (error,))
            assert is_equal(raised.value, error)
        assert await pool.map(objects.square, [2]) == [4]


@pytest.mark.anyio
async def test_each_waiter_has_an_error_of_its_own(manager):
    """Of many that wait for one result, none is shown where the others have been."""
    pool = wrap(manager.Pool(1))
    result = await pool.apply_async(objects.failing_slowly, (0.2,))
    raised: list[Exception] = []

    async def wait():
        try:
            await result.get()
        except ArithmeticError as exc:
            raised.append(exc)

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(wait)
    assert len({id(error) for error in raised}) == 10
    lengths = {len(traceback.extract_tb(error.__traceback__)) for error in raised}
    assert max(lengths) < 60
    await pool.terminate()


@pytest.mark.anyio
async def test_notes_arrive(manager):
    """As they do with the standard library."""
    error = ValueError("noted")
    error.add_note("at the device")
    device = wrap(manager.Device())
    with pytest.raises(ValueError, match="noted") as raised:
        await device.fail(error)
    assert raised.value.__notes__ == ["at the device"]


@pytest.mark.anyio
async def test_remote_frames_arrive(manager, monkeypatch):
    """Where something on both sides pickles them, as tblib does."""
    tblib = pytest.importorskip("tblib.pickling_support")
    running: Any
    with objects.running(initializer=tblib.install) as running:
        device = wrap(running.Device())
        with pytest.raises(ValueError, match="frames") as raised:
            await device.fail_deeply(ValueError("frames"))
    shown = "".join(traceback.format_exception(raised.value))
    assert "fail_deeply" in shown


# -- what a host does not have ----------------------------------------------------------------
@pytest.mark.anyio
async def test_a_key_error_of_a_registered_function(address):
    """It is not that nothing is registered, also where a function in C raised it."""
    async with aiomanager.connect(address, objects.KEY) as connected:
        for name in ("look_up", "look_up_in_c"):
            assert await connected.proxy(name, "here")
            for key in ("there", name):
                with pytest.raises(aiomanager.RemoteError, match=f"KeyError: '{key}'"):
                    await connected.proxy(name, key)
                with pytest.raises(aiomanager.RemoteError, match="argument"):
                    await connected.queue(name).put(1)
        with pytest.raises(aiomanager.ConfigurationError, match="as 'KeyError'"):
            await connected.proxy("KeyError")
        with pytest.raises(aiomanager.ConfigurationError, match="as 'unknown'"):
            await connected.queue("unknown").put(1)


LOOKED_UP = """Traceback (most recent call last):
  File "{folder}managers.py", line 209, in _handle_request
{source}  File "{folder}managers.py", line 385, in create
{line}KeyError: 'jobs'
"""


FOLDERS = ["/usr/lib/python3.11/multiprocessing/", "C:\\Python\\multiprocessing\\"]


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("line", ["", "    self.registry[typeid]\n    ~~~~~~~~~~~~~^^^^^^^^\n"])
def test_the_traceback_of_a_look_up(folder, line):
    """Its last frame is that of the server's own function, whatever the host's Python shows."""
    text = LOOKED_UP.format(folder=folder, line=line, source="    func()\n" if line else "")
    with pytest.raises(NotThereError) as raised:
        load_reply(pickle.dumps(("#TRACEBACK", text)))
    assert raised.value.key == "jobs"


@pytest.mark.parametrize(
    "old, new",
    [
        ("KeyError: 'jobs'", "ValueError: KeyError: 'jobs'"),
        ("    self.registry[typeid]", "    obj = callable(*args, **kwds)"),
        ("in create\n", 'in create\n  File "/app/jobs.py", line 1, in make\n'),
        ("multiprocessing/managers.py", "app/managers.py"),
    ],
)
def test_other_tracebacks(old, new):
    """What a registered function raised is an error of the call."""
    text = LOOKED_UP.format(folder=FOLDERS[0], line="    self.registry[typeid]\n", source="")
    assert old in text
    with pytest.raises(aiomanager.RemoteError) as raised:
        load_reply(pickle.dumps(("#TRACEBACK", text.replace(old, new))))
    assert not isinstance(raised.value, NotThereError)


def test_the_end_of_a_queue():
    """It is ours for a queue; for any other object it is what that has raised."""
    reply: Any = pickle.dumps(("#ERROR", objects.ShutDown("other")))
    for load in (load_reply, load_queue_reply):
        with pytest.raises(objects.ShutDown):
            load(reply)
    if hasattr(queue, "ShutDown"):
        reply = pickle.dumps(("#ERROR", queue.ShutDown()))
        with pytest.raises(queue.ShutDown) as raised:
            load_reply(reply)
        assert type(raised.value) is queue.ShutDown
        with pytest.raises(aiomanager.QueueShutDown):
            load_queue_reply(reply)


# -- references ------------------------------------------------------------
@pytest.mark.anyio
async def test_a_connection_leaves_no_reference(manager):
    """A queue that was used by its name is given up when the manager is closed."""
    before = manager._number_of_objects()
    for _ in range(3):
        async with aiomanager.connect(manager.address, objects.KEY) as connected:
            await connected.queue("task_queue").put(1)
            assert manager._number_of_objects() == before + 1
    await all_freed(manager, before)


class Picky(Exception):
    """Wants other arguments than it keeps, as many do."""

    def __init__(self, code: int, *, why: str) -> None:
        super().__init__(f"{code}: {why}")
        self.code = code


@pytest.mark.parametrize("error", [Picky(1, why="x"), OSError(5, "disk"), KeyError("k")])
def test_an_equal_error_for_another_waiter(error):
    """Also of one that cannot be copied."""
    error.__cause__ = ValueError("cause")
    other = replica(error)
    assert other is not error
    assert is_equal(other, error)
    assert vars(other) == vars(error)
    assert str(other) == str(error)
    assert other.__cause__ is error.__cause__
