"""Options of sockets, for both sides."""

from __future__ import annotations

import contextlib
import socket

# What a unix socket may hold on its way, where the system lets it. With what the system gives it by
# itself a large message takes many turns of both sides. TCP finds its own measure.
UNIX_BUFFER = 512 * 1024


def configure(sock: socket.socket, dead_after: float) -> None:
    """Make a TCP connection answer at once, and find out when its peer is gone without a word;
    make a unix socket wider.

    Args:
        dead_after: seconds without a sign of life.
    """
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        widen(sock)
        return
    # The first probe after two fifths of the time, then three; and as long for what was sent and
    # not acknowledged. Not every platform has every option.
    options = [
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_NODELAY", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", max(1, round(dead_after * 0.4))),
        (socket.IPPROTO_TCP, "TCP_KEEPALIVE", max(1, round(dead_after * 0.4))),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", max(1, round(dead_after * 0.2))),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", 3),
        (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", max(1, round(dead_after * 1000))),
    ]
    for level, name, value in options:
        if hasattr(socket, name):
            with contextlib.suppress(OSError):
                sock.setsockopt(level, getattr(socket, name), value)


def widen(sock: socket.socket) -> None:
    """Let a unix socket take larger messages at once."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNIX_BUFFER)


def raise_descriptor_limit() -> None:
    """Let this process have as many descriptors as it may: a host has one for each connection."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
