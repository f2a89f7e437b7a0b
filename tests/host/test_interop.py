"""Contract: programs of any Python from 3.6 on that know nothing but `BaseManager` work against
our host, and our clients against theirs.

This Python is ours, each Python that is installed is theirs; `.ci/run` runs these tests on each.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

import aiomanager
from aiomanager import ConfigurationError, QueueEmpty, QueueShutDown, RemoteError
from tests.support import pythons
from tests.support.hosts import KEY
from tests.support.programs import Program

pytestmark = [pytest.mark.interop, pytest.mark.anyio]

_PYTHONS = (*pythons.OLDER, *pythons.SUPPORTED)
_INSTALLED = pythons.installed(_PYTHONS)

HAS_SHUTDOWN = (3, 13)

_PARCELS = """
class Parcel:
    def __init__(self, content):
        self.content = content
    def __eq__(self, other):
        return type(other) is Parcel and other.content == self.content
"""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop: each has met each kind of host in `tests/engines/contract`."""
    return "asyncio"


@pytest.fixture(params=_PYTHONS)
def python(request: pytest.FixtureRequest) -> str:
    """The version of another program's Python."""
    if request.param not in _INSTALLED:
        pytest.skip(f"Python {request.param} is not installed")
    return str(request.param)


@pytest.fixture
def parcel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An object whose class can be imported here, and by whom `tmp_path` is given to."""
    (tmp_path / "parcels.py").write_text(_PARCELS)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("parcels").Parcel("goods")
    del sys.modules["parcels"]


@contextmanager
def stock(python: str, *arguments: str, knows: Path | None = None) -> Iterator[Program]:
    """A program of the standard library's; `knows` is a folder from which it can import."""
    env = {**os.environ, "AIOMANAGER_AUTHKEY": KEY.decode(), "PYTHONPATH": str(knows or "")}
    path = Path(__file__).parents[1] / "support" / "stock_peer.py"
    with Program(path, *arguments, cwd=path.parent, env=env, python=_INSTALLED[python]) as program:
        try:
            yield program
        finally:
            program.process.kill()
            program.end()
            sys.stdout.write(program.text)  # for whoever reads why a test has failed
            if arguments[0] == "host":
                Path(arguments[1]).unlink(missing_ok=True)  # which it leaves when it is killed


async def test_a_stock_client_at_our_host(
    python: str, transport: Any, socket_path: str, tmp_path: Path, parcel: Any
):
    """It gets what we put and we get what it puts, both as they were, also objects of a class that
    the host does not have; it joins, and hears of a shutdown."""
    items = [17, "words", b"x" * 100_000, parcel, [parcel] * 3]
    queues = {"jobs": 0, "results": 0}
    async with aiomanager.host(
        queues, address=socket_path, authkey=KEY, transport=transport
    ) as manager:
        jobs: Any = manager.queue("jobs")
        results: Any = manager.queue("results")
        with stock(python, "client", socket_path, knows=tmp_path) as client:
            await jobs.put_many(items)
            for item in items:
                assert await results.get(timeout=20) == (type(item).__name__, item)
            assert not await results.qsize()
            await jobs.put(None)
            with anyio.fail_after(20):
                await jobs.join()
            client.wait_for("^joined$")
            await jobs.shutdown()
            error = "ShutDown" if _version(python) >= HAS_SHUTDOWN else "Empty"
            client.wait_for(f"^(_queue|queue).{error}: .*shut down")
            assert client.end() == 0


@pytest.mark.parametrize("kind", ["queue", "joinable"])
async def test_our_client_at_a_stock_host(python: str, transport: Any, kind: str, socket_path: str):
    """All of a queue's life, up to the sentinel."""
    items = [17, "words", b"x" * 100_000, {"a": [1.5, None]}]
    with stock(python, "host", socket_path, kind) as host:
        host.wait_for("^listening$")
        async with aiomanager.connect(
            socket_path, KEY, transport=transport, wait_slice=0.05
        ) as manager:
            jobs: Any = manager.queue("jobs")
            with pytest.raises(QueueEmpty):
                await jobs.get(timeout=0.1)
            await jobs.put(items[0])
            assert await jobs.get(timeout=20) == items[0]
            await jobs.task_done()
            await jobs.put_many([*items, None])
            assert [item async for item in jobs] == items
            with anyio.fail_after(20):
                await jobs.join()


async def test_their_client_and_ours_at_a_stock_host(
    python: str, transport: Any, socket_path: str, tmp_path: Path, parcel: Any
):
    """Objects of classes that all of them know arrive as such in both directions."""
    with stock(python, "host", socket_path, "queue", knows=tmp_path) as host:
        host.wait_for("^listening$")
        with stock(python, "client", socket_path, knows=tmp_path) as client:
            async with aiomanager.connect(
                socket_path, KEY, transport=transport, wait_slice=0.05
            ) as manager:
                await manager.queue("jobs").put_many([parcel, "words", None])
                results: Any = manager.queue("results")
                assert await results.get(timeout=20) == ("Parcel", parcel)
                assert await results.get(timeout=20) == ("str", "words")
                client.wait_for("^joined$")


async def test_an_object_that_a_stock_host_does_not_know(
    python: str, transport: Any, socket_path: str, parcel: Any
):
    """It refuses it, and the queue goes on."""
    with stock(python, "host", socket_path, "queue") as host:
        host.wait_for("^listening$")
        async with aiomanager.connect(socket_path, KEY, transport=transport) as manager:
            jobs: Any = manager.queue("jobs")
            with pytest.raises(RemoteError, match="parcels"):
                await jobs.put(parcel)
            await jobs.put("words")
            assert await jobs.get(timeout=20) == "words"


async def test_shutdown_of_a_stock_host_s_queue(python: str, transport: Any, socket_path: str):
    """Possible where its Python has it, whether ours has it or not."""
    with stock(python, "host", socket_path, "queue") as host:
        host.wait_for("^listening$")
        async with aiomanager.connect(socket_path, KEY, transport=transport) as manager:
            jobs: Any = manager.queue("jobs")
            if _version(python) < HAS_SHUTDOWN:
                with pytest.raises(ConfigurationError, match="put a sentinel"):
                    await jobs.shutdown()
                return
            await jobs.put("last")
            await jobs.shutdown()
            assert await jobs.get(timeout=20) == "last"
            with pytest.raises(QueueShutDown):
                await jobs.get()
            with pytest.raises(QueueShutDown):
                await jobs.put("more")


async def test_items_between_old_and_new_clients_at_our_host(socket_path: str):
    """What one of ours puts, in the newest form, one of an old Python gets, and the other way;
    where that form says what an old one cannot, it is said in another way."""
    old = [python for python in pythons.OLDER if python in _INSTALLED]
    if not old:
        pytest.skip("no older Python is installed")
    items: list[Any] = [
        bytearray(b"x" * 10),
        {"a": bytearray(b"y" * 100_000), "b": ["\x96", b"\x96\x97\x98", bytearray()]},
        "z" * 100_000,
        b"\x96" * 70_000,
    ]
    async with aiomanager.host(
        {"jobs": 0, "results": 0}, address=socket_path, authkey=KEY
    ) as manager:
        jobs: Any = manager.queue("jobs")
        results: Any = manager.queue("results")
        for python in old:
            with stock(python, "client", socket_path) as client:
                await jobs.put_many([*items, None])
                for item in items:
                    assert await results.get(timeout=20) == (type(item).__name__, item)
                client.wait_for("^joined$")


_PYTHON_2 = """
import sys
from multiprocessing.managers import BaseManager
class Manager(BaseManager): pass
Manager.register("jobs", callable=dict)
manager = Manager(sys.argv[2], sys.argv[3])
if sys.argv[1] == "host":
    server = manager.get_server()
    print("listening")
    sys.stdout.flush()
    server.serve_forever()
try:
    manager.connect()
except Exception as exc:
    print(" ".join(str(exc).split()))
"""


@pytest.fixture
def python_2(tmp_path: Path) -> Any:
    """Runs a program of Python 2."""
    path = pythons.installed(["2.7"]).get("2.7")
    if path is None:
        pytest.skip("Python 2.7 is not installed")
    script = tmp_path / "peer.py"
    script.write_text(_PYTHON_2)

    def run(*arguments: str) -> Program:
        return Program(script, *arguments, KEY.decode(), cwd=tmp_path, python=path)

    return run


async def test_a_client_of_python_2_is_told(python_2: Any, socket_path: str):
    """It hears why it cannot have anything, in a form that it reads."""
    async with aiomanager.host({"jobs": 0}, address=socket_path, authkey=KEY):
        with python_2("client", socket_path) as client:
            client.wait_for("a host of aiomanager needs clients with Python 3.4 or later")


async def test_a_host_of_python_2_is_named(python_2: Any, socket_path: str):
    """At once, and not as a failure of the first call."""
    with python_2("host", socket_path) as host:
        host.wait_for("^listening$")
        with pytest.raises(ConfigurationError, match="runs on Python 2"):
            async with aiomanager.connect(socket_path, KEY):
                pass
    Path(socket_path).unlink()


def _version(python: str) -> tuple[int, ...]:
    return tuple(map(int, python.split(".")))
