"""Faults, each by its name: hosts that are killed and come back, and a wire that misbehaves."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from tests.support.waiting import wait_until_sync

KEY = "a key of the tests, long enough"

_HOST = """
import json, sys
import aiomanager
settings = json.loads(sys.argv[1])
manager = aiomanager.QueueManager(sys.argv[2], **settings)
manager.serve_forever()
"""


def stop(process: subprocess.Popen[Any]) -> None:
    """SIGSTOP to a child, and wait until the last of its threads has stopped."""
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)


class RestartableHost:
    """A host of ours in a process of its own, which can be killed, stopped and started again."""

    def __init__(self, path: str, **settings: object) -> None:
        self.path = path
        self._settings = {"authkey": KEY, "queues": {"jobs": 0, "small": 1}, **settings}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start and wait until it listens."""
        import json

        self.process = subprocess.Popen(
            [sys.executable, "-c", _HOST, json.dumps(self._settings), self.path]
        )
        wait_until_sync(self._listens, timeout=20, description="the host listens")

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(self.path)
            except OSError:
                return False
        return True

    def kill(self) -> None:
        """End it without a word, as a crash does."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        """Stop it (SIGSTOP): its connections stay, and it says nothing."""
        assert self.process is not None
        stop(self.process)

    def thaw(self) -> None:
        """Let it go on after `freeze`."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Kill it and start it again at the same address."""
        self.kill()
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.thaw()
        self.kill()
        Path(self.path).unlink(missing_ok=True)


class Relay:
    """A wire between clients and a host on unix sockets, which can be made to misbehave.

    `swallow`: what the host answers is read and thrown away. `stall`: nothing is forwarded in
    either direction, and nobody is told. `cut`: every connection ends at once.
    """

    def __init__(self, path: str, target: str) -> None:
        self.path = path
        self._target = target
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(64)
        self._selector = selectors.DefaultSelector()
        self._partner: dict[socket.socket, socket.socket] = {}
        self._from_host: set[socket.socket] = set()
        self._lock = threading.RLock()
        self._ended = False
        self.swallow = False
        self.stalled = False
        self.swallowed = 0
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="relay")
        self._thread.start()

    def _run(self) -> None:
        while not self._ended:
            for key, _ in self._selector.select(0.02):
                with self._lock:
                    if key.fileobj is self._listener:
                        self._accept()
                    elif not self.stalled and key.fileobj in self._partner:
                        self._forward(key.fileobj)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        host = socket.socket(socket.AF_UNIX)
        try:
            host.connect(self._target)
        except OSError:
            client.close()
            host.close()
            return
        for sock, partner in ((client, host), (host, client)):
            self._partner[sock] = partner
            self._selector.register(sock, selectors.EVENT_READ)
        self._from_host.add(host)

    def _forward(self, sock: socket.socket) -> None:
        try:
            data = sock.recv(65536)
            if data and self.swallow and sock in self._from_host:
                self.swallowed += len(data)
                return
            if data:
                self._partner[sock].sendall(data)
                return
        except OSError:
            pass
        self._end(sock)

    def _end(self, sock: socket.socket) -> None:
        for end in (sock, self._partner.pop(sock)):
            self._partner.pop(end, None)
            self._from_host.discard(end)
            with contextlib.suppress(KeyError):
                self._selector.unregister(end)
            end.close()

    def cut(self) -> None:
        """End every connection."""
        with self._lock:
            for sock in list(self._partner):
                if sock in self._partner:
                    self._end(sock)

    def close(self) -> None:
        """End the relay."""
        self._ended = True
        self._thread.join()
        self.cut()  # those that came last, too
        self._selector.close()
        self._listener.close()
        Path(self.path).unlink()


@contextlib.contextmanager
def relay(path: str, target: str) -> Iterator[Relay]:
    """A relay for the time of a test."""
    wire = Relay(path, target)
    try:
        yield wire
    finally:
        wire.close()
