"""Contract: the folder of a private socket, wherever temporary files go, and the end of those that
killed hosts left."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import aiomanager
from aiomanager import ConfigurationError, QueueManager
from aiomanager._host import private_folder
from aiomanager._host.private_folder import PATH_LIMIT, PrivateFolder, sweep
from tests.support.hosts import KEY, script, serving, stock_queue

pytestmark = [
    pytest.mark.every_python,
    pytest.mark.skipif(sys.platform == "win32", reason="private addresses are ports there"),
]


@pytest.fixture
def temporary(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary files go, with nothing in it."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        monkeypatch.setenv("TMPDIR", folder)
        yield Path(folder)


@pytest.fixture
def far_away(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go, with a path too long for a socket."""
    folder = temporary / ("long" * 30)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def left_by_a_killed_host() -> Path:
    """The folder of a host that had no time to remove it."""
    code = """
from aiomanager._host.listener import Listener
listener = Listener(None)
print(listener.address, flush=True)
input()
"""
    with script(code) as host:
        assert host.stdout is not None
        path = Path(host.stdout.readline().strip())
        host.kill()
        host.wait()
    assert path.is_socket()
    return path.parent


# -- long paths -------------------------------------------------------------------------------


def test_a_host_where_temporary_files_have_long_paths(far_away: Path):
    """It is in another place, which is as private, and leaves nothing there."""
    with serving() as host:
        address = str(host.address)
        folder = Path(address).parent
        assert len(os.fsencode(address)) <= PATH_LIMIT
        assert folder.parent != far_away
        assert folder.stat().st_mode & 0o777 == 0o700
        assert stock_queue(host.address).empty()
    assert not folder.exists()
    with QueueManager(authkey=KEY, queues={"jobs": 0}) as manager:
        assert manager.get_queue("jobs").empty()


@pytest.mark.anyio
async def test_an_embedded_host_where_temporary_files_have_long_paths(far_away: Path):
    """The same, in its process."""
    async with aiomanager.host({"jobs": 0}) as manager:
        assert await manager.queue("jobs").empty()


def test_the_longest_path_that_will_do(temporary: Path, monkeypatch: pytest.MonkeyPatch):
    """Is used, and one that has a byte more is not."""
    room = PATH_LIMIT - private_folder._length(str(temporary)) - 1
    for length, fits in ((room, True), (room + 1, False)):
        base = temporary / ("x" * length)
        base.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(base))
        with serving() as host:
            assert str(host.address).startswith(str(base)) == fits


def test_no_place_for_a_folder(far_away: Path, monkeypatch: pytest.MonkeyPatch):
    """The error says what was tried, and what to do."""
    monkeypatch.setattr(private_folder, "_SHORT", ("/nowhere",))
    refusal = r"too long for a socket.*'/nowhere/.*TMPDIR.*give the host an address"
    with pytest.raises(ConfigurationError, match=refusal):
        QueueManager(authkey=KEY).get_server()


# -- sweeping ---------------------------------------------------------------------------------


@pytest.mark.parametrize("address", [None, ("127.0.0.1", 0), "path"])
def test_the_next_host_sweeps(temporary: Path, address: object, socket_path: str):
    """Wherever it listens, and it leaves what lives."""
    with serving() as living:
        dead = left_by_a_killed_host()
        assert dead.parent == temporary
        with serving(socket_path if address == "path" else address):  # type: ignore[arg-type]
            assert not dead.exists()
            assert stock_queue(living.address).empty()
    assert not list(temporary.iterdir())


@pytest.mark.anyio
async def test_an_embedded_host_that_is_killed(temporary: Path):
    """What it leaves is gone once there is another."""
    async with aiomanager.host({"jobs": 0}) as manager:
        dead = Path(manager.address.removeprefix("unix://")).parent
        assert manager.host_pid is not None
        os.kill(manager.host_pid, signal.SIGKILL)
    assert dead.exists()
    async with aiomanager.host({"jobs": 0}):
        assert not dead.exists()


def _open_to_others(folder: Path) -> None:
    folder.chmod(0o755)


def _with_something_else(folder: Path) -> None:
    (folder / "notes").write_text("mine")


def _with_a_file(folder: Path) -> None:
    (folder / "socket").unlink()
    (folder / "socket").write_text("mine")


def _with_a_listener(folder: Path) -> None:
    (folder / "socket").unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        listener.listen()
        sweep()


def _of_another_user(folder: Path) -> None:
    if os.geteuid():
        pytest.skip("only the superuser can give files away")
    os.chown(folder, 12345, -1)


def _of_another_machine(folder: Path) -> None:
    folder.rename(
        folder.with_name(folder.name.replace(private_folder._prefix(), "pymp-aiomanager-xxxxxx-"))
    )


def _of_another_program(folder: Path) -> None:
    folder.rename(folder.with_name("listener-" + folder.name))


def _connected_to(folder: Path) -> None:
    target = folder.with_name("target")
    folder.rename(target)
    folder.symlink_to(target)


@pytest.mark.parametrize(
    "changed",
    [
        _open_to_others,
        _with_something_else,
        _with_a_file,
        _with_a_listener,
        _of_another_user,
        _of_another_machine,
        _of_another_program,
        _connected_to,
    ],
)
def test_what_is_not_certainly_a_dead_hosts_stays(temporary: Path, changed: object):
    """One thing that is otherwise is enough."""
    folder = left_by_a_killed_host()
    assert callable(changed)
    changed(folder)
    before = sorted(temporary.rglob("*"))
    if changed is not _with_a_listener:  # which has swept
        sweep()
    assert sorted(temporary.rglob("*")) == before


def test_a_folder_without_a_socket(temporary: Path):
    """A host may be killed before it listens, or while it ends."""
    folder = PrivateFolder()
    assert list(temporary.iterdir())
    sweep()
    assert list(temporary.iterdir())
    os.close(folder._lock or 0)  # as the end of a process does it
    folder._lock = None
    sweep()
    assert not list(temporary.iterdir())


def test_hosts_that_start_at_once(temporary: Path):
    """Each sweeps, and none sweeps another's folder, not even one that is just made."""
    together = threading.Barrier(8)

    def start(_number: int) -> None:
        together.wait()
        for _ in range(40):
            with serving() as host:
                assert stock_queue(host.address).empty()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(start, range(8)))
    assert not list(temporary.iterdir())


def test_processes_that_start_at_once(temporary: Path):
    """The same, with locks of processes of their own."""
    code = """
import socket
from aiomanager._host.listener import Listener
for _ in range(150):
    listener = Listener(None)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(listener.address)
    listener.close()
"""
    for _ in range(3):
        left_by_a_killed_host()
    hosts = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(4)]
    assert [host.wait(60) for host in hosts] == [0] * 4
    assert list(temporary.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_leaves_the_folder_to_its_parent(temporary: Path):
    """It holds the lock, too, and does not count as the host."""
    folder = PrivateFolder()
    child = os.fork()
    if not child:
        folder.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert list(temporary.iterdir())
    folder.close()
    assert not list(temporary.iterdir())
