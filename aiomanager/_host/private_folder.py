"""The folder that a host has for a private socket, and the end of those that killed hosts left.

As long as a host lives it holds a lock on its folder, so one that can be locked is a dead host's. A
folder is only removed by who has locked it, and a new one is only used once it is locked and still
there, so hosts that start at the same time are not in each other's way.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from .._ground.errors import ConfigurationError

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows, where private addresses are ports
    fcntl = None

# What a socket's path may have in bytes, without the NUL at its end.
PATH_LIMIT = 107 if sys.platform == "linux" else 103

# As the folders of multiprocessing are called, so that who knows them knows these.
_PREFIX = "pymp-aiomanager-"
_SOCKET = "socket"
# Where a path is short on every system, for a temporary folder whose path is not.
_SHORT = ("/tmp", "/var/tmp")  # noqa: S108 - in it, a folder for this user alone is made
_ATTEMPTS = 100
_PAUSE = 0.01  # seconds; somebody who sweeps holds a lock for less


class PrivateFolder:
    """A folder that only this user can enter, with room for one socket.

    Attributes:
        socket: the path for the socket, which every system can take.

    Raises:
        ConfigurationError: there is no place for one.
    """

    def __init__(self) -> None:
        self._pid = os.getpid()
        problems: list[str] = []
        for base in _bases():
            if _length(base) > PATH_LIMIT:
                problems.append(f"{base} is too long for a socket's path")
                continue
            try:
                self._path, self._lock = _make(base)
            except OSError as exc:
                problems.append(str(exc))
                continue
            self.socket = os.path.join(self._path, _SOCKET)  # noqa: PTH118 - a str is wanted
            return
        raise ConfigurationError(
            f"there is no folder for a private socket: {'; '.join(problems)}. Set $TMPDIR to one "
            "with a short path, or give the host an address"
        )

    def close(self) -> None:
        """Remove it; the socket must be gone. A forked child leaves it to its parent."""
        if self._pid != os.getpid():
            return
        with contextlib.suppress(OSError):
            os.rmdir(self._path)  # noqa: PTH106
        lock, self._lock = self._lock, None
        if lock is not None:
            _unlock(lock)


def sweep() -> None:
    """Remove the folders that hosts of this user on this machine left behind when they were killed;
    nothing else, whatever it is called."""
    if "fcntl" not in globals():
        return
    for base in _bases():
        with contextlib.suppress(OSError), os.scandir(base) as entries:
            for entry in entries:
                if entry.name.startswith(_prefix()):
                    with contextlib.suppress(OSError):
                        _remove_if_dead(entry.path)
        if _length(base) <= PATH_LIMIT:
            return  # hosts have made theirs there


def _bases() -> Iterator[str]:
    with contextlib.suppress(OSError):  # there is none
        yield os.path.abspath(tempfile.gettempdir())  # noqa: PTH100
    yield from _SHORT


def _prefix() -> str:
    # Locks on network file systems may be known to one machine alone.
    machine = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:6]
    return f"{_PREFIX}{machine}-"


def _length(base: str) -> int:
    random = "_" * 8  # as `mkdtemp` makes them
    return len(os.fsencode(base)) + len(f"/{_prefix()}{random}/{_SOCKET}")


def _make(base: str) -> tuple[str, int | None]:
    """A new folder, and the descriptor that holds its lock; None where there are no locks."""
    for _ in range(_ATTEMPTS):
        path = tempfile.mkdtemp(prefix=_prefix(), dir=base)
        try:
            lock = _locked(path, patient=True)
        except FileNotFoundError:
            continue  # taken for a dead host's before it was locked
        except BlockingIOError:
            continue  # the same, by somebody who is slow to remove it
        except OSError:
            return path, None  # nobody else can lock it either
        return path, lock
    raise OSError(f"{base}: each folder that was made there was gone at once")


def _locked(path: str, *, patient: bool = False) -> int:
    """Lock a folder that is there; raises OSError where that cannot be done or somebody else has
    locked it, FileNotFoundError where it is gone."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        for attempt in range(_ATTEMPTS):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not patient or attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(_PAUSE)
        if not os.path.samestat(os.fstat(descriptor), os.lstat(path)):
            raise FileNotFoundError(path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _unlock(descriptor: int) -> None:
    with contextlib.suppress(OSError):
        # Closing is not enough if this process was forked meanwhile.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def _remove_if_dead(path: str) -> None:
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode) or stat.S_IMODE(found.st_mode) != 0o700:
        return
    if found.st_uid != os.geteuid():
        return
    lock = _locked(path)
    try:
        names = os.listdir(path)  # noqa: PTH208
        if names == [_SOCKET]:
            file = os.path.join(path, _SOCKET)  # noqa: PTH118
            if not stat.S_ISSOCK(os.lstat(file).st_mode) or _answers(file):
                return
            os.unlink(file)  # noqa: PTH108
        os.rmdir(path)  # noqa: PTH106 - which fails where anything else is in it
    finally:
        _unlock(lock)


def _answers(path: str) -> bool:
    """Whether somebody listens, or may: only a refusal shows that nobody does."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return False
        except OSError:
            return True
    return True
