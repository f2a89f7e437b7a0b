"""Values, errors and tracebacks: a call's outcome is its own, whatever it is."""

from __future__ import annotations

import traceback
from multiprocessing.managers import RemoteError

import pytest

import aiomanager
from tests.differential import hosts
from tests.differential.world import World

ERRORS = [ValueError("kept"), OSError(5, "disk"), StopIteration("end"), KeyError("key")]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_value_that_is_an_exception_is_returned(world: World, error: Exception) -> None:
    """From a dict, a list, a value, a namespace, a queue, and a method of one's own."""
    shared = world.make("dict", error=error)
    assert _same(shared.get("error"), error)
    assert _same(shared["error"], error)
    assert _same(shared.copy()["error"], error)
    assert _same(shared.pop("error"), error)
    listed = world.make("list", [error])
    assert _same(listed[0], error)
    assert [_same(one, error) for one in listed] == [True]
    value = world.make("Value", "O", None)
    value.value = error
    assert _same(value.value, error)
    namespace = world.make("Namespace")
    namespace.error = error
    assert _same(namespace.error, error)
    assert _same(world.make("Device").echo(error), error)
    for queue in (world.queue(), world.make("Queue")):
        queue.put(error)
        assert _same(queue.get(), error)


def _same(value: object, error: Exception) -> bool:
    return type(value) is type(error) and value.args == error.args


def test_a_pool_returns_an_exception(world: World) -> None:
    """Where the function in it returns one."""
    with world.make("Pool", 1) as pool:
        assert _same(pool.apply(hosts.returns_an_error, (1,)), ValueError(1))
        assert _same(pool.map(hosts.returns_an_error, [1])[0], ValueError(1))


RAISED = [
    OSError(28, "no space left on device"),
    TimeoutError("no answer from the device"),
    EOFError("end of tape"),
    PermissionError(13, "denied"),
    ConnectionRefusedError(111, "the database is down"),
    ConnectionResetError(104, "reset by the database"),
    BrokenPipeError(32, "its pipe"),
    KeyError("no such key"),
    StopIteration("the end"),
    RemoteError("said by the object"),
    aiomanager.QueueEmpty("said by the object"),
    aiomanager.AuthenticationError("said by the object"),
    aiomanager.ConnectionLostError("said by the object", outcome_known=True),
]


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_what_a_method_raises_arrives_as_itself(world: World, error: Exception) -> None:
    """Whatever its type; and the next call works."""
    device = world.make("Device")
    for _ in range(2):
        with pytest.raises(type(error)) as raised:
            device.fail(error)
        assert type(raised.value) is type(error)
        assert raised.value.args == error.args
        assert device.echo("pong") == "pong"


@pytest.mark.only(lambda face, kind: kind == "stock" and "-a-" not in face)
@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_the_next_call_has_the_same_connection(world: World, error: Exception) -> None:
    """An error of the object's is none of the connection's."""
    device = world.make("Device")
    thread = device.thread()
    with pytest.raises(type(error)):
        device.fail(error)
    assert device.thread() == thread


@pytest.mark.only(lambda face, kind: face != "asyncio-a-call")
def test_an_error_ends_no_other_connection(world: World) -> None:
    """A lock that is held meanwhile, and a get that waits, stay as they are."""
    device, lock, queue = world.make("Device"), world.make("RLock"), world.queue()
    waiting = world.thread(queue.get)
    with lock:
        for error in (OSError(5, "disk"), EOFError("tape"), BrokenPipeError(32, "pipe")):
            with pytest.raises(type(error)):
                device.fail(error)
        assert lock.acquire(True, 1)  # it is this thread's still
        lock.release()
    queue.put("item")
    assert waiting.get() == "item"


def test_a_queue_that_raises_an_oserror(world: World) -> None:
    """A full disk behind `put` is no lost connection, and only its own item is not put."""
    queue = world.make("picky")
    with pytest.raises(OSError, match="no space") as raised:
        queue.put("bad")
    assert not isinstance(raised.value, ConnectionError)
    queue.put("good")
    assert queue.get() == "good"


def test_one_bad_item_among_the_puts_of_others(world: World) -> None:
    """Whoever puts it has the error, and the others' items are there, each once."""
    queue = world.make("picky")
    items = [0, 1, "bad", 2, 3, "bad", 4, 5]
    puts = [world.thread(queue.put, item) for item in items]
    for item, put in zip(items, puts, strict=True):
        if item == "bad":
            with pytest.raises(OSError, match="no space"):
                put.get()
        else:
            put.get()
    assert sorted(queue.get() for _ in range(queue.qsize())) == [0, 1, 2, 3, 4, 5]


@pytest.mark.only(lambda face, kind: kind != "ours")
def test_one_item_that_the_host_cannot_unpickle(world: World) -> None:
    """The same, where the host has no class of it."""
    queue = world.make("Queue")
    items = [0, 1, hosts.Elsewhere(), 2, 3]
    puts = [world.thread(queue.put, item) for item in items]
    for item, put in zip(items, puts, strict=True):
        if isinstance(item, int):
            put.get()
        else:
            with pytest.raises(RemoteError, match="no such class here"):
                put.get()
    assert sorted(queue.get() for _ in range(queue.qsize())) == [0, 1, 2, 3]


@pytest.mark.only(lambda face, kind: "-a-" not in face)
def test_a_name_whose_function_raises(world: World) -> None:
    """A KeyError in what is registered is its own error, not that of an unknown name."""
    client = world.connect()
    client.look_up("by_name", "fast")
    with pytest.raises(RemoteError, match="slow") as raised:
        client.look_up("by_name", "slow")
    assert not isinstance(raised.value, aiomanager.ConfigurationError)


@pytest.mark.only(lambda face, kind: "-a-" not in face)
def test_the_remote_frames_are_in_the_traceback(world: World) -> None:
    """Where tblib keeps them, which many hosts install."""
    pytest.importorskip("tblib")
    with pytest.raises(ValueError, match="from the device") as raised:
        world.make("Device").deep()
    assert "_deeper" in "".join(traceback.format_exception(raised.value))


def test_each_waiter_has_an_error_of_its_own(world: World) -> None:
    """An exception that two waiters share would show the frames of both."""
    queue = world.make("picky")
    puts = [world.thread(queue.put, "bad") for _ in range(5)]
    errors = []
    for put in puts:
        with pytest.raises(OSError, match="no space") as raised:
            put.get()
        errors.append(raised.value)
    assert len(set(map(id, errors))) == 5
