"""Contract: what watches every test finds a leak of each kind, and each blocking call of ours.

The tests in leaking.py run in a session of their own.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest
from blockbuster import BlockingError

import aiomanager

PROJECT = Path(__file__).parents[2]


@pytest.mark.skipif(sys.platform != "linux", reason="descriptors and waitid are looked at as there")
def test_each_kind_of_leak_fails_its_test(tmp_path):
    """The report names what was left, by kind, and a failed test reports its failure alone."""
    command = [sys.executable, "-m", "pytest", "tests/support/leaking.py", "--color=no"]
    # A resource warning about a deliberate leak would be an error of its own.
    command += ["-W", "ignore::ResourceWarning", "-p", "no:cacheprovider"]
    command += ["--basetemp", str(tmp_path / "inner")]
    run = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    report = run.stdout
    for test, kind in {
        "test_thread": "threads: 'forgotten' (daemon)",
        "test_process": "processes: ",
        "test_orphan": "processes: ",
        "test_zombie": "processes: ",
        "test_descriptor": "descriptors: ",
        "test_socket_file": "files: ",
        "test_task_of_anyio[asyncio]": "tasks: ",
        "test_task_of_anyio[asyncio+uvloop]": "tasks: ",
        "test_task_of_asyncio[asyncio]": "tasks: ",
        "test_task_of_asyncio[uvloop]": "tasks: ",
    }.items():
        _, found, rest = report.partition(f" ERROR at teardown of {test} ")
        assert found, report
        assert kind in rest.partition("\n____")[0], report
    assert "a zombie" in report
    assert "ERROR at teardown of test_permitted" not in report
    assert "ERROR at teardown of test_failing" not in report
    assert "1 failed" in report
    assert "10 errors" in report


def code_of_ours(source: str):
    """Return the coroutine function `run` of a module that seems to be one of aiomanager's."""
    namespace: dict[str, object] = {}
    path = Path(aiomanager.__path__[0]) / "_imagined.py"
    exec(compile(source, path, "exec"), namespace)
    return namespace["run"]


BLOCKING = {
    "sleep": "import time\nasync def run(): time.sleep(0)",
    "queue": "import queue\nasync def run(): queue.Queue().get(timeout=0.01)",
    "pipe": (
        "import multiprocessing\n"
        "async def run():\n"
        "    reader, writer = multiprocessing.Pipe()\n"
        "    with reader, writer:\n"
        "        writer.send(1)\n"
        "        reader.recv()\n"
    ),
    "socket": (
        "import socket\n"
        "async def run():\n"
        "    reader, writer = socket.socketpair()\n"
        "    with reader, writer:\n"
        "        writer.sendall(b'x')\n"
    ),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("name", BLOCKING)
async def test_blocking_call_of_ours_is_an_error(name):
    """Sleeping, waiting for a thread, and talking to a process or a socket are noticed."""
    with pytest.raises(BlockingError):
        await code_of_ours(BLOCKING[name])()


@pytest.mark.asyncio
@pytest.mark.may_block(reason="shows the switch")
async def test_blocking_call_may_be_permitted():
    """The marker switches the detector off."""
    await code_of_ours(BLOCKING["sleep"])()


@pytest.mark.asyncio
async def test_blocking_call_of_a_test_is_its_own_affair():
    """Only calls that come through our code count."""
    time.sleep(0)  # noqa: ASYNC251


@pytest.mark.anyio
async def test_blocking_call_on_a_worker_thread_is_welcome():
    """That is where they belong."""
    source = "import anyio, time\nasync def run(): await anyio.to_thread.run_sync(time.sleep, 0)"
    await code_of_ours(source)()


@pytest.mark.anyio
async def test_anyio_tests_run_on_every_loop(anyio_backend_name, request):
    """The name of the test says which loop it runs on."""
    parameter = request.node.callspec.id
    assert anyio_backend_name == parameter.partition("+")[0]
    if anyio_backend_name == "asyncio":
        assert type(asyncio.get_running_loop()).__module__.startswith(
            "uvloop" if parameter == "asyncio+uvloop" else "asyncio"
        )
    await anyio.lowlevel.checkpoint()


@pytest.mark.asyncio
async def test_asyncio_tests_run_on_both_loops(request):
    """Here too."""
    library = type(asyncio.get_running_loop()).__module__.partition(".")[0]
    assert library == request.node.callspec.id
