"""What a test may leave behind: nothing. Snapshots of what there is, and what is new since.

This file knows neither pytest nor aiomanager; the fixture that compares is in conftest.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import multiprocessing
import os
import re
import stat
import sys
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

# Seconds. Threads end after what they served, processes after their parent, and the last
# descriptor of a connection when the event loop gets round to it.
GRACE = 5.0
POLL_INTERVAL = 0.01

# In the environment of this process and so of its descendants: an orphan is no child any more.
SESSION_VARIABLE = "AIOMANAGER_TEST_SESSION"

# The thread cache of trio keeps a thread for ten seconds; one with work has another name.
_IDLE_TRIO_THREAD = re.compile(r"Trio thread \d+")

# Processes that were seen not to descend from this one, which does not change. To ask each of them
# again before and after each test would cost more than most tests.
_strangers: set[psutil.Process] = set()

Snapshot = Mapping[str, Mapping[Hashable, str]]


def threads() -> dict[Hashable, str]:
    """Every thread of this process, but for idle ones in trio's cache."""
    return {
        thread: f"{thread.name!r}{' (daemon)' if thread.daemon else ''}"
        for thread in threading.enumerate()
        if not _IDLE_TRIO_THREAD.fullmatch(thread.name)
    }


def processes() -> dict[Hashable, str]:
    """Every descendant of this process, zombies and orphans included."""
    multiprocessing.active_children()  # collects those that have ended
    found = set(psutil.Process().children(recursive=True)) | set(_orphans())
    helpers = _helpers_of_multiprocessing("_pid", "_forkserver_pid")
    return {process: _describe(process) for process in found if process.pid not in helpers}


def descriptors() -> dict[Hashable, str]:
    """Every open descriptor of this process: (number, what it is open on)."""
    folder = Path("/proc/self/fd" if sys.platform == "linux" else "/dev/fd")
    if not folder.is_dir():
        return {}
    helpers = _helpers_of_multiprocessing("_fd", "_forkserver_alive_fd")
    found: dict[Hashable, str] = {}
    for entry in list(folder.iterdir()):
        # The descriptor that listed the folder is closed by now.
        with contextlib.suppress(OSError):
            target = _target(entry)
            if int(entry.name) not in helpers:
                found[entry.name, target] = f"{entry.name} -> {target}"
    return found


def files(scratch: Path) -> dict[Hashable, str]:
    """Everything in the scratch folder, where sockets and temporary files of the tests land."""
    helpers = _helpers_of_multiprocessing("_forkserver_address")
    found: dict[Hashable, str] = {}
    for path in scratch.rglob("*"):
        name = str(path.relative_to(scratch))
        # multiprocessing keeps one folder for each process, and removes it at exit.
        is_kept = name.startswith("pymp-") and not path.is_socket()
        if not is_kept and str(path) not in helpers:
            found[path] = name
    return found


@contextlib.contextmanager
def unfinished_tasks(grace: float) -> Iterator[list[str]]:
    """Collect the tasks that asyncio's runners have to cancel when they close their loops.

    A task gets `grace` seconds to end by itself.
    """
    unfinished: list[str] = []
    runners: Any = asyncio.runners
    cancel_all_tasks = runners._cancel_all_tasks

    def watch(loop: asyncio.AbstractEventLoop) -> None:
        tasks = [task for task in asyncio.all_tasks(loop) if not _is_of_test_runner(task)]
        if tasks:
            _, pending = loop.run_until_complete(asyncio.wait(tasks, timeout=grace))
            unfinished.extend(repr(task) for task in pending)
        cancel_all_tasks(loop)

    runners._cancel_all_tasks = watch
    try:
        yield unfinished
    finally:
        runners._cancel_all_tasks = cancel_all_tasks


def snapshot(scratch: Path) -> Snapshot:
    """What there is now, by kind."""
    return {
        "threads": threads(),
        "processes": processes(),
        "descriptors": descriptors(),
        "files": files(scratch),
    }


def new_since(before: Snapshot, take: Callable[[], Snapshot]) -> dict[str, dict[Hashable, str]]:
    """What there is now and was not before, by kind; kinds without anything new are left out."""
    new = {
        kind: {key: text for key, text in now.items() if key not in before[kind]}
        for kind, now in take().items()
    }
    return {kind: found for kind, found in new.items() if found}


def leaked_since(
    before: Snapshot, take: Callable[[], Snapshot], grace: float
) -> dict[str, dict[Hashable, str]]:
    """What is new and stays for `grace` seconds, although the garbage was collected."""
    deadline = time.monotonic() + grace
    leaked = new_since(before, take)
    if leaked:
        gc.collect()
    while leaked and time.monotonic() < deadline:
        time.sleep(POLL_INTERVAL)
        leaked = new_since(before, take)
    return leaked


def kill(processes: Mapping[Hashable, str]) -> None:
    """Kill processes that a test left, so that they do not outlive the session."""
    for process in processes:
        assert isinstance(process, psutil.Process)
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _orphans() -> Iterator[psutil.Process]:
    session = os.environ.get(SESSION_VARIABLE)
    if session is None:
        return
    for process in psutil.process_iter():
        if process.pid == os.getpid() or process in _strangers:
            continue
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(SESSION_VARIABLE) == session:
                yield process
            else:
                _strangers.add(process)


def _helpers_of_multiprocessing(*attributes: str) -> set[object]:
    """Attributes of the two helper processes that multiprocessing starts once and keeps."""
    return {
        getattr(helper, attribute)
        for module, name in (
            ("multiprocessing.resource_tracker", "_resource_tracker"),
            ("multiprocessing.forkserver", "_forkserver"),
        )
        for helper in [getattr(sys.modules.get(module), name, None)]
        for attribute in attributes
        if hasattr(helper, attribute)
    }


def _describe(process: psutil.Process) -> str:
    try:
        return f"{process.pid}: {' '.join(process.cmdline())[:200] or process.name()}"
    except psutil.ZombieProcess:
        return f"{process.pid} (a zombie: ended, and nobody waited for it)"
    except psutil.Error:
        return f"{process.pid} (gone)"


def _target(entry: Path) -> str:
    if entry.is_symlink():
        return str(entry.readlink())
    return f"{stat.S_IFMT(os.fstat(int(entry.name)).st_mode):#o}"


def _is_of_test_runner(task: asyncio.Task[Any]) -> bool:
    """Whether this is the task in which anyio's plugin runs tests and fixtures."""
    name = getattr(task.get_coro(), "__qualname__", "")
    return name == "TestRunner._run_tests_and_fixtures"
