"""Event loops, and the two detectors that watch every test: for leaks and for blocking calls.

`@pytest.mark.anyio` runs a test on asyncio, asyncio with uvloop, and trio. `@pytest.mark.asyncio`
is for what only asyncio has (`task.cancel`, `wait_for`, `asyncio.timeout`): asyncio and uvloop.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib.util
import itertools
import multiprocessing.connection
import multiprocessing.util
import shutil
import tempfile
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from blockbuster import BlockBuster, BlockBusterFunction

from tests.support import leaks
from tests.support.faults import Relay, RestartableHost, relay

hypothesis.settings.register_profile("tests", deadline=None, print_blob=True)
hypothesis.settings.load_profile("tests")

HAS_UVLOOP = importlib.util.find_spec("uvloop") is not None

_failed = pytest.StashKey[bool]()


def _backends() -> Iterator[Any]:
    # Debug mode catches calls into the loop from a thread that is not the loop's.
    yield pytest.param(("asyncio", {"debug": True}), id="asyncio")
    if HAS_UVLOOP:
        yield pytest.param(("asyncio", {"use_uvloop": True}), id="asyncio+uvloop")
    yield pytest.param(("trio", {}), id="trio")


@pytest.fixture(scope="module", params=_backends())
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """The event loop that a test marked `anyio`, and its async fixtures, run on."""
    return request.param


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run what is marked `asyncio` on these loops."""
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
        "asyncio": asyncio.new_event_loop
    }
    if HAS_UVLOOP:
        import uvloop

        factories["uvloop"] = uvloop.new_event_loop
    return factories


@pytest.fixture(scope="session", autouse=True)
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder for temporary files of this process and its descendants.

    Short, since the path of a socket has room for about a hundred characters, and ours alone, so
    that whatever stays in it was left by a test.
    """
    tmp_path_factory.getbasetemp()  # stays where it is, outside
    folder = Path(tempfile.mkdtemp(prefix="am-")).resolve()
    # At exit, and after multiprocessing (-100) has removed its own folder in there.
    multiprocessing.util.Finalize(
        None, shutil.rmtree, (folder,), {"ignore_errors": True}, exitpriority=-200
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        patch.setenv("TMPDIR", str(folder))
        patch.setenv(leaks.SESSION_VARIABLE, uuid.uuid4().hex)
        patch.delenv("AIOMANAGER_AUTHKEY", raising=False)
        yield folder


@pytest.fixture
def socket_path(scratch: Path, _socket_numbers: Iterator[int]) -> str:
    """A short path at which there is nothing yet, for a Unix socket."""
    return str(scratch / f"{next(_socket_numbers)}.sock")


@pytest.fixture(scope="session")
def _socket_numbers() -> Iterator[int]:
    return itertools.count()


@pytest.fixture
def host(socket_path: str) -> Iterator[RestartableHost]:
    """A host of ours in a process of its own, which can be killed and started again. Its queue
    `jobs` has no bound, and `small` has room for one item."""
    with RestartableHost(socket_path) as running:
        yield running


@pytest.fixture
def wire(host: RestartableHost) -> Iterator[Relay]:
    """A wire to that host, which can be made to misbehave."""
    with relay(f"{host.path}.wire", host.path) as between:
        yield between


@pytest.fixture(params=["stream", "thread"])
def transport(request: pytest.FixtureRequest) -> Any:
    """Each transport by which a client of ours talks to a host."""
    return request.param


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note for the fixtures that the test has failed."""
    report = yield
    if report.failed:
        item.stash[_failed] = True
    return report


@pytest.fixture(scope="session")
def _opened_once() -> None:
    """Let uvloop open the pipe that it keeps for the life of the process."""
    if HAS_UVLOOP:
        import uvloop

        uvloop.new_event_loop().close()


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest, scratch: Path, _opened_once: None) -> Iterator[None]:
    """Fail a test that leaves threads, processes, descriptors, files or asyncio tasks behind.

    What fixtures of a wider scope hold is there before. `@pytest.mark.may_leave` names exceptions.
    """
    take = functools.partial(leaks.snapshot, scratch)
    before = take()
    permitted = {kind for mark in request.node.iter_markers("may_leave") for kind in mark.args}
    with contextlib.ExitStack() as stack:
        tasks: list[str] = []
        if "tasks" not in permitted:  # else event loops end as they do in programs
            tasks = stack.enter_context(leaks.unfinished_tasks(leaks.GRACE))
        yield
    if request.node.stash.get(_failed, False):
        # One error is enough: what a failed test leaves is no news.
        leaks.kill(leaks.new_since(before, take).get("processes", {}))
        return
    take_watched = functools.partial(_without, permitted, take)
    leaked = leaks.leaked_since(before, take_watched, leaks.GRACE)
    leaks.kill(leaked.get("processes", {}))
    lines = [f"{kind}: {', '.join(found.values())}" for kind, found in leaked.items()]
    if tasks:
        lines.append(f"tasks: {', '.join(tasks)}")
    if lines:
        pytest.fail("left behind:\n  " + "\n  ".join(lines), pytrace=False)


def _without(kinds: set[str], take: Callable[[], leaks.Snapshot]) -> leaks.Snapshot:
    return {kind: found for kind, found in take().items() if kind not in kinds}


@pytest.fixture(scope="session")
def _block_buster() -> BlockBuster:
    detector = BlockBuster("aiomanager")
    # A proxy of the standard library blocks in these two, which call the system directly.
    for method in ("_recv", "_send"):
        detector.functions[f"Connection.{method}"] = BlockBusterFunction(
            multiprocessing.connection.Connection, method, scanned_modules="aiomanager"
        )
    # Whether there is a socket at a path is looked up once a connection was refused.
    detector.functions["os.stat"].can_block_in("aiomanager/_transport/errors.py", "unreachable")
    return detector


@pytest.fixture(autouse=True)
def no_blocking_calls(request: pytest.FixtureRequest, _block_buster: BlockBuster) -> Iterator[None]:
    """Make a blocking call raise `BlockingError` if it comes from our code, on asyncio's loop.

    `@pytest.mark.may_block(reason=...)` switches it off.
    """
    with contextlib.ExitStack() as stack:
        if request.node.get_closest_marker("may_block") is None:
            stack.callback(_block_buster.deactivate)
            _block_buster.activate()
        yield
