"""Contract: the host process of `host()`, which belongs to its owner and ends with it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.managers import BaseManager
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest

import aiomanager
from aiomanager import ConfigurationError
from tests.conftest import HAS_UVLOOP
from tests.support.hosts import is_gone
from tests.support.waiting import wait_until_sync

# What a user might write: no function main, no guard.
OWNER = """
import asyncio, os, sys
import aiomanager

async def use(queue):
    await queue.put("hello")
    print(await queue.get(), flush=True)
    await queue.task_done()

async def main():
    async with aiomanager.host({{"jobs": 0}}) as manager:
        print(manager.host_pid, flush=True)
        {body}

asyncio.run(main())
"""
WAITS = "await asyncio.Event().wait()"


Program = subprocess.Popen[str]


@contextmanager
def program(source: str, folder: Path, *options: str, **settings: object) -> Iterator[Program]:
    """A script in a process of its own, killed at the end."""
    path = folder / "owner.py"
    path.write_text(textwrap.dedent(source))
    process: Program = subprocess.Popen(  # type: ignore[call-overload]
        [sys.executable, *options, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **settings,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def first_line(process: Program) -> str:
    """What the program says first."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


# -- in this process --------------------------------------------------------------------------


@pytest.mark.anyio
async def test_hosts_until_the_end_of_the_block(transport):
    """Queues of their sizes, in a process that is gone afterwards, at an address that only its
    owner can open, with a key that nobody knows."""
    async with aiomanager.host({"jobs": 2, "results": 0}, transport=transport) as manager:
        jobs = manager.queue("jobs")
        assert await jobs.maxsize() == 2
        assert await manager.queue("results").maxsize() == 0
        await jobs.put({"a": 1})
        assert await jobs.get() == {"a": 1}
        assert manager.host_pid is not None
        assert len(manager.authkey) >= 32
        path = Path(manager.address.removeprefix("unix://"))
        if sys.platform != "win32":
            assert path.stat().st_mode & 0o077 == 0
            assert path.parent.stat().st_mode & 0o077 == 0
        with pytest.raises(ConfigurationError, match="'others'"):
            await manager.queue("others").put(1)
    assert is_gone(manager.host_pid)
    assert not path.exists()


@pytest.mark.anyio
async def test_others_connect_with_address_and_key():
    """What the manager tells is all that they need; a wrong key is refused."""
    async with (
        aiomanager.host({"jobs": 0}, address=("127.0.0.1", 0)) as manager,
        aiomanager.connect(manager.address, manager.authkey) as other,
    ):
        assert manager.address.startswith("tcp://127.0.0.1:")
        await other.queue("jobs").put("there")
        assert await manager.queue("jobs").get() == "there"
        with pytest.raises(aiomanager.AuthenticationError):
            async with aiomanager.connect(manager.address, b"no key of this host"):
                pass


@pytest.mark.anyio
async def test_a_script_of_the_standard_library_connects():
    """It registers the name of a queue and calls it, as at any manager."""

    class Client(BaseManager):
        pass

    Client.register("jobs")

    def work(address: tuple[str, int], key: bytes) -> object:
        client = Client(address, key)
        client.connect()
        jobs = client.jobs()  # type: ignore[attr-defined]
        jobs.put("from a script")
        return jobs.get(True, 10)

    async with aiomanager.host({"jobs": 0}, address=("127.0.0.1", 0)) as manager:
        await manager.queue("jobs").put("for a script")
        address = ("127.0.0.1", int(manager.address.rpartition(":")[2]))
        assert await anyio.to_thread.run_sync(work, address, manager.authkey) == "for a script"
        assert await manager.queue("jobs").get() == "from a script"


@pytest.mark.anyio
async def test_two_hosts_do_not_meet():
    """Each has its own queues, address and key."""
    async with aiomanager.host({"jobs": 0}) as one, aiomanager.host({"jobs": 0}) as two:
        assert one.address != two.address
        assert one.authkey != two.authkey
        await one.queue("jobs").put(1)
        assert await two.queue("jobs").empty()


@pytest.mark.anyio
async def test_key_is_nowhere_to_be_read():
    """Neither on the host's command line nor in its environment, where other users of the
    machine, and what the host might start, could see it."""
    key = "a secret that no one must see"
    async with aiomanager.host({"jobs": 0}, authkey=key) as manager:
        process = psutil.Process(manager.host_pid)
        told = " ".join([*process.cmdline(), *process.environ(), *process.environ().values()])
        assert manager.authkey == key.encode()
        assert key not in told


@pytest.mark.anyio
async def test_inherited_key_is_used_and_may_be_long(monkeypatch):
    """A key given is the key, of any bytes; `$AIOMANAGER_AUTHKEY` does not matter to a host."""
    monkeypatch.setenv("AIOMANAGER_AUTHKEY", "the key for other hosts")
    async with aiomanager.host({"jobs": 0}) as manager:
        assert manager.authkey != b"the key for other hosts"
    key = bytes(range(256)) * 4
    async with (
        aiomanager.host({"jobs": 0}, authkey=key) as manager,
        aiomanager.connect(manager.address, key) as other,
    ):
        assert await other.queue("jobs").empty()


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_address_in_use_is_a_clear_error(kind, socket_path):
    """It says which address, and leaves nothing behind."""
    family = socket.AF_INET if kind == "tcp" else socket.AF_UNIX
    with socket.socket(family) as listener:
        listener.bind(("127.0.0.1", 0) if kind == "tcp" else socket_path)
        listener.listen()
        address = listener.getsockname()
        name = str(address[1]) if kind == "tcp" else socket_path
        with pytest.raises(ConfigurationError, match=name) as caught:
            async with aiomanager.host({"jobs": 0}, address=address):
                pass
        assert "use" in str(caught.value) or "already" in str(caught.value)
    Path(socket_path).unlink(missing_ok=True)


BAD_ARGUMENTS: dict[str, dict[str, Any]] = {
    "16 or more": {"authkey": "short"},
    "empty": {"authkey": b""},
    "cannot listen on memory": {"address": "memory://"},
    "is no address": {"address": "http://localhost"},
    "cannot name a queue": {"queues": {"two\nlines": 0}},
    "give an int": {"queues": {"jobs": "many"}},
    "transport is": {"transport": "fast"},
    "lease_timeout": {"lease_timeout": -1.0},
}


@pytest.mark.anyio
@pytest.mark.parametrize("match", BAD_ARGUMENTS)
async def test_bad_arguments(match):
    """Each is refused with what to do instead."""
    with pytest.raises(ConfigurationError, match=match):
        arguments = {"queues": {"jobs": 0}, **BAD_ARGUMENTS[match]}
        async with aiomanager.host(**arguments):
            pass


@pytest.mark.anyio
@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0])
async def test_cancelled_while_starting_it_leaves_nothing(share, starting_time):
    """Wherever the cancellation finds it, the child is gone; the leak detector looks for more."""
    with anyio.move_on_after(share * starting_time):
        async with aiomanager.host({"jobs": 0}):
            await anyio.sleep_forever()


@pytest.fixture(scope="module")
def starting_time(anyio_backend) -> float:
    """Seconds that a host takes to start here."""

    async def start() -> float:
        began = anyio.current_time()
        async with aiomanager.host({"jobs": 0}):
            return anyio.current_time() - began

    name, options = anyio_backend
    return anyio.run(start, backend=name, backend_options=options)


BACKENDS = ["asyncio", "trio"]


@pytest.mark.parametrize("backend", [*BACKENDS, *(["uvloop"] if HAS_UVLOOP else [])])
def test_works_in_another_thread(backend):
    """An event loop in a thread that is not the main one can have a host too."""
    got: list[object] = []

    async def main() -> None:
        async with aiomanager.host({"jobs": 0}) as manager:
            await manager.queue("jobs").put("from a thread")
            got.append(await manager.queue("jobs").get())

    def run() -> None:
        if backend == "uvloop":
            anyio.run(main, backend="asyncio", backend_options={"use_uvloop": True})
        else:
            anyio.run(main, backend=backend)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    assert got == ["from a thread"]


# -- in programs of their own -----------------------------------------------------------------


@pytest.mark.every_python
@pytest.mark.parametrize("from_stdin", [False, True], ids=["file", "stdin"])
def test_needs_no_guard(from_stdin, tmp_path):
    """A script without `if __name__ == "__main__"` runs once, also where it is no file, as in a
    notebook; nothing but its own output is seen."""
    source = OWNER.format(body="await use(manager.queue('jobs'))")
    path = tmp_path / "script.py"
    path.write_text(source)
    run = subprocess.run(
        [sys.executable, "-" if from_stdin else str(path)],
        input=source if from_stdin else "",
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (run.stderr, run.returncode) == ("", 0)
    pid, hello = run.stdout.split()
    assert hello == "hello"
    assert is_gone(int(pid))


@pytest.mark.every_python
def test_files_of_the_program_do_not_stand_in_for_modules(tmp_path):
    """The host imports the standard library's modules and ours, whatever lies in the folder that
    the program runs in or stands in."""
    names = ["random", "json", "selectors", "socket", "queue", "logging", "secrets", "pickle"]
    shadows = tmp_path / "shadows"
    shadows.mkdir()
    for name in [*names, "sitecustomize", "aiomanager"]:
        (shadows / f"{name}.py").write_text("raise SystemExit(f'imported {__file__}')")
    # -P: for the program itself they do not stand in either.
    with program(OWNER.format(body="pass"), shadows, "-P", cwd=shadows) as owner:
        out, errors = owner.communicate(timeout=30)
    assert (errors, owner.returncode) == ("", 0)
    assert out.strip().isdigit()


@pytest.mark.every_python
def test_ends_with_an_owner_that_is_killed(tmp_path):
    """At once, by the end of the pipe; its socket goes with it."""
    source = OWNER.format(body=f"print(manager.address, flush=True); {WAITS}")
    with program(source, tmp_path) as owner:
        pid, address = int(first_line(owner)), first_line(owner)
        owner.kill()
        owner.wait()
        wait_until_sync(lambda: is_gone(pid), timeout=5, description="the host has ended")
    assert not Path(address.removeprefix("unix://")).exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_ends_with_an_owner_that_had_forked(tmp_path):
    """A child of the owner which lives on holds the pipe open; the host ends all the same."""
    fork = """
        child = os.fork()
        if not child:
            sys.stdin.read()
            os._exit(0)
        print(child, flush=True)
        await asyncio.Event().wait()
    """
    body = textwrap.indent(textwrap.dedent(fork), " " * 8).strip()
    source = OWNER.format(body=body)
    with program(source, tmp_path, "-W", "ignore::DeprecationWarning") as owner:
        pid, child = int(first_line(owner)), int(first_line(owner))
        owner.kill()
        owner.wait()
        wait_until_sync(lambda: is_gone(pid), timeout=10, description="the host has ended")
        assert not is_gone(child)
    wait_until_sync(lambda: is_gone(child), description="the child has ended with its input")


@pytest.mark.every_python
def test_ctrl_c_in_the_owner(tmp_path):
    """It reaches all processes of the group: the owner decides, has its host until the end of the
    block, and the host says nothing."""
    body = f"""
        try:
            {WAITS}
        finally:
            await use(manager.queue("jobs"))
    """
    source = OWNER.format(body=textwrap.indent(textwrap.dedent(body), " " * 8).strip())
    with program(source, tmp_path, start_new_session=True) as owner:
        pid = int(first_line(owner))
        os.killpg(owner.pid, signal.SIGINT)
        out, errors = owner.communicate(timeout=20)
        assert out == "hello\n"
        assert errors.rstrip().endswith("KeyboardInterrupt")
        assert "aiomanager._host.child" not in errors
        assert is_gone(pid)


@pytest.mark.every_python
@pytest.mark.parametrize("waiting", [False, True], ids=["idle", "a get is pending"])
def test_exit_within_the_block(waiting, tmp_path):
    """`sys.exit` in the block ends the program and its host, also while a task waits."""
    get = "getter = asyncio.create_task(manager.queue('results').get()); await asyncio.sleep(0)"
    source = OWNER.replace('"jobs": 0', '"jobs": 0, "results": 0')
    source = source.format(body=f"{get if waiting else 'pass'}; sys.exit(3)")
    with program(source, tmp_path) as owner:
        out, errors = owner.communicate(timeout=20)
        assert owner.returncode == 3, errors
        assert is_gone(int(out))
