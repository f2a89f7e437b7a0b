"""What `host()` starts: a host that ends with its owner.

Its settings come as one line of JSON over standard input, so that the key stands on no command
line and in no environment; it answers with one line on standard output once it can be connected
to. It serves until its standard input ends, which also happens where the owner is killed. A
process that the owner forked may hold that pipe open for longer, so it looks for its parent too.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import sys
import threading
from typing import Any

from .._ground.errors import AioManagerError
from .._ground.sockets import raise_descriptor_limit
from .lifecycle import EarlyStop, stop_with_process, stopped_by_signals
from .server import QueueServer
from .settings import HostRegistry, HostSettings


def main() -> None:
    """Serve as the settings on standard input say.

    They are the address (null for a private one), the authkey in base64, and whatever
    `HostSettings` has.
    """
    # Ctrl-C reaches the whole group of processes; the owner decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise_descriptor_limit()
    parent = os.getppid()
    settings = sys.stdin.buffer.readline()
    with contextlib.ExitStack() as stack:
        stop = EarlyStop()
        stack.enter_context(stopped_by_signals(stop))
        try:
            server = _server(json.loads(settings))
        except (AioManagerError, KeyError, TypeError, ValueError) as exc:
            _answer({"error": str(exc)})
            return
        stack.callback(server.close)
        _answer({"address": server.address})
        threading.Thread(target=_stop_at_end_of_input, args=(server,), daemon=True).start()
        stop_with_process(server.reactor, server.stop, parent)
        stop.attach(server.stop)
        server.serve_forever()


def _server(settings: dict[str, Any]) -> QueueServer:
    address = settings.pop("address")
    authkey = base64.b64decode(settings.pop("authkey"))
    return QueueServer(
        HostRegistry({}, HostSettings(**settings)),
        tuple(address) if isinstance(address, list) else address,
        authkey,
    )


def _answer(message: dict[str, object]) -> None:
    # An owner that is gone has closed this pipe as well; what serves will notice its end.
    with contextlib.suppress(OSError):
        os.write(sys.stdout.fileno(), json.dumps(message).encode() + b"\n")


def _stop_at_end_of_input(server: QueueServer) -> None:
    # Not through the buffered reader: a thread that holds its lock would fail the interpreter's
    # exit.
    while os.read(sys.stdin.fileno(), 4096):
        pass
    server.stop()


if __name__ == "__main__":
    main()
