"""Contract: the process that `host()` starts, and how it ends with its owner."""

from __future__ import annotations

import base64
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.hosts import KEY, is_gone, script, serving, stock_queue
from tests.support.waiting import wait_until_sync

pytestmark = pytest.mark.every_python

COMMAND = [sys.executable, "-m", "aiomanager._host.child"]


@contextlib.contextmanager
def started(**settings: Any) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """An embedded host, and what it answered."""
    told = {"address": None, "authkey": base64.b64encode(KEY).decode(), "queues": {"jobs": 0}}
    process = subprocess.Popen(
        COMMAND,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps({**told, **settings}) + "\n")
            process.stdin.flush()
            yield process, json.loads(process.stdout.readline())
        finally:
            process.terminate()
            process.wait(10)


def finished(process: subprocess.Popen[str]) -> None:
    """See that it ends soon, by itself, without a word."""
    _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (0, "")


@pytest.mark.parametrize("address", ["private", "unix", "tcp"])
def test_it_serves_until_its_owner_closes_the_pipe(address: str, socket_path: str):
    """On any kind of address, and leaves no file."""
    wanted: Any = {"private": None, "unix": socket_path, "tcp": ["127.0.0.1", 0]}[address]
    with started(address=wanted) as (process, answer):
        at = answer["address"]
        at = tuple(at) if isinstance(at, list) else at
        jobs = stock_queue(at)
        jobs.put("an item")
        assert jobs.get() == "an item"
        jobs.task_done()
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
        finished(process)
    assert isinstance(at, tuple) or not Path(at).exists()


def test_sigterm_ends_it(socket_path: str):
    """As gracefully."""
    with started(address=socket_path) as (process, _):
        process.terminate()
        finished(process)
    assert not Path(socket_path).exists()


def test_an_interrupt_is_the_owners(socket_path: str):
    """Ctrl-C reaches the whole group; the host goes on until its owner has decided."""
    with started(address=socket_path) as (process, _):
        process.send_signal(signal.SIGINT)
        jobs = stock_queue(socket_path)
        jobs.put(1)
        assert jobs.get() == 1
        assert process.poll() is None


@pytest.mark.parametrize(
    "wrong,message",
    [
        ({"address": "/no/such/folder/x"}, "cannot listen on unix:///no/such/folder/x"),
        ({"queues": {"two\nlines": 0}}, "cannot name a queue"),
        ({"lease_timeout": -1}, "lease_timeout is -1"),
        ({"no_such_setting": 1}, "no_such_setting"),
        ({"authkey": "x"}, "base64"),
    ],
    ids=["address", "queues", "lease", "unknown", "key"],
)
def test_settings_that_cannot_work(wrong: dict[str, Any], message: str):
    """The owner is told, and the process ends."""
    with started(**wrong) as (process, answer):
        assert message in answer["error"]
        finished(process)


def test_an_address_that_is_taken(socket_path: str):
    """The owner is told what anybody is told."""
    with serving(socket_path), started(address=socket_path) as (process, answer):
        assert "a live host listens" in answer["error"]
        finished(process)
        assert stock_queue(socket_path).empty()


def test_the_key_stands_nowhere(socket_path: str):
    """Neither on the command line nor in the environment, where other users could read it."""
    if sys.platform != "linux":
        pytest.skip("only Linux shows both as files")
    with started(address=socket_path) as (process, _):
        for name in ("cmdline", "environ"):
            shown = Path(f"/proc/{process.pid}/{name}").read_bytes()
            assert KEY not in shown
            assert base64.b64encode(KEY) not in shown


_OWNER = """
import base64, json, os, subprocess, sys
key = b"a key of the tests, long enough"
host = subprocess.Popen(
    [sys.executable, "-m", "aiomanager._host.child"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
)
settings = {"address": sys.argv[1], "authkey": base64.b64encode(key).decode(), "queues": {}}
host.stdin.write(json.dumps(settings).encode() + b"\\n")
host.stdin.flush()
if sys.argv[2] != "at once":
    host.stdout.readline()
if sys.argv[2] == "with a child" and not os.fork():
    # Holds the owner's end of the pipe for as long as it lives.
    os.close(1)
    sys.stdin.read()
    os._exit(0)
print(host.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("how", ["ready", "with a child", "at once"])
def test_it_ends_with_an_owner_that_is_killed(how: str, socket_path: str):
    """Also where a child of the owner holds the pipe open, and where the owner was killed before
    it had read the answer."""
    with script(_OWNER, socket_path, how) as owner:
        assert owner.stdout is not None
        host = int(owner.stdout.readline())
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        wait_until_sync(lambda: is_gone(host), timeout=5, description="the host ends")
    assert not Path(socket_path).exists()


def test_an_owner_that_says_nothing(socket_path: str):
    """Its end is the end of the process, before there is a host."""
    with subprocess.Popen(
        COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        output, errors = process.communicate(timeout=20)
    assert errors == ""
    assert "error" in json.loads(output)
    assert not Path(socket_path).exists()
