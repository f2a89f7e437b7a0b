"""Contract: how a host begins, and where it may listen."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import aiomanager
from aiomanager import ConfigurationError, QueueManager
from aiomanager._host.listener import Listener
from aiomanager._host.server import QueueServer
from tests.support.hosts import KEY, dial, is_gone, script, serving, stock_queue
from tests.support.waiting import wait_until_sync

pytestmark = pytest.mark.every_python

START_METHODS = multiprocessing.get_all_start_methods()


def set_in_host(name: str, value: str) -> None:
    """An initializer, which runs in the host's process."""
    os.environ[name] = value


class Host(QueueManager):
    """A host that shows its environment."""


Host.register("environment", lambda: os.environ, exposed=["get"])


# -- start ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", START_METHODS)
def test_start_under_every_method(method: str):
    """A child process serves until `shutdown`, and ends with code 0."""
    manager = QueueManager(authkey=KEY, queues={"jobs": 0}, ctx=method)
    manager.start()
    process: Any = manager._process
    assert stat.S_ISSOCK(Path(str(manager.address)).stat().st_mode)
    jobs = stock_queue(manager.address)
    jobs.put("an item")
    assert jobs.get() == "an item"
    manager.shutdown()
    assert process.exitcode == 0
    assert not Path(str(manager.address)).exists()


@pytest.mark.parametrize("method", START_METHODS)
def test_start_fails_in_the_parent(method: str, socket_path: str):
    """Where the address is taken, with the same error as anywhere."""
    with serving(socket_path):
        manager = QueueManager(socket_path, KEY, ctx=method)
        with pytest.raises(
            ConfigurationError, match=f"a live host listens on unix://{socket_path}"
        ):
            manager.start()
        with pytest.raises(multiprocessing.ProcessError):
            manager.start()
        assert stock_queue(socket_path).empty()


def test_start_and_shutdown_as_a_context():
    """As every manager."""
    with QueueManager(("127.0.0.1", 0), KEY, queues={"jobs": 0}) as manager:
        assert manager.get_queue("jobs").empty()
        address = manager.address
    with pytest.raises(ConnectionRefusedError):
        dial(address)


def test_an_initializer_runs_in_the_host():
    """As for every manager."""
    manager: Any = Host(authkey=KEY, ctx="fork")
    manager.start(set_in_host, ("OF_THE_HOST", "here"))
    with manager:
        assert manager.environment().get("OF_THE_HOST") == "here"
    assert "OF_THE_HOST" not in os.environ


def test_a_started_manager_does_not_serve_twice():
    """Nor does it become a server in this process."""
    with QueueManager(authkey=KEY) as manager:
        for wrong in (manager.start, manager.get_server, manager.serve_forever):
            with pytest.raises(multiprocessing.ProcessError):
                wrong()


_PARENT = """
import multiprocessing, os, signal, sys, time
from aiomanager import QueueManager
if __name__ == "__main__":
    manager = QueueManager(sys.argv[1], b"a key of the tests, long enough", ctx=sys.argv[2])
    manager.start()
    if sys.argv[3] == "siblings":
        # Children that were forked later hold the parent's end of every pipe.
        multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,)).start()
    print(manager._process.pid, flush=True)
    sys.stdin.read()
"""


@pytest.mark.may_leave("files", reason="the socket of the forkserver of a killed process")
@pytest.mark.parametrize("siblings", ["alone", "siblings"])
@pytest.mark.parametrize("method", START_METHODS)
def test_a_started_host_ends_with_a_parent_that_is_killed(
    method: str, siblings: str, socket_path: str, tmp_path: Path
):
    """Within seconds, and without its file, even if children of that parent live on."""
    program = tmp_path / "parent.py"
    program.write_text(_PARENT)
    code = f"import runpy; runpy.run_path({str(program)!r}, run_name='__main__')"
    with script(code, socket_path, method, siblings, start_new_session=True) as parent:
        assert parent.stdout is not None
        host = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        try:
            wait_until_sync(lambda: is_gone(host), timeout=5, description="the host ends")
        finally:
            os.killpg(parent.pid, signal.SIGKILL)
    assert not Path(socket_path).exists()


# -- addresses --------------------------------------------------------------------------------


def test_a_path_like_address(tmp_path_factory: pytest.TempPathFactory, socket_path: str):
    """A path may be a `Path`."""
    with QueueManager(Path(socket_path), KEY) as manager:
        assert manager.address == socket_path


def test_a_stale_socket_is_replaced(socket_path: str):
    """What a killed host left behind is in nobody's way."""
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(socket_path)
    assert Path(socket_path).exists()
    with serving(socket_path):
        assert stock_queue(socket_path).empty()


def test_hosts_that_start_at_once_on_a_stale_socket(socket_path: str):
    """One of them gets it, and the others hear why they do not; round after round."""
    together = threading.Barrier(4)

    def start(_number: int) -> QueueServer | str:
        manager = QueueManager(socket_path, KEY)
        together.wait()
        try:
            return manager.get_server()
        except ConfigurationError as exc:
            return str(exc)

    with ThreadPoolExecutor(4) as pool:
        for _ in range(25):
            with socket.socket(socket.AF_UNIX) as killed:
                killed.bind(socket_path)
            outcomes = list(pool.map(start, range(4)))
            refusals = [outcome for outcome in outcomes if isinstance(outcome, str)]
            (server,) = (outcome for outcome in outcomes if not isinstance(outcome, str))
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(socket_path)
            server.close()
            assert len(refusals) == 3
            assert all("a live host listens" in refusal for refusal in refusals)


def test_a_folder_that_somebody_keeps_locked(socket_path: str, monkeypatch: pytest.MonkeyPatch):
    """A host waits for others that start, not for ever for a program that is none."""
    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr("aiomanager._host.listener.FOLDER_WAIT", 0.1)
    folder = os.open(Path(socket_path).parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        with serving(socket_path):
            assert stock_queue(socket_path).empty()
    finally:
        os.close(folder)


def test_a_live_host_is_left_alone(socket_path: str):
    """A second one is refused, and the first goes on."""
    with serving(socket_path) as host:
        with pytest.raises(
            ConfigurationError, match=r"live host.*connect to it, or choose another"
        ):
            QueueManager(socket_path, KEY).get_server()
        jobs = stock_queue(host.address)
        jobs.put(1)
        assert jobs.get() == 1


def test_a_stopped_host_counts_as_live(socket_path: str):
    """One that does not answer just now may go on later."""
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(socket_path)
        busy.listen(1)
        with pytest.raises(ConfigurationError, match="live host"):
            QueueManager(socket_path, KEY).get_server()
    Path(socket_path).unlink()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_no_socket_is_not_touched(kind: str, tmp_path: Path):
    """The error says what is there."""
    path = tmp_path / "precious"
    path.write_text("data") if kind == "file" else path.mkdir()
    with pytest.raises(ConfigurationError, match=r"precious is there and is no socket"):
        QueueManager(str(path), KEY).get_server()
    assert path.exists()


@pytest.mark.parametrize(
    "address,message",
    [
        ("/no/such/folder/x", "cannot listen on unix:///no/such/folder/x: .*No such file"),
        ("/tmp/" + "x" * 200, "cannot listen on .*too long"),
        (("256.256.256.256", 0), r"cannot listen on tcp://256\.256\.256\.256:0"),
        (("127.0.0.1", 70_000), r"cannot listen on \('127.0.0.1', 70000\)"),
        (17, r"cannot listen on 17: give a \(host, port\) pair or a path"),
    ],
    ids=["folder", "long", "host", "port", "type"],
)
def test_addresses_that_cannot_be_listened_on(address: Any, message: str):
    """One error of ours for all of them."""
    with pytest.raises(ConfigurationError, match=message):
        QueueManager(address, KEY).get_server()


def test_a_port_that_is_taken():
    """The error says what to do."""
    refusal = pytest.raises(ConfigurationError, match=r"in use.*choose another port \(0: any\)")
    with serving(("127.0.0.1", 0)) as host, refusal:
        QueueManager(host.address, KEY).get_server()


@pytest.mark.skipif(not socket.has_ipv6, reason="this Python has no IPv6")
def test_ipv6():
    """Addresses with colons."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with serving(("::1", 0)) as host:
        address: Any = host.address
        with socket.create_connection(address) as sock:
            assert sock.recv(4)


def test_an_abstract_name(socket_path: str):
    """On Linux a socket may have a name that is in no file system."""
    if sys.platform != "linux":
        pytest.skip("only Linux has these")
    with serving("\0" + socket_path) as host:
        jobs = stock_queue(host.address)
        jobs.put(1)
        assert jobs.get() == 1


def test_only_the_owner_may_use_the_socket(socket_path: str):
    """Whatever the process's mask is, and the mask is as it was afterwards."""
    mask = os.umask(0)
    try:
        with serving(socket_path):
            assert stat.S_IMODE(Path(socket_path).stat().st_mode) == 0o600
            assert os.umask(0) == 0
    finally:
        os.umask(mask)


def test_hosts_that_start_at_once_leave_the_mask_of_their_process_alone():
    """It is the whole process's: what other threads make meanwhile has the mode that it would."""
    mask = os.umask(0o022)

    def start_some() -> list[int]:
        modes: list[int] = []
        for _ in range(100):
            listener = Listener(None)
            modes.append(stat.S_IMODE(Path(str(listener.address)).parent.stat().st_mode))
            listener.close()
        return modes

    try:
        with ThreadPoolExecutor(4) as pool:
            starts = [pool.submit(start_some) for _ in range(4)]
        assert {mode for start in starts for mode in start.result()} == {0o700}
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(mask)


def test_a_private_address_is_in_a_private_folder():
    """Nobody else can even see the socket."""
    with serving() as host:
        folder = Path(str(host.address)).parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_another_hosts_file_is_left_alone(socket_path: str):
    """A host whose file was taken away does not remove the one of its successor."""
    with serving(socket_path):
        Path(socket_path).unlink()
        successor = socket.socket(socket.AF_UNIX)
        successor.bind(socket_path)
    successor.close()
    assert Path(socket_path).exists()
    Path(socket_path).unlink()


def test_binding_to_other_machines_warns(caplog: pytest.LogCaptureFixture):
    """What the key protects against, and what not; nothing is said on loopback."""
    with caplog.at_level(logging.WARNING):
        QueueManager(("127.0.0.1", 0), KEY).get_server().close()
        assert not caplog.records
        QueueManager(("0.0.0.0", 0), KEY).get_server().close()
    assert "can be reached from other machines" in caplog.text
    assert "not encrypted" in caplog.text


# -- keys and other arguments -----------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments,message",
    [
        ({"authkey": b"short"}, "has 5 bytes.*16 or more.*aiomanager keygen.*allow_short_key"),
        ({"authkey": b""}, "authkey is empty; make a key with: aiomanager keygen"),
        ({"authkey": 17}, "authkey is int; give bytes or str"),
        ({"queues": {"": 0}}, "'' cannot name a queue"),
        ({"queues": {"shutdown": 0}}, "'shutdown' cannot name a queue.*another use"),
        ({"queues": {7: 0}}, "7 cannot name a queue"),
        ({"queues": ["jobs"]}, r"queues is \['jobs'\]; give a mapping of names to sizes"),
        ({"queues": {"jobs": None}}, "the maxsize of 'jobs' is None; give an int"),
        ({"queues": {"environment": 0}}, "'environment' is registered already"),
        ({"lease_timeout": 0}, "lease_timeout is 0; give a number above 0"),
        ({"handshake_timeout": "x"}, "handshake_timeout is 'x'; give a number above 0"),
        ({"dead_after": -1}, "dead_after is -1; give a number above 0"),
        ({"message_limit": 0}, "message_limit is 0; give a number above 0"),
        ({"busy_poll": -1}, "busy_poll is -1; give seconds from 0 on"),
        ({"busy_poll": "x"}, "busy_poll is 'x'; give seconds from 0 on"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_arguments_that_cannot_work(arguments: dict[str, Any], message: str):
    """Are refused before anything is started."""
    with pytest.raises(ConfigurationError, match=message):
        Host(**{"authkey": KEY, **arguments})


def test_where_the_key_comes_from(monkeypatch: pytest.MonkeyPatch):
    """The argument, else the environment, else this process's own."""
    assert QueueManager(authkey="ä key with umlauts")._authkey == "ä key with umlauts".encode()
    own = bytes(multiprocessing.current_process().authkey)
    assert QueueManager()._authkey == own
    monkeypatch.setenv("AIOMANAGER_AUTHKEY", "a key of the environment")
    assert QueueManager()._authkey == b"a key of the environment"
    assert QueueManager(authkey=KEY)._authkey == KEY
    assert QueueManager(authkey=b"short", allow_short_key=True)._authkey == b"short"
    for value, message in (("", r"\$AIOMANAGER_AUTHKEY is empty"), ("short", "has 5 bytes")):
        monkeypatch.setenv("AIOMANAGER_AUTHKEY", value)
        with pytest.raises(ConfigurationError, match=message):
            QueueManager()


def test_get_queue_of_an_unknown_name():
    """The error names what there is."""
    refusal = pytest.raises(ConfigurationError, match=r"no queue 'jbos' here; there is: \['jobs'\]")
    with QueueManager(authkey=KEY, queues={"jobs": 0}) as manager, refusal:
        manager.get_queue("jbos")


def test_a_client_that_connects_is_a_manager_too():
    """`connect` and `get_queue` on the class of the host."""
    with QueueManager(authkey=KEY, queues={"jobs": 0}) as manager:
        client = QueueManager(manager.address, KEY, queues={"jobs": 0})
        client.connect()
        client.get_queue("jobs").put(1)
        assert manager.get_queue("jobs").get() == 1


def test_the_host_runs_on_the_standard_library_alone():
    """Nothing else can be imported in this interpreter."""
    code = """
import importlib, sys, types
package = types.ModuleType("aiomanager")
package.__path__ = [sys.argv[1]]
sys.modules["aiomanager"] = package
importlib.import_module("aiomanager._host.child")
"""
    folder = str(Path(aiomanager.__file__).parent)
    subprocess.run([sys.executable, "-I", "-S", "-c", code, folder], check=True, timeout=30)
