"""Tests that leave something behind, one for each kind of leak; test_detectors.py runs them."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading

import pytest

from tests.support import leaks

leaks.GRACE = 0.1

# Ends with its standard input, so that it does not outlive these tests whatever happens.
PROGRAM = [sys.executable, "-c", "input()"]

kept: list[object] = []


def test_thread():
    """A thread that nobody tells to end."""
    threading.Thread(target=threading.Event().wait, name="forgotten", daemon=True).start()


def test_process():
    """A child."""
    kept.append(subprocess.Popen(PROGRAM, stdin=subprocess.PIPE))


def test_orphan():
    """A child's child, left alone by its parent."""
    reader, writer = os.pipe()
    start = f"import subprocess; subprocess.Popen({PROGRAM!r})"
    subprocess.run([sys.executable, "-c", start], stdin=reader, check=True)
    os.close(reader)
    kept.append(writer)


def test_zombie():
    """A child that has ended and was not waited for."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    kept.append(process)


def test_descriptor():
    """An open socket."""
    kept.append(socket.socket())


def test_socket_file(socket_path):
    """The file of a socket that is closed."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(socket_path)


@pytest.mark.anyio
async def test_task_of_anyio(anyio_backend_name):
    """A task that waits for ever."""
    if anyio_backend_name == "trio":
        pytest.skip("trio has no task without a nursery")
    kept.append(asyncio.create_task(asyncio.Event().wait()))


@pytest.mark.asyncio
async def test_task_of_asyncio():
    """The same, on a loop of pytest-asyncio."""
    kept.append(asyncio.create_task(asyncio.Event().wait()))


@pytest.mark.may_leave("descriptors", reason="shows the exception")
def test_permitted():
    """A leak that was announced."""
    kept.append(socket.socket())


def test_failing():
    """A leak of a test that fails anyway."""
    kept.append(subprocess.Popen(PROGRAM, stdin=subprocess.PIPE))
    pytest.fail("first")
