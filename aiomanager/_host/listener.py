"""A host's listening socket, bound so that no second host and no other user gets in its way."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path

from .._ground.addresses import ServerAddress, is_abstract, url_of
from .._ground.errors import ConfigurationError
from .private_folder import PrivateFolder, sweep

# The kernel cuts this to its own limit. The standard library's 16 (128 from Python 3.13 on) left
# clients of a storm of connections waiting for ever.
BACKLOG = 1024

# How long to wait for another host that starts in the same folder. It is there for milliseconds, or
# for the second in which it tries a socket that does not answer.
FOLDER_WAIT = 5.0

# As on Linux; not asked as checkers of types do, who then skip what is for other systems.
_SOCKETS_HAVE_MODES = "linux" in sys.platform
_masking = threading.Lock()


class Listener:
    """A socket that listens, and its file where it has one.

    Args:
        address: a (host, port) pair, a path, or None for a private address.

    Attributes:
        address: where clients find it.

    Raises:
        ConfigurationError: the address is taken by a live host, is a path to something that is no
            socket, or cannot be bound.
    """

    def __init__(self, address: ServerAddress | None) -> None:
        self._file: tuple[Path, os.stat_result] | None = None
        self._folder: PrivateFolder | None = None
        sweep()
        if address is None and sys.platform == "win32":
            address = ("127.0.0.1", 0)
        if address is None:
            self._folder = PrivateFolder()
            address = self._folder.socket
            try:
                self.sock = _bind_unix(address)
            except BaseException:
                self._folder.close()
                raise
            self.address: ServerAddress = address
            self._file = (Path(address), Path(address).stat())
        elif isinstance(address, str):
            self.sock = _listen_unix(address)
            self.address = address
            if not is_abstract(address):
                self._file = (Path(address), Path(address).stat())
        else:
            self.sock = _listen_tcp(*_pair(address))
            self.address = self.sock.getsockname()[:2]

    def close(self) -> None:
        """Listen no more and remove the file, unless another host has put its own there."""
        # First the file: as long as the socket listens, no other host takes it for stale.
        file, self._file = self._file, None
        if file is not None:
            path, made = file
            with contextlib.suppress(OSError):
                if os.path.samestat(path.stat(), made):
                    path.unlink()
        folder, self._folder = self._folder, None
        if folder is not None:
            folder.close()
        self.sock.close()


def _pair(address: object) -> tuple[str, int]:
    match address:
        case (str(host), int(port)) if 0 <= port <= 65535:
            return host, port
        case _:
            raise ConfigurationError(
                f"cannot listen on {address!r}: give a (host, port) pair or a path"
            )


def _listen_tcp(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as exc:
        hint = ""
        if exc.errno == errno.EADDRINUSE:
            hint = "; another program listens there, so stop it or choose another port (0: any)"
        # What `create_server` adds to the reason is the address once more.
        reason = str(exc) if exc.errno is None or exc.errno < 0 else os.strerror(exc.errno)
        raise ConfigurationError(
            f"cannot listen on {url_of((host, port))}: {reason}{hint}"
        ) from exc


def _listen_unix(path: str) -> socket.socket:
    if not hasattr(socket, "AF_UNIX"):
        raise ConfigurationError(
            f"{path!r} is not an address that a host can listen on here; use a (host, port) pair"
        )
    if is_abstract(path):
        return _bind_unix(path)
    # Another host must not see this socket before it listens, nor find the same stale one.
    with _alone_in(Path(path).parent):
        _clear_stale(path)
        return _bind_unix(path)


def _bind_unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    try:
        with _for_the_owner_alone(sock):
            sock.bind(path)
        sock.listen(BACKLOG)
    except (OSError, ValueError) as exc:
        sock.close()
        raise ConfigurationError(f"cannot listen on {url_of(path)}: {exc}") from exc
    return sock


@contextlib.contextmanager
def _for_the_owner_alone(sock: socket.socket) -> Generator[None]:
    """The file that the socket is bound to is never there with another mode, not even for a
    moment."""
    if _SOCKETS_HAVE_MODES:
        # It has the mode that the socket had before: see unix_bind_bsd in the kernel's sources.
        os.fchmod(sock.fileno(), 0o600)
        yield
        return
    # The mask is the whole process's: one at a time, so that each puts back what it has found.
    with _masking:
        mask = os.umask(0o177)
        try:
            yield
        finally:
            os.umask(mask)


@contextlib.contextmanager
def _alone_in(folder: Path) -> Generator[None]:
    """Be the only host that starts in a folder, by a lock on the folder itself: no file is left.

    Where folders cannot be locked, as on some file systems, and where somebody who is no host
    keeps the lock, go on without it.
    """
    try:
        import fcntl

        descriptor = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError, ValueError):
        yield
        return
    try:
        deadline = time.monotonic() + FOLDER_WAIT
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    break
                time.sleep(0.01)
            except OSError:
                break
        yield
    finally:
        with contextlib.suppress(OSError):
            # Closing is not enough if this process was forked meanwhile.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _clear_stale(path: str) -> None:
    """Remove the socket that a killed host left behind; refuse whatever else is there."""
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigurationError(f"{path} is there and is no socket; choose another path")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            Path(path).unlink(missing_ok=True)
            return
        except OSError as exc:
            raise ConfigurationError(f"{path} is there and cannot be tried: {exc}") from exc
    raise ConfigurationError(
        f"a live host listens on {url_of(path)} already; connect to it, or choose another path"
    )
