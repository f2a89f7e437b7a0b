"""Contract: `host()` finds a Python for its process, also where the program is none by itself, and
never starts the program once more."""

from __future__ import annotations

import multiprocessing
import os
import shlex
import subprocess
import sys
import textwrap
from multiprocessing import spawn
from pathlib import Path
from typing import Any

import pytest

import aiomanager
from aiomanager import ConfigurationError, ConnectionLostError

pytestmark = [
    pytest.mark.every_python,
    pytest.mark.skipif(sys.platform == "win32", reason="programs are shell scripts here"),
]

REAL = sys.executable


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop: what is started is the same for each."""
    return "asyncio"


@pytest.fixture(autouse=True)
def none_but_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No Python is to be found by chance."""
    for name in ("exec_prefix", "base_exec_prefix"):
        monkeypatch.setattr(sys, name, str(tmp_path / "nowhere"))
    set_executable(monkeypatch, "/nowhere/python")


def set_executable(monkeypatch: pytest.MonkeyPatch, path: Any, told: Any = ...) -> None:
    """What `sys` and `multiprocessing` call the Python of this process."""
    monkeypatch.setattr(sys, "executable", path)
    monkeypatch.setattr(sys, "_base_executable", path)
    told = path if told is ... else told
    monkeypatch.setattr(spawn, "_python_exe", os.fsencode(told) if told else told)


def program(path: Path, does: str) -> Path:
    """A program that notes each time that it is started."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\necho started >> {shlex.quote(str(path))}.log\n{does}\n")
    path.chmod(0o755)
    return path


def times_started(path: Path) -> int:
    """How often a program was started."""
    log = path.with_name(path.name + ".log")
    return log.read_text().count("started") if log.exists() else 0


async def works() -> None:
    """Start a host and use it."""
    async with aiomanager.host({"jobs": 0}) as manager:
        await manager.queue("jobs").put(1)
        assert await manager.queue("jobs").get() == 1


@pytest.mark.anyio
@pytest.mark.parametrize("executable", ["app", "", None, "/nowhere/python", "/opt/my"])
async def test_a_process_that_is_no_python(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, executable: Any
):
    """A web server with a Python in it, say, which calls itself the executable, or nothing at all,
    or the first half of a path: the Python of its libraries is found, and it is not started."""
    app = program(tmp_path / "app", "exit 1")
    set_executable(monkeypatch, str(app) if executable == "app" else executable)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").symlink_to(REAL)
    monkeypatch.setattr(sys, "exec_prefix", str(tmp_path))
    await works()
    assert not times_started(app)


@pytest.mark.anyio
@pytest.mark.parametrize("frozen", [False, True])
async def test_the_python_that_multiprocessing_was_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, frozen: bool
):
    """It comes first, whatever its name and its folder are called."""
    app = program(tmp_path / "app", "exit 1")
    told = program(tmp_path / "my tools" / "interpreter", f'exec {REAL} "$@"')
    monkeypatch.setattr(sys, "frozen", frozen, raising=False)
    monkeypatch.setattr(sys, "executable", str(app))
    multiprocessing.set_executable(str(told))
    await works()
    assert (times_started(app), times_started(told)) == (0, 1)


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["app", "python3"])
async def test_a_frozen_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str):
    """It is its own executable, and so is what it says of its base: the error says what to do."""
    app = program(tmp_path / name, "exit 1")
    set_executable(monkeypatch, str(app))
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(ConfigurationError, match=r"set_executable\(.*freeze_support"):
        await works()
    assert not times_started(app)


@pytest.mark.anyio
async def test_a_program_that_multiprocessing_took_for_a_python(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """Where it was loaded before the program corrected `sys.executable`."""
    app = program(tmp_path / "server", "exit 1")
    set_executable(monkeypatch, REAL, told=str(app))
    monkeypatch.setattr(sys, "argv", [str(app)])
    await works()
    assert not times_started(app)


@pytest.mark.anyio
@pytest.mark.parametrize("does", ["exit 3", "echo hello", "echo '{}'", "echo 1", "exec sleep 0.01"])
async def test_what_is_called_python_and_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, does: str
):
    """It is asked once, and the next is tried; the error names all of them."""
    fake = program(tmp_path / "bin" / "python3", does)
    monkeypatch.setattr(sys, "exec_prefix", str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"/nowhere/python \(No such.*bin/python3 \("):
        await works()
    assert times_started(fake) == 1
    monkeypatch.setattr(sys, "_base_executable", REAL)
    await works()


@pytest.mark.anyio
async def test_a_python_that_cannot_run_a_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """It is reported with its exit code."""
    path = program(tmp_path / "python3", "echo '{\"python\": true}'; exit 7")
    set_executable(monkeypatch, str(path))
    with pytest.raises(ConnectionLostError, match="did not start; it ended with code 7"):
        await works()


_PROGRAM = """
import asyncio, os, sys
import aiomanager
sys.executable = sys.argv[1]

async def main():
    async with aiomanager.host({"jobs": 0}):
        print("works")

asyncio.run(main())
"""


def test_a_program_that_poses_as_a_python(tmp_path: Path):
    """It is started once more at most, and says why it will not go on like that."""
    script = tmp_path / "main.py"
    script.write_text(textwrap.dedent(_PROGRAM))
    posing = tmp_path / "python3"
    program(posing, f"exec {REAL} {shlex.quote(str(script))} {shlex.quote(str(posing))}")
    code = f"from multiprocessing import spawn; spawn.set_executable({str(posing)!r});"
    run = subprocess.run(
        [REAL, "-c", f"{code} import runpy; runpy.run_path({str(script)!r})", str(posing)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert times_started(posing) == 1
    assert "started in place of a Python" in run.stderr
    assert run.stdout == "works\n"
