"""The listening socket of a host: bound so that no second host and no other user gets in its way."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import sys
from multiprocessing import connection

from ._errors import ConfigurationError

Address = tuple[str, int] | str

# The kernel cuts this to its own limit. The standard library's 16 (128 from Python 3.13 on) left
# clients of a storm of connections waiting for ever.
BACKLOG = 1024


def listen(address: Address | None) -> tuple[socket.socket, Address]:
    """Bind and listen; return the socket and the address as clients write it.

    Raises:
        ConfigurationError: the address is taken by a live host, is a path to something that is no
            socket, or cannot be bound.
    """
    if address is None:
        if sys.platform == "win32":
            address = ("127.0.0.1", 0)
        else:
            address = connection.arbitrary_address("AF_UNIX")  # in a folder of this user's only
    if isinstance(address, str):
        return _listen_unix(address), address
    return _listen_tcp(*address)


def describe(address: Address) -> str:
    """The address as a URL, for messages and command lines."""
    if isinstance(address, str):
        return f"unix://{address}"
    host, port = address[:2]
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


def unlink(address: Address) -> None:
    """Remove the socket's file, where it has one."""
    if isinstance(address, str):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(address)


def _listen_tcp(host: str, port: int) -> tuple[socket.socket, Address]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        sock = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as exc:
        hint = ""
        if isinstance(exc, OSError) and exc.errno == errno.EADDRINUSE:
            hint = "; another program listens there, so stop it or choose another port (0: any)"
        raise ConfigurationError(f"cannot listen on {describe((host, port))}: {exc}{hint}") from exc
    return sock, sock.getsockname()[:2]


def _listen_unix(path: str) -> socket.socket:
    if not hasattr(socket, "AF_UNIX"):
        raise ConfigurationError(
            f"{path!r} is not an address that a host can listen on here; use a (host, port) pair"
        )
    _clear_stale(path)
    sock = socket.socket(socket.AF_UNIX)
    # The file must never be there with another mode, not even for a moment. The mask is the whole
    # process's, which at this point of a host's life has nothing else to create.
    mask = os.umask(0o177)
    try:
        sock.bind(path)
    except OSError as exc:
        sock.close()
        raise ConfigurationError(f"cannot listen on {describe(path)}: {exc}") from exc
    finally:
        os.umask(mask)
    sock.listen(BACKLOG)
    return sock


def _clear_stale(path: str) -> None:
    """Remove the socket that a killed host left behind; refuse whatever else is there."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigurationError(f"{path} is there and is no socket; choose another path")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            unlink(path)
            return
        except OSError as exc:
            raise ConfigurationError(f"{path} is there and cannot be tried: {exc}") from exc
    raise ConfigurationError(
        f"a live host listens on {describe(path)} already; connect to it, or choose another path"
    )
